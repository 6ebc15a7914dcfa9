"""Values of every wrong type and size in the places that the diagnostics of steps read: none makes them fail."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.diagnostics import (
    declared_steps,
    gradient_norm,
    guard_activity,
    learning_rate,
    masked_labels,
    nonfinite_values,
    recorded_alerts,
    resume,
)
from gradience_analysis.diagnostics.base import Diagnostic, diagnose
from gradience_analysis.errors import GradienceError
from gradience_analysis.telemetry.assemble import load_run
from tests.analysis.diagnostics.steps import POLICY
from tests.analysis.records import record, write

OF_STEPS: tuple[Diagnostic, ...] = (
    nonfinite_values,
    masked_labels,
    gradient_norm,
    learning_rate,
    resume,
    guard_activity,
    declared_steps,
    recorded_alerts,
)
ODD = st.sampled_from(
    [
        *(None, True, "x", "1.5", "rollback", [], {}, [1], [None], [1e-3, 1e-4], {"a": 1}),
        *(math.nan, math.inf, -math.inf, 0, 0.0, -1, 0.5, 1e308, 1e-320, 2**53, 10**18, [math.nan]),
    ]
)


def perhaps(value: Any) -> st.SearchStrategy[Any]:
    """The value, most often; else an odd one."""
    return st.one_of(st.just(value), st.just(value), st.just(value), ODD)


NAMES = ("linear", "cosine", "polynomial", "inverse_sqrt", "cosine_with_restarts", "cosine_with_min_lr")
CONFIG = st.fixed_dictionaries(
    {
        "optimizer": perhaps({"lr": 1e-3, "extras": {"group_lrs": [1e-3]}}),
        "training": st.fixed_dictionaries(
            {
                "lr_scheduler": st.sampled_from(NAMES).flatmap(perhaps),
                "warmup_steps": perhaps(3),
                "dtype": st.sampled_from(["float16", "float32"]).flatmap(perhaps),
                "extras": perhaps({}).flatmap(
                    lambda extras: ODD.map(lambda odd: extras or {"lr_scheduler_kwargs": odd})
                ),
                **{
                    name: perhaps(value)
                    for name, value in (
                        *(("max_steps", 40), ("max_grad_norm", 1.0), ("epochs", 2.0), ("batch_size", 4)),
                        *(("gradient_accumulation", 1), ("world_size", 1), ("num_train_examples", 80)),
                    )
                },
            }
        ),
    }
)
FIELDS = {"loss": 1.0, "lr": 1e-3, "grad_norm": 1.0, "nonfinite_loss_steps": 0, "nonfinite_grad_steps": 0, "epoch": 0.5}
STEP = st.fixed_dictionaries({}, optional={name: perhaps(value) for name, value in FIELDS.items()})
GUARD = st.fixed_dictionaries(
    {name: perhaps(value) for name, value in (("action", "rollback"), ("n_rollbacks", 1), ("restored_step", 3))}
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CONFIG, st.lists(STEP, max_size=14), st.lists(GUARD, max_size=2)), min_size=1, max_size=3))
def test_odd_values_give_findings_and_never_an_error(segments: list[Any]) -> None:
    """Given anything in any field, when diagnosed, then each quantity has a value or a reason, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        for index, (config, steps, guarded) in enumerate(segments):
            meta = {"segment": index, "resume_step": 5 * index} if index else {}
            rows = [record("run_start", config=config, meta=meta)]
            rows += [record("train_step", 5 * index + 1 + at, **fields) for at, fields in enumerate(steps)]
            rows += [record("metrics", 90, kind="guard", metrics=metrics) for metrics in guarded]
            rows += [
                record("alert", 91, severity="error", code="GUARD_ABORT", message="m", context=metrics)
                for metrics in guarded
            ]
            write(Path(folder) / (f"run.{index}.jsonl" if index else "run.jsonl"), rows)
        try:
            run = load_run(folder)
        except GradienceError:
            return
        said = diagnose(run, OF_STEPS, POLICY)
    for item in said.measurements:
        assert (item.value is None) == bool(item.reason), item
    for finding in said.findings:
        assert finding.message.endswith(".")
        assert 0 < finding.confidence <= 1
    json.dumps([one.to_dict() for one in (*said.measurements, *said.findings)])
