"""Properties are about answers, never about how busy the machine is."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # The same examples in every run where nobody is there to look at a new one.
    derandomize="CI" in os.environ,
)
settings.load_profile("steady")
