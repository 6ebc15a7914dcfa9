"""Audit an adapter, compress it by several rules, and evaluate each again: what a smaller rank really costs.

    python examples/audit_compress_evaluate.py [FOLDER]

FOLDER (default: gradience-demo) is what `gradience demo` writes; it is made when it is not there. Each compressed
adapter goes into it, is loaded by PEFT onto the same base, and answers the same held-out questions. Nothing is
downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gradience_train.offline import offline_and_quiet

offline_and_quiet()

from peft import PeftModel  # noqa: E402 - taken off the network first
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, Trainer, TrainingArguments  # noqa: E402

from gradience import audit_adapter, compress_adapter  # noqa: E402
from gradience_train.demo import DEFAULT_SEED, run_demo  # noqa: E402
from gradience_train.embedded import QA  # noqa: E402
from gradience_train.tasks.scoring import keep_best_token  # noqa: E402
from gradience_train.tiny_models import one_thread  # noqa: E402

RULES: dict[str, str | int] = {
    "energy@0.99": "energy@0.99",
    "energy@0.95": "energy@0.95",
    "energy@0.90": "energy@0.90",
    "rank 2": 2,
    "rank 1": 1,
}


def evaluate(demo: Path, adapter: Path | None) -> dict[str, dict[str, float]]:
    """Loss and accuracy on the two held-out splits of the demo's task, by split.

    Args:
        demo: The folder of the demo, with its base model.
        adapter: The adapter to load onto it; None for the base alone.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(demo / "base")
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    splits = QA.splits(DEFAULT_SEED)
    tokenizer = AutoTokenizer.from_pretrained(demo / "base")
    arguments = TrainingArguments(
        output_dir=str(demo / "evaluation"), per_device_eval_batch_size=128, use_cpu=True, report_to="none",
        label_names=["labels"], dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=arguments, compute_metrics=QA.score, preprocess_logits_for_metrics=keep_best_token
    )
    trainer.remove_callback(PrinterCallback)
    with one_thread():
        return {
            name: trainer.evaluate(QA.rows(examples, tokenizer), metric_key_prefix=name)
            for name, examples in (("val", splits.val), ("test", splits.test))
        }


def row(name: str, params: int, error: float | None, scores: dict[str, dict[str, float]]) -> str:
    """One line of the table."""
    lost = "" if error is None else f"{error:.1%}"
    figures = [scores[split][f"{split}_{metric}"] for split in ("val", "test") for metric in ("loss", "accuracy")]
    return f"| {name} | {params:,} | {lost} | " + " | ".join(f"{value:.3f}" for value in figures) + " |"


def main() -> None:
    """Train when needed, audit, compress, evaluate, and print one table."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "gradience-demo")
    if not (demo / "peft").is_dir():
        run_demo(demo)
    original = demo / "peft"
    audit = audit_adapter(original, demo / "base")
    print(f"{len(audit.rows)} modules, utilization {audit.summary['utilization_mean']:.0%} of rank {audit.r}\n")
    print("| adapter | parameters | relative error | val loss | val accuracy | test loss | test accuracy |")
    print("|---|---|---|---|---|---|---|")
    print(row("none: the base alone", 0, None, evaluate(demo, None)))
    print(row(f"as trained, r {audit.r}", audit.summary["total_lora_params"], None, evaluate(demo, original)))
    for name, rule in RULES.items():
        smaller = demo / f"compressed-{name.replace(' ', '-')}"
        done = compress_adapter(original, smaller, rule=rule)
        print(row(name, done.params_after, done.total_measured, evaluate(demo, smaller)))


if __name__ == "__main__":
    main()
