"""What every test shares: how hypothesis behaves."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A shared machine may stop for longer than hypothesis's 200 ms; time is for benchmarks, not for tests. Where CI is set,
# hypothesis's own "ci" profile holds (the same, and the same examples each time).
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not os.environ.get("CI"):
    settings.load_profile("house")
