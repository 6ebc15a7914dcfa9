"""Which extra brings a module that is not installed. Standard library only: it runs when nothing else can."""

from __future__ import annotations

_EXTRAS = {
    "cli": ("typer", "rich"),
    "analysis": ("jsonschema", "msgspec", "numpy", "pandas", "pyarrow", "referencing", "yaml"),
    "hf": ("torch", "transformers", "peft", "accelerate"),
    "train": ("datasets", "trl"),
}
# Whoever has the command line has no use for `analysis` alone: `cli` brings it.
_INSTALL = {"analysis": "cli"}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """The extra to install, or None when the missing module is not one that an extra brings."""
    root = (error.name or "").partition(".")[0]
    extra = next((name for name, modules in _EXTRAS.items() if root in modules), None)
    return None if extra is None else _INSTALL.get(extra, extra)


def advice(error: ModuleNotFoundError, extra: str) -> str:
    """What to say about it: which module is missing, and the command that brings it."""
    return f"gradience: {error.name} is not installed. Install the extra {extra!r}:\n  pip install 'gradience[{extra}]'"
