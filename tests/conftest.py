"""For all tests: how Hypothesis judges them.

How long an example takes, or making one, tells of the machine that the tests share with others and
not of the code: a test that hangs is ended by its timeout.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
