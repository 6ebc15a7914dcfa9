"""pyarrow, for type checkers: it ships no types of its own, so everything of it is Any, said in this one place."""

from __future__ import annotations

from importlib import import_module
from typing import Any

pa: Any = import_module("pyarrow")
pc: Any = import_module("pyarrow.compute")
