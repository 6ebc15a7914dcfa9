"""The guard, experimental: keeps snapshots of a training's state, and undoes what a fault did to it.

`options` says what it may do, `triggers` what counts as a fault, `policy` what is done about one; `snapshots` keeps the
state that `state` reads, and `recovery` puts them together. None of them knows of Hugging Face. Importing the package
loads nothing but the plain parts; torch comes with the first snapshot.
"""

from __future__ import annotations

from gradience_emit.guard.options import GuardOptions
from gradience_emit.guard.policy import Action, Decision, Policy
from gradience_emit.guard.triggers import Judgement, Signals, Trigger, Triggers, Verdict

__all__ = [
    "Action",
    "Decision",
    "GuardOptions",
    "Judgement",
    "Policy",
    "Signals",
    "Trigger",
    "Triggers",
    "Verdict",
]
