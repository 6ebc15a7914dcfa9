"""Where the real files of another emitter lie; they are not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "reference_runs"
V1 = (
    "bench_runs_cert_v0.1_seed42_per_layer_run.jsonl",
    "bench_runs_cert_v0.1_seed42_probe_r32_run.jsonl",
    "bench_runs_mini_validation_001_probe_r16_run.jsonl",
    "bench_runs_multiseed_seed123_probe_r32_run.jsonl",
    "bench_runs_quality_gate_test_probe_r16_run.jsonl",
    "outputs_run.jsonl",
    "tests_fixtures_vnext_minimal.jsonl",
)
FOREIGN = ("examples_telemetry_callback_output.jsonl", "examples_telemetry_training_log.jsonl")
needs_reference_runs = pytest.mark.skipif(not FOLDER.is_dir(), reason="the reference runs are not here")
