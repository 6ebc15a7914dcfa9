"""The order of severities: worse ones first."""

from __future__ import annotations

from collections.abc import Mapping

from gradience_schema import Severity

SEVERITY_RANK: Mapping[Severity, int] = {severity: place for place, severity in enumerate(reversed(Severity))}
"""0 for the gravest severity, and the more the less it matters; the mapping itself is in that order."""
