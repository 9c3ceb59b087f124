"""Health endpoints and metrics over real HTTP, and the operator's settings."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from pydantic import ValidationError

from domicile.health import Health, serving
from domicile.metrics import Metrics
from domicile.settings import Settings


async def fetch(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_health_follows_what_is_watched_and_readiness_does_not() -> None:
    now = 0.0
    health, metrics = Health(100, clock=lambda: now), Metrics()
    async with serving(health, metrics.render, 0) as port:
        assert await fetch(port, "/readyz") == (503, "not connected yet")
        assert await fetch(port, "/healthz") == (200, "ok")
        health.ready = True
        beat = health.pulse("tick")
        now = 100.0
        assert await fetch(port, "/healthz") == (200, "ok")
        now = 101.0
        assert await fetch(port, "/healthz") == (503, "tick: silent for 101 s")
        assert await fetch(port, "/readyz") == (200, "ok")
        beat()
        assert await fetch(port, "/healthz") == (200, "ok")
        health.watch("workers", lambda: 1000.0)
        assert (await fetch(port, "/healthz"))[0] == 503
        health.forget()
        assert await fetch(port, "/healthz") == (200, "ok")


async def test_metrics_tell_what_happened() -> None:
    metrics = Metrics()
    metrics.reconciled("AssistantTenant", 0.2, None)
    metrics.reconciled("AssistantTenant", 0.2, "ConflictError")
    metrics.depth(7, 3)
    metrics.wrote("PATCH", "deployments", 200)
    metrics.leading(value=True)
    metrics.event("Failover")
    metrics.posted("LoginBurst", "Warning")
    async with serving(Health(1), metrics.render, 0) as port:
        status, text = await fetch(port, "/metrics")
    assert status == 200
    for line in (
        'domicile_reconcile_seconds_count{kind="AssistantTenant"} 2.0',
        'domicile_reconcile_errors_total{kind="AssistantTenant",reason="ConflictError"} 1.0',
        "domicile_queue_waiting 7.0",
        "domicile_queue_working 3.0",
        'domicile_kube_writes_total{method="PATCH",resource="deployments",status="200"} 1.0',
        "domicile_leading 1.0",
        'domicile_watch_events_total{kind="Failover"} 1.0',
        'domicile_events_total{reason="LoginBurst",type="Warning"} 1.0',
        "process_resident_memory_bytes",
    ):
        assert line in text


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMICILE_SITES", "gcp-frankfurt, gcp-iowa,")
    monkeypatch.setenv("DOMICILE_NAMESPACE", "here")
    monkeypatch.setenv("DOMICILE_KEYS_DIR", "/keys")
    settings = Settings()
    assert settings.sites == ("gcp-frankfurt", "gcp-iowa")
    assert settings.keys_dir == Path("/keys")
    assert settings.namespace == "here"
    assert (settings.workers, settings.resync_seconds) == (16, 30.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SITES", ""), ("SITES", "UPPER"), ("WORKERS", "0"), ("RESYNC_SECONDS", "0"), ("IMAGE_PULL_POLICY", "Sometimes")],
)
def test_bad_settings_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("DOMICILE_SITES", "a")
    monkeypatch.setenv(f"DOMICILE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_sites_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOMICILE_SITES", raising=False)
    with pytest.raises(ValidationError, match="sites"):
        Settings()


def test_every_setting_is_documented() -> None:
    assert all(field.description for field in Settings.model_fields.values())
