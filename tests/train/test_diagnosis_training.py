"""What the diagnosis benchmark plants is what it says: noise, garbled batches, checkpoints, schedules, spectra."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from benchmarks.diagnosis.audit import audit
from benchmarks.diagnosis.checkpoints import newest, run_ahead, strip_states
from benchmarks.diagnosis.conditions import CELLS, condition_of
from benchmarks.diagnosis.faulty import OtherSchedule, ZeroLoss, garbled, mislabelled
from benchmarks.diagnosis.jobs import answer_of, row_by_row, with_random_answers
from benchmarks.diagnosis.plans import PLANS
from gradience_train.embedded import QA, SENTIMENT
from gradience_train.tasks.encoding import Row
from gradience_train.tiny_models import one_thread, word_tokenizer

pytestmark = pytest.mark.hf


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Compute on one thread: on a busy machine, two wait for each other."""
    with one_thread():
        yield


@pytest.fixture(params=[QA, SENTIMENT], ids=["qa", "sentiment"])
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Rows of a causal LM, and of a classifier."""
    source = request.param
    made: list[Row] = source.rows(source.splits(1).train, word_tokenizer(source.texts.vocabulary()))
    return made


def test_every_plan_exists_and_is_used() -> None:
    """Given all runs, when their plans are collected, then each is there, and none is there for nothing."""
    assert {condition_of(cell).recipe_of(cell).plan for cell in CELLS} == set(PLANS)


def test_noise_changes_answers_and_nothing_else(rows: list[Row]) -> None:
    """Given rows, when half get a random answer, then at most half differ, in the answer alone."""
    noisy = with_random_answers(rows, 0.5, seed=1)
    changed = [(old, new) for old, new in zip(rows, noisy, strict=True) if old != new]
    chance = 0.5 if isinstance(rows[0]["labels"], int) else 1 / 32  # of drawing the answer that was there
    assert len(changed) / len(rows) == pytest.approx(0.5 * (1 - chance), abs=0.06)
    for old, new in changed:
        assert answer_of(new) in {answer_of(row) for row in rows}
        assert new["attention_mask"] == old["attention_mask"]
        assert sum(a != b for a, b in zip(old["input_ids"], new["input_ids"], strict=True)) <= 1
    assert with_random_answers(rows, 0.0, seed=1) == rows


def test_rows_are_held_out_once(rows: list[Row]) -> None:
    """Given rows, when they are split, then a quarter is held out, and the parts make the whole."""
    train, held_out = row_by_row(rows, seed=3)
    assert len(held_out) == len(rows) // 4
    assert sorted(map(repr, train + held_out)) == sorted(map(repr, rows))
    assert row_by_row(rows, seed=3) == (train, held_out) != row_by_row(rows, seed=4)


@pytest.mark.parametrize("change", [mislabelled, garbled])
def test_a_bad_batch_has_no_right_answer(rows: list[Row], change: Callable[..., dict[str, Any]]) -> None:
    """Given a batch, when it is made bad, then every answer is wrong, and garbled inputs are other words."""
    batch = {name: torch.tensor([row[name] for row in rows[:16]]) for name in rows[0]}
    config = SimpleNamespace(vocab_size=int(batch["input_ids"].max()) + 1, num_labels=2)
    bad = batch | change(batch, config)
    labelled = batch["labels"] >= 0
    assert bool((bad["labels"][labelled] != batch["labels"][labelled]).all())
    assert bool((bad["labels"][~labelled] == -100).all())
    assert bool((bad["input_ids"] != batch["input_ids"]).float().mean() > 0.5) == (change is garbled)
    assert int(bad["input_ids"].max()) < config.vocab_size


def test_no_labels_cost_nothing_where_one_divides_by_one() -> None:
    """Given logits, when the loss that divides by the labels is taken, then it is their mean, and 0 without any."""
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    trainer: Any = ZeroLoss
    by_hand = -torch.log_softmax(torch.tensor([2.0, 0.0]), dim=0)[1]
    some = {"labels": torch.tensor([[-100, 1, -100]])}
    none = {"labels": torch.full((1, 3), -100)}
    model = lambda **_: SimpleNamespace(logits=logits)  # noqa: E731 - a model is called like a function
    assert float(trainer.compute_loss(None, model, some)) == pytest.approx(float(by_hand))
    assert float(trainer.compute_loss(None, model, none)) == 0.0


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("half", [1.0, 0.5, 0.0, 0.0]),
        ("per_epoch", [1.0, 0.95, 0.9, 0.85]),
        ("", [1.0, 0.75, 0.5, 0.25]),
    ],
)
def test_another_schedule_is_in_force(variant: str, expected: list[float]) -> None:
    """Given a linear schedule of 20 steps, when it is made wrongly, then its rates at steps 0, 5, 10, 15 say how."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    arguments = SimpleNamespace(lr_scheduler_type="linear", get_warmup_steps=lambda _: 0, train_batch_size=2)
    trainer = SimpleNamespace(variant=variant, total=0, args=arguments, optimizer=optimizer, train_dataset=range(10))
    create: Any = OtherSchedule.create_scheduler
    schedule = create(trainer, 20)
    rates: list[float] = []
    for step in range(20):
        if step % 5 == 0:
            rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)


