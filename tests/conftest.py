"""Hypothesis for every test: no verdict on speed (the machine may be busy), otherwise its defaults."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("domicile", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("domicile")
