"""The tunnel to the session store: its settings, its config, and what may be logged of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from domicile.gateway.stunnel import Stunnel
from domicile.gateway.tunnel import Settings, config

GOOD = {"DOMICILE_SESSION_STORE": "domicile-sessions.domicile.svc:6379"}
SETTINGS = Settings.read(GOOD)


def options(section: str) -> dict[str, str]:
    text = config(SETTINGS, Path("/certificates"))
    parts = dict(zip(("global", "sessions"), text.split("[sessions]\n"), strict=True))
    return dict(line.split(" = ") if " = " in line else (line, "") for line in parts[section].splitlines())


def test_the_store_is_verified_by_chain_and_name_and_shown_the_doors_certificate() -> None:
    found = options("sessions")
    assert (found["verifyChain"], found["checkHost"]) == ("yes", "domicile-sessions.domicile.svc")
    assert (found["CAfile"], found["cert"], found["key"]) == tuple(
        f"/certificates/{name}" for name in ("ca.crt", "tls.crt", "tls.key")
    )
    assert found["connect"] == "domicile-sessions.domicile.svc:6379"
    assert found["sslVersionMin"] == "TLSv1.3"


def test_only_its_own_pod_reaches_it() -> None:
    assert options("sessions")["accept"] == "127.0.0.1:6379"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOMICILE_SESSION_STORE", ""),
        ("DOMICILE_SESSION_STORE", "store"),
        ("DOMICILE_SESSION_STORE", "store:6379\nverifyChain = no"),
        ("DOMICILE_SESSION_STORE", "store:6379 "),
        ("DOMICILE_PORT", "0"),
        ("DOMICILE_PORT", "65536"),
        ("DOMICILE_HEALTH_PORT", "x"),
        ("DOMICILE_WAY_OUT", "https://proxy:3129"),
        ("DOMICILE_WAY_OUT_PORT", "x"),
    ],
)
def test_wrong_settings_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        Settings.read(GOOD | {"DOMICILE_WAY_OUT": "proxy:3129"} | {name: value})


def test_it_leads_to_the_way_out_where_there_is_one() -> None:
    assert SETTINGS.way_out is None
    found = Settings.read(GOOD | {"DOMICILE_WAY_OUT": "domicile-egress.domicile.svc:3129"}).way_out
    assert found == ("domicile-egress.domicile.svc:3129", Path("/etc/domicile/way-out/egress"), 8083)


def test_its_log_keeps_what_is_wrong_and_says_a_thing_once() -> None:
    stunnel = Stunnel(SETTINGS.mounts, partial(config, SETTINGS))
    line = "2026.11.23 09:16:%s LOG%s[0]: SSL_connect: certificate verify failed"
    assert stunnel.kept(line % (11, 5)) is None
    assert stunnel.kept(line % (12, 3)) == {"level": "error", "message": "SSL_connect: certificate verify failed"}
    assert stunnel.kept(line % (13, 3)) is None
    assert stunnel.kept("something else") == {"level": "warning", "message": "something else"}
