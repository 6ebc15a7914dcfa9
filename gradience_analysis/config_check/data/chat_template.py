"""Chat template: whether conversations can be rendered, and whether texts end with the end-of-sequence token.

Measured: for data of the layout `messages` or `conversations`, whether the tokenizer of `--model` has a chat template;
for plain texts, the share that does not end with the tokenizer's end-of-sequence string, when the tokenizer does not
append it by itself. Without an end token a model does not learn to stop. Not measured without `--model`, and not for
classification. Several trainers append the token themselves, so the second is a weak hint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.base_model.facts import TokenizerFacts
from gradience_analysis.config_check.data.facts import SplitFacts
from gradience_analysis.config_check.data.sentences import NO_TRAIN, extent, percent, train_of
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy, Threshold
from gradience_schema import Severity

CODE = "chat_template_missing"
CODES: Mapping[str, str] = {CODE: "The data are conversations without a chat template, or most texts do not end."}
COVERS: Mapping[str, frozenset[str]] = {}
TEMPLATE, ENDING = "chat_template", "unended_share"
_CHATS = frozenset({"messages", "conversations"})


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Whether a chat template is there for conversations (1 or 0), and the share of texts that do not end, 0..1."""
    train = train_of(subject)
    if train is None:
        return (
            Measurement(TEMPLATE, None, "templates", reason=NO_TRAIN),
            Measurement(ENDING, None, "ratio", reason=NO_TRAIN),
        )
    tokenizer = subject.base_model.tokenizer if subject.base_model else None
    return (_template(train, tokenizer), _ending(train, tokenizer))


def _template(train: SplitFacts, tokenizer: TokenizerFacts | None) -> Measurement:
    if train.layout not in _CHATS:
        return Measurement(TEMPLATE, None, "templates", reason="The data are no conversations.")
    if tokenizer is None:
        return Measurement(TEMPLATE, None, "templates", reason="No tokenizer is known: give its folder with --model.")
    details = {"layout": train.layout, "examples": train.examples}
    return Measurement(TEMPLATE, int(tokenizer.chat_template), "templates", "the tokenizer's files", details=details)


def _ending(train: SplitFacts, tokenizer: TokenizerFacts | None) -> Measurement:
    if tokenizer is None or tokenizer.eos is None:
        reason = "No end-of-sequence token is known: give the tokenizer's folder with --model."
        return Measurement(ENDING, None, "ratio", reason=reason)
    if tokenizer.appends_eos:
        return Measurement(ENDING, None, "ratio", reason="The tokenizer appends the end-of-sequence token by itself.")
    if train.ends is None or not train.texts or train.layout != "text":
        return Measurement(ENDING, None, "ratio", reason="The data are no plain texts.")
    missing = train.texts - train.ends
    details = {"texts": train.texts, "without": missing, "eos": tokenizer.eos, "extent": extent(train)}
    return Measurement(ENDING, missing / train.texts, "ratio", train.path, details=details)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning for conversations without a template, and for more texts without an end than the limit."""
    template, ending = measurements
    limit = policy["chat_template.unended_share"]
    found: list[Finding] = []
    if template.value == 0:
        found.append(_no_template(template))
    if ending.value is not None and float(ending.value) > limit.value:
        found.append(_unended(ending, limit))
    return found


def _no_template(template: Measurement) -> Finding:
    details = template.details
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        message=f"The {details['examples']:,} examples are conversations ({details['layout']}), "
        "and the tokenizer has no chat template.",
        evidence=dict(details),
        advice="Set the chat template that the model is to be used with.",
        confidence=0.9,
        basis="the tokenizer's files",
        caveat="A training script that sets a template makes this needless.",
        rule="D10",
    )


def _unended(ending: Measurement, limit: Threshold) -> Finding:
    details = ending.details
    missing, texts = details["without"], details["texts"]
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        message=f"{missing:,} of {texts:,} texts ({percent(missing, texts)}) do not end with the end token "
        f"{details['eos']!r}, which the tokenizer does not append.",
        evidence=dict(details) | {"share": ending.value, "threshold": limit.value},
        advice="Append the end-of-sequence token to each text.",
        confidence=0.4,
        basis=f"the ends of the texts in {details['extent']}; the threshold is {limit.standing}",
        caveat="Several trainers append it themselves (TRL's SFTTrainer does), and packing may too.",
        rule="D10",
    )
