"""Measures a model every so many steps and follows the level of its kappa; it acts on nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from gradience_emit.spectral.levels import RiskLevel, RiskWindow, SpectralLimits
from gradience_emit.spectral.measure import SpectralProbe
from gradience_emit.spectral.sample import SpectralSample, Wanted

__all__ = ["SpectralMonitor"]

_WANTED: Final[Mapping[RiskLevel, Wanted]] = {RiskLevel.WARNING: Wanted.SNAPSHOT, RiskLevel.DANGER: Wanted.BACKOFF}
_ON_INSTABILITY: Final[Mapping[str, Wanted]] = {"rollback": Wanted.ROLLBACK, "halt": Wanted.HALT}


class SpectralMonitor:
    """Live kappa, risk level and structure of what is trained. Experimental: its limits are not calibrated.

    Ask `due` after each optimizer step, and call `observe` where it says yes::

        if monitor.due(step):
            emit(writer, step, monitor.observe(step))

    With actions on, a sample says what is wanted when its level rises, once for each rise: WARNING a snapshot, and
    samples every ``burst_every`` steps as long as the level is WARNING or above; DANGER a snapshot and a lower learning
    rate; INSTABILITY a rollback or a halt. The guard carries it out, and calls `restored` after a rollback. With
    actions off, which is the default, samples are taken every ``interval`` steps and nothing is wanted.

    Args:
        model: a torch module; see `SpectralProbe`.
        limits: where the levels begin.
        interval: optimizer steps between samples, at least 1.
        burst_every: the same while the level is WARNING or above and actions are on; at most ``interval``. By default a
            fifth of it.
        optimizer: anything with ``param_groups``, from which each matrix's weight decay is read at each sample. May be
            given later, as the attribute of that name.
        weight_decay: one for all, over the optimizer's.
        actions: whether samples say what is wanted.
        on_instability: what INSTABILITY wants.
        power_steps: see `SpectralProbe`.

    Attributes:
        optimizer: see above.
        window: the readings that the level is from.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        model: Any,
        limits: SpectralLimits | None = None,
        interval: int = 50,
        burst_every: int | None = None,
        *,
        optimizer: Any = None,
        weight_decay: float | None = None,
        actions: bool = False,
        on_instability: Literal["rollback", "halt"] = "rollback",
        power_steps: int = 2,
    ) -> None:
        burst_every = max(1, interval // 5) if burst_every is None else burst_every
        if interval < 1 or not 1 <= burst_every <= interval:
            raise ValueError(f"1 <= burst_every <= interval must hold, not {burst_every}, {interval}")
        if on_instability not in _ON_INSTABILITY:
            raise ValueError(f'on_instability must be "rollback" or "halt", not {on_instability!r}')
        self.optimizer = optimizer
        self.window = RiskWindow(limits)
        self._probe = SpectralProbe(model, power_steps=power_steps)
        self._interval = interval
        self._burst_every = burst_every
        self._weight_decay = weight_decay
        self._actions = actions
        self._wanted = {**_WANTED, RiskLevel.INSTABILITY: _ON_INSTABILITY[on_instability]}
        self._last_step = 0
        self._sample: SpectralSample | None = None
        self._measured: SpectralSample | None = None

    @property
    def level(self) -> RiskLevel | None:
        """The level that is held now; None while there are too few readings."""
        return self.window.reading.level

    @property
    def bursting(self) -> bool:
        """Whether samples come every ``burst_every`` steps now."""
        return self._actions and self.level is not None and self.level.rank >= RiskLevel.WARNING.rank

    def due(self, step: int) -> bool:
        """Whether a sample is due after this optimizer step: so many steps after the last one, counted from step 0.

        A step before the last sample's, as a loop that was wound back has it, is due.
        """
        every = self._burst_every if self.bursting else self._interval
        return step - self._last_step >= every or step < self._last_step

    def observe(self, step: int) -> SpectralSample:
        """Measure now, whether it is due or not."""
        before = self.level
        reading = self._probe.measure(self._decays())
        course = self.window.add(step, reading.kappa)
        sample = SpectralSample(step, reading, course, before)
        if self._actions and sample.raised and sample.level is not None:
            wanted = self._wanted.get(sample.level, Wanted.NOTHING)
            sample = SpectralSample(step, reading, course, before, wanted)
        self._last_step = step
        self._sample = sample
        if reading.kappa is not None:
            self._measured = sample
        return sample

    def restored(self, step: int) -> None:
        """Tell that the weights of an earlier step were put back: readings of later ones are forgotten."""
        self.window.forget_after(step)

    def records(self) -> dict[str, dict[str, Any]]:
        """The last sample's metrics by their kind, ``spectral`` and ``structural``; empty before the first one."""
        sample = self._sample
        return {} if sample is None else {"spectral": sample.spectral(), "structural": sample.structural()}

    @property
    def final(self) -> dict[str, Any]:
        """``final_kappa``, the last one measured, and ``final_risk_level``, the level held now; None for none."""
        return {
            "final_kappa": None if self._measured is None else self._measured.kappa,
            "final_risk_level": None if self.level is None else self.level.value,
        }

    def _decays(self) -> Mapping[int, float] | float | None:
        if self._weight_decay is not None or self.optimizer is None:
            return self._weight_decay
        return {
            id(parameter): float(group["weight_decay"])
            for group in self.optimizer.param_groups
            if isinstance(group.get("weight_decay"), (int, float))
            for parameter in group["params"]
        }
