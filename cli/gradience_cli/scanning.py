"""Finds personal data and secrets in a text with the patterns that telemetry is redacted with."""

from __future__ import annotations

import re

from gradience_emit.redact import redact_secrets

_LABEL = re.compile(r"\[(EMAIL|PHONE|API_KEY|JWT|PRIVATE_KEY|URL_WITH_TOKEN|AUTH|SECRET)\]")


def find_private(text: str) -> frozenset[str]:
    """Kinds of personal data and secrets in a text, such as `EMAIL` and `API_KEY`; empty when there is none.

    A text that was redacted already holds only the labels, and nothing is found in it.
    """
    redacted = redact_secrets(text)
    if redacted == text:
        return frozenset()
    before = _LABEL.findall(text)
    after = _LABEL.findall(redacted)
    return frozenset(kind for kind in set(after) if after.count(kind) > before.count(kind))
