"""Measuring changes nothing: no weight, no gradient, no random number, no mode, no graph."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from gradience_emit.spectral import SpectralMonitor, SpectralProbe
from tests.emit.hf import tiny


def random_states() -> tuple[Any, ...]:
    """The state of every global generator, as plain values."""
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), (kind, keys.tolist(), *rest), random.getstate()


def mixed() -> Any:
    """An adapter beside a head that is trained in full, with gradients."""
    model = tiny.lora(modules_to_save=["lm_head"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    batch = {key: torch.stack([row[key] for row in tiny.rows(4)]) for key in ("input_ids", "labels")}
    model(**batch).loss.backward()
    return model


def test_weights_gradients_and_random_states_are_bitwise_the_same() -> None:
    """Given a model in training, when measured three times, then all that training depends on is as it was."""
    model = mixed()
    model.train()
    weights = tiny.weights(model)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    versions = {name: p._version for name, p in model.named_parameters()}
    assert gradients
    before = random_states()
    probe = SpectralProbe(model)
    for _ in range(3):
        reading = probe.measure(weight_decay=0.1)
    assert random_states() == before
    assert reading.kappa is not None
    assert reading.matrices
    assert tiny.same_weights(weights, tiny.weights(model))
    after = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert tiny.same_weights(gradients, after)
    assert {name: p._version for name, p in model.named_parameters()} == versions, "something wrote in place"
    assert all(p.grad_fn is None for p in model.parameters())
    assert model.training
    assert torch.is_grad_enabled()


def test_training_that_is_measured_is_the_training_that_is_not() -> None:
    """Given dropout and eight steps, when every step is observed, then losses and weights are equal bit for bit."""

    def train(*, observed: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
        model = tiny.lora(modules_to_save=["lm_head"])
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        monitor = SpectralMonitor(model, interval=1, optimizer=optimizer)
        torch.manual_seed(3)
        losses = []
        for step, row in enumerate(tiny.rows(8)):
            loss = model(**{key: value.unsqueeze(0) for key, value in row.items()}).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if observed:
                assert monitor.due(step + 1)
                monitor.observe(step + 1)
        assert not observed or monitor.final["final_kappa"] is not None
        return losses, tiny.weights(model)

    losses, weights = train(observed=False)
    losses_seen, weights_seen = train(observed=True)
    assert losses == losses_seen
    assert tiny.same_weights(weights, weights_seen)


def test_autocast_does_not_reach_the_numbers() -> None:
    """Given mixed precision around the call, when measured, then the numbers are those without it."""
    plain = SpectralProbe(mixed()).measure()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = SpectralProbe(mixed()).measure()
    assert within.adapters == plain.adapters
    assert [item.sigma_max for item in within.matrices] == [item.sigma_max for item in plain.matrices]
