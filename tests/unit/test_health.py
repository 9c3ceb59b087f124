"""Probes over real HTTP, metrics over real TLS, and the operator's settings."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import aiohttp
import pytest
from pydantic import ValidationError

from domicile.health import Health, serving
from domicile.metrics import Metrics
from domicile.scraping import ScrapeSettings, scraped
from domicile.settings import Settings
from tests.authorities import SERVER, Authority, write


async def fetch(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_health_follows_what_is_watched_and_readiness_does_not(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    health = Health(100, clock=lambda: now)
    async with serving(health, 0) as port:
        assert await fetch(port, "/readyz") == (503, "not ok")
        assert await fetch(port, "/healthz") == (200, "ok")
        health.ready = True
        beat = health.pulse("tick")
        now = 100.0
        assert await fetch(port, "/healthz") == (200, "ok")
        now = 101.0
        # The log tells more than whoever asks.
        assert await fetch(port, "/healthz") == (503, "not ok")
        assert "unhealthy: tick: silent for 101 s" in caplog.text
        assert await fetch(port, "/readyz") == (200, "ok")
        beat()
        assert await fetch(port, "/healthz") == (200, "ok")
        health.watch("workers", lambda: 1000.0)
        assert (await fetch(port, "/healthz"))[0] == 503
        health.forget()
        assert await fetch(port, "/healthz") == (200, "ok")


async def test_the_probes_port_has_no_metrics() -> None:
    async with serving(Health(1), 0) as port:
        assert (await fetch(port, "/metrics"))[0] == 404
        assert (await fetch(port, "/"))[0] == 404


async def scrape(tmp_path: Path, render: Callable[[], bytes]) -> tuple[int, str]:
    servers, clients = Authority("servers"), Authority("clients")
    write(tmp_path, "tls", servers.issue("operator", use=SERVER, hosts=("localhost",)))
    (tmp_path / "clients.crt").write_bytes(clients.pem)
    context = ssl.create_default_context(cadata=servers.pem.decode())
    context.load_cert_chain(*write(tmp_path, "client", clients.issue("prometheus")))
    settings = ScrapeSettings(metrics_dir=tmp_path, metrics_port=0, metrics_networks="127.0.0.0/8, ::1/128")
    async with (
        scraped(settings, render) as port,
        aiohttp.ClientSession() as session,
        session.get(f"https://localhost:{port}/metrics", ssl=context) as response,
    ):
        return response.status, await response.text()


async def test_without_a_folder_there_is_no_port_of_metrics() -> None:
    async with scraped(ScrapeSettings(), bytes) as port:
        assert port is None


async def test_metrics_tell_what_happened(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.reconciled("AssistantTenant", 0.2, None)
    metrics.reconciled("AssistantTenant", 0.2, "ConflictError")
    metrics.depth(7, 3)
    metrics.wrote("PATCH", "deployments", 200)
    metrics.leading(value=True)
    metrics.event("Failover")
    metrics.posted("LoginBurst", "Warning")
    assert b'domicile_certificate_expiry_timestamp_seconds{use="door"} +Inf' in metrics.render()
    for name, year in (("first", 2030), ("soonest", 2027), ("gone", 2026), ("renewed", 2025)):
        metrics.certificate(name, datetime(year, 1, 1, tzinfo=UTC))
    metrics.certificate("renewed", datetime(2031, 1, 1, tzinfo=UTC))
    metrics.certificate("gone", None)
    metrics.pods_certificates("gone", [datetime(2027, 1, 1, tzinfo=UTC)])
    metrics.pods_certificates("gone", [])
    metrics.pods_certificates("bank", [datetime(2029, 1, 1, tzinfo=UTC), None, datetime(2028, 1, 1, tzinfo=UTC)])
    status, text = await scrape(tmp_path, metrics.render)
    assert status == 200
    for line in (
        'domicile_reconcile_seconds_count{kind="AssistantTenant"} 2.0',
        'domicile_reconcile_errors_total{kind="AssistantTenant",reason="ConflictError"} 1.0',
        "domicile_queue_waiting 7.0",
        'domicile_certificate_expiry_timestamp_seconds{use="door"} 1.7987616e+09',
        'domicile_certificate_expiry_timestamp_seconds{use="pods"} 1.8302976e+09',
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
    monkeypatch.setenv("DOMICILE_METRICS_NETWORKS", "10.8.0.0/24, 2001:db8::/64")
    settings = Settings()
    assert settings.metrics_networks == (ip_network("10.8.0.0/24"), ip_network("2001:db8::/64"))
    assert settings.sites == ("gcp-frankfurt", "gcp-iowa")
    assert settings.keys_dir == Path("/keys")
    assert settings.namespace == "here"
    assert (settings.workers, settings.resync_seconds) == (16, 30.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SITES", ""),
        ("SITES", "UPPER"),
        ("WORKERS", "0"),
        ("RESYNC_SECONDS", "0"),
        ("IMAGE_PULL_POLICY", "Sometimes"),
        ("METRICS_NETWORKS", "everywhere"),
        ("METRICS_NETWORKS", "10.0.0.1/8"),
    ],
)
def test_bad_settings_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("DOMICILE_SITES", "a")
    monkeypatch.setenv(f"DOMICILE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_metrics_for_nobody_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMICILE_METRICS_DIR", "/metrics")
    with pytest.raises(ValidationError, match="name the networks that may scrape"):
        ScrapeSettings()


def test_sites_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOMICILE_SITES", raising=False)
    with pytest.raises(ValidationError, match="sites"):
        Settings()


def test_every_setting_is_documented() -> None:
    assert all(field.description for field in Settings.model_fields.values())
