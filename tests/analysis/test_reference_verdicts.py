"""The real runs of another emitter: what a person reading the curves says of each, and that a report says so."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.policy import load_policy
from gradience_analysis.reports.monitor import monitor_report
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.reference import FOLDER, V1, needs_reference_runs

pytestmark = needs_reference_runs
LOUD = {Severity.WARNING, Severity.ERROR, Severity.CRITICAL}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a person sees.

    Attributes:
        words: The judgement, with the numbers it rests on.
        verdict: What the verdict line has to say.
        loud: Codes of findings from warning up that the person agrees with.
        unmeasured: Measurements that the file is too short or too bare for.
    """

    words: str
    verdict: tuple[str, ...]
    loud: frozenset[str] = frozenset()
    unmeasured: frozenset[str] = frozenset()


READINGS = {
    "bench_runs_cert_v0.1_seed42_per_layer_run.jsonl": Reading(
        "Sound. The loss falls from 0.70 to about 0.4 within 200 of 500 steps and stays there with the noise of "
        "batches of 8; the held-out loss falls with it, 0.57 to 0.387, best at the last evaluation; accuracy 0.72 to "
        "0.83. The linear schedule runs out. No gap: 0.95.",
        ("Ran to its end", "0.3867", "gap 0.952"),
    ),
    "bench_runs_cert_v0.1_seed42_probe_r32_run.jsonl": Reading(
        "Sound, and the same curve at rank 32: held-out loss 0.52 to 0.382, best at the end, accuracy 0.81 to 0.824.",
        ("Ran to its end", "0.3821", "gap 0.954"),
    ),
    "bench_runs_mini_validation_001_probe_r16_run.jsonl": Reading(
        "Sound but short: 0.69 to 0.57 in 200 steps, held-out loss still falling at every evaluation (0.675 to 0.538), "
        "the gradient norm rising as learning sets in. More steps would help; nothing is wrong.",
        ("Ran to its end", "0.5381"),
    ),
    "bench_runs_multiseed_seed123_probe_r32_run.jsonl": Reading(
        "Sound: flat at 0.69 for 70 steps, then learning sets in, 0.70 to 0.44; held-out loss 0.675 to 0.457, accuracy "
        "0.80.",
        ("Ran to its end", "0.4569"),
    ),
    "bench_runs_quality_gate_test_probe_r16_run.jsonl": Reading(
        "Nothing can be said: ten steps, one logged loss of 0.71, one evaluation at chance (0.48). It ran as it was "
        "told to.",
        ("Ran to its end",),
        unmeasured=frozenset({"loss_kept", "loss_ratio"}),
    ),
    "outputs_run.jsonl": Reading(
        "Sound as far as it goes: 15 steps of batch 2, 0.83 to about 0.2; nothing was held out, so nothing is known of "
        "the gap; the audit found no adapter to look at.",
        ("Ran to its end", "gap not measured"),
        unmeasured=frozenset({"generalization_gap"}),
    ),
    "tests_fixtures_vnext_minimal.jsonl": Reading(
        "Invented, one step: test perplexity 3 over train perplexity 2 is 1.5, which is the limit and not above it.",
        ("Ran to its end", "gap 1.5"),
    ),
}


@pytest.mark.parametrize("name", V1)
def test_a_person_agrees_with_the_verdict(name: str) -> None:
    """Given a real run and a person's reading of it, when judged, then the verdict says that, and no alarm is false."""
    reading = READINGS[name]
    run = load_run(FOLDER / name)
    diagnosis = diagnose(run, DIAGNOSTICS, load_policy())
    loud = {finding.code for finding in diagnosis.findings if finding.severity in LOUD}
    assert loud == reading.loud, reading.words
    verdict = monitor_report([run], load_policy()).verdict
    assert all(word in verdict.text for word in reading.verdict), (verdict.text, reading.words)
    absent = {item.name for item in diagnosis.measurements if item.value is None}
    assert reading.unmeasured <= absent


def test_every_run_has_its_reading() -> None:
    """Given the files, when the readings are counted, then each file has one."""
    assert set(READINGS) == set(V1)
