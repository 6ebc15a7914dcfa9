"""Report to bytes of one format. A renderer knows blocks, never a particular report."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradience_analysis.model import Report
from gradience_analysis.render.json import render_json

RENDERERS: Mapping[str, Callable[[Report], str]] = {"json": render_json}
"""Formats that need no terminal, by the name that `--format` knows."""

__all__ = ["RENDERERS", "render_json"]