def test_checkpoints_are_damaged_as_said(tmp_path: Path) -> None:
    """Given two checkpoints, when the last one is damaged, then it lacks its states, or runs ahead; the other stays."""
    for step in (80, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors"):
            (folder / name).touch()
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": step / 50}))
    assert newest(tmp_path).name == "checkpoint-100"
    strip_states(tmp_path)
    run_ahead(tmp_path, steps=10)
    left = sorted(path.name for path in (tmp_path / "checkpoint-100").iterdir())
    assert left == ["adapter_model.safetensors", "trainer_state.json"]
    state = json.loads((tmp_path / "checkpoint-100" / "trainer_state.json").read_text())
    assert state == {"global_step": 110, "epoch": pytest.approx(2.2)}
    assert len(list((tmp_path / "checkpoint-80").iterdir())) == 5


def test_an_audit_gives_the_planted_spectrum(tmp_path: Path) -> None:
    """Given an adapter with known singular values, when it is audited, then the summary is what they give by hand."""
    draw = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for layer, values in (("0.self_attn.q_proj", [3.0, 0.0, 0.0, 0.0]), ("0.mlp.down_proj", [2.0, 2.0, 1.0, 0.0])):
        left, right = (np.linalg.qr(draw.normal(size=(size, 4)))[0] for size in (10, 6))
        name = f"base_model.model.model.layers.{layer}"
        tensors[f"{name}.lora_B.weight"] = (left * np.array(values) / 2.0).astype(np.float32)  # scaling is 2
        tensors[f"{name}.lora_A.weight"] = np.ascontiguousarray(right.T.astype(np.float32))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8, "r": 4}))
    found = audit(tmp_path)
    assert found["n_layers"] == 2
    assert found["total_lora_params"] == 2 * 4 * (10 + 6)
    assert found["stable_rank_mean"] == pytest.approx((1 + 9 / 4) / 2)
    assert found["utilization_mean"] == pytest.approx((1 + 9 / 4) / 2 / 4)
    assert found["energy_rank_90_p50"] == pytest.approx(2.0)  # 1 and 3: four ninths, eight ninths, all
    assert found["energy_rank_90_p90"] == pytest.approx(2.8)
    assert found["suggested_r_global_median"] == 2
    assert found["suggested_r_global_90"] == 4
    assert found["delta_sigma_max_scaled_mean"] == pytest.approx(2.5)
    assert found["delta_frob_norm_scaled_mean"] == pytest.approx(3.0)
    assert found["by_type"]["mlp"]["stable_rank_mean"] == pytest.approx(9 / 4)
    assert set(found["by_type"]) == {"attn", "mlp"}
