"""Exit codes of every command."""

from __future__ import annotations

CLEAN = 0
FINDINGS = 1
USAGE = 2
INCONCLUSIVE = 3
