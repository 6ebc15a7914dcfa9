"""What a rule of the catalogue says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gradience_schema import Severity


class Stage(StrEnum):
    """When a rule can be asked: before training, from telemetry, or from the adapter's files."""

    CHECK = "check"
    MONITOR = "monitor"
    AUDIT = "audit"


class Category(StrEnum):
    """What a rule is about."""

    DATA = "data"
    MODEL = "model"
    GPU = "gpu"
    CONFIG = "config"
    PROCESS = "process"
    FILE = "file"
    FLOW = "flow"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: Letter of its category and a number, such as `T04`.
        category: What it is about.
        stages: When it is asked.
        severities: Severities that its findings can have, worst first.
        code: Code of its findings.
        title: One sentence: what is wrong.
        fix: One sentence: what to do about it.
    """

    id: str
    category: Category
    stages: tuple[Stage, ...]
    severities: tuple[Severity, ...]
    code: str
    title: str
    fix: str
