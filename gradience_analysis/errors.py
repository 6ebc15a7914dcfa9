"""What can stop the reading of an input: each error carries its data and says the remedy."""

from __future__ import annotations


class GradienceError(Exception):
    """A fault the user can act on.

    Attributes:
        message: One plain sentence about what is wrong.
        remedy: What to do about it; empty when nothing general can be said.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(GradienceError):
    """A path that cannot be read as telemetry.

    Attributes:
        path: The path as it was given.
    """

    def __init__(self, path: str, message: str, remedy: str = "") -> None:
        super().__init__(f"{path}: {message}", remedy)
        self.path = path


class NoTelemetryError(InputError):
    """A file or directory in which no valid telemetry/v1 event was found."""


class SchemaViolationError(InputError):
    """Raised by strict readers on the first issue of severity error.

    Attributes:
        line: 1-based line number, or None when the fault belongs to the whole file.
    """

    def __init__(self, path: str, line: int | None, message: str) -> None:
        place = path if line is None else f"{path}:{line}"
        super().__init__(place, message, "Read it without strict_schema to see the rest of the file.")
        self.line = line


class PolicyError(GradienceError):
    """A policy value that is missing, of the wrong type, or out of its range."""
