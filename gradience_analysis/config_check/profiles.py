"""Which kind of task the usual data sets are, so that their name alone says the profile."""

from __future__ import annotations

from gradience_schema import TaskProfile

_NAMES = {
    TaskProfile.EASY_CLASSIFICATION: frozenset(
        {"ag_news", "cola", "dbpedia", "emotion", "imdb", "mnli", "mrpc", "qnli", "qqp", "rte", "seqcls_glue"}
        | {"sentiment", "sst2", "sst_2", "trec", "wnli", "yelp", "classification"}
    ),
    TaskProfile.HARD_REASONING: frozenset(
        {"aime", "arc_challenge", "bbh", "gpqa", "gsm8k", "gsm8k_causal_lm", "hendrycks_math", "human_eval"}
        | {"humaneval", "math", "mbpp", "metamathqa", "reasoning"}
    ),
    TaskProfile.GENERATION: frozenset({"cnn_dailymail", "dolly", "samsum", "summarization", "ultrachat", "xsum"}),
}


def profile_of(task: object) -> str | None:
    """The profile of a task that goes by a well-known name, or by that of a profile; None for any other."""
    if not isinstance(task, str):
        return None
    name = task.lower().rpartition("/")[2].replace("-", "_")
    if name in {str(profile) for profile in TaskProfile if profile is not TaskProfile.UNKNOWN}:
        return name
    return next((str(profile) for profile, names in _NAMES.items() if name in names), None)
