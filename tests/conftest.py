"""What every test shares: how hypothesis behaves, and what cases made of bytes are called."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A shared machine may stop for longer than hypothesis's 200 ms; time is for benchmarks, not for tests. Where CI is set,
# hypothesis's own "ci" profile holds (the same, and the same examples each time).
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not os.environ.get("CI"):
    settings.load_profile("house")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Call a case made of bytes by its length: bytes may hold a clock, as gzip's do, and then no two workers agree."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None
