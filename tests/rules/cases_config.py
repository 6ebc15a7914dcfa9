"""Cases of the rules about the configuration: a file, through the whole pre-flight."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from gradience_analysis.model import Finding
from tests.analysis.config_check.configs import LEFT_OUT, findings, flat
from tests.rules.case import Case, Fixture


def of(**changes: Any) -> Fixture:
    """A fixture of the sound configuration with these values over its own."""

    def fixture(folder: Path) -> Collection[Finding]:
        return findings(folder, flat(**changes))

    return fixture


CASES: dict[str, Case] = {
    "C01": Case(trips=of(lora_r="16"), passes=of(lora_r=1024, lora_alpha=1024)),
    "C02": Case(trips=of(lora_alpha=-32), passes=of(lora_alpha=128)),
    "C03": Case(trips=of(learning_rate=0.02), passes=of(learning_rate=0.01)),
    "C04": Case(trips=of(per_device_train_batch_size=0), passes=of(per_device_train_batch_size=128)),
    "C05": Case(trips=of(max_seq_length=32_769), passes=of(max_seq_length=32_768)),
    "C06": Case(trips=of(lora_dropout=1), passes=of(lora_dropout=0)),
    "C07": Case(trips=of(max_steps=-1, num_train_epochs=0), passes=of(max_steps=-1, num_train_epochs=0.1)),
    "C08": Case(trips=of(fp16=True), passes=of(fp16=False)),
    "C09": Case(trips=of(lerning_rate=1e-4), passes=of(my_learning_rate_note="as in the paper")),
    "C10": Case(trips=of(warmup_steps=500), passes=of(warmup_steps=499, eval_steps=500, save_steps=500)),
    "V02": Case(trips=of(learning_rate=None), passes=of(max_steps=None, num_train_epochs=3, save_total_limit=None)),
    "V09": Case(trips=of(seed=LEFT_OUT), passes=of(seed=0)),
}
