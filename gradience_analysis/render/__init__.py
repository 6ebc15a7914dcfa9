"""Report to bytes of one format. A renderer knows blocks and results, never a particular report."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradience_analysis.model import Report
from gradience_analysis.render.github import render_github
from gradience_analysis.render.json import render_json
from gradience_analysis.render.junit import render_junit
from gradience_analysis.render.sarif import render_sarif


def render_html(report: Report) -> str:
    """One self-contained page; see `render.html`, which is imported only where a page is made."""
    from gradience_analysis.render import html

    return html.render_html(report)


def render_markdown(report: Report) -> str:
    """GitHub-flavoured Markdown; see `render.markdown`, which is imported only where it is made."""
    from gradience_analysis.render import markdown

    return markdown.render_markdown(report)


RENDERERS: Mapping[str, Callable[[Report], str]] = {
    "json": render_json,
    "md": render_markdown,
    "html": render_html,
    "junit": render_junit,
    "github": render_github,
    "sarif": render_sarif,
}
"""Formats that need no terminal, by the name that `--format` knows; each command says which it offers."""

__all__ = [
    "RENDERERS",
    "render_github",
    "render_html",
    "render_json",
    "render_junit",
    "render_markdown",
    "render_sarif",
]
