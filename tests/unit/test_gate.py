"""The gate's config: no text becomes a directive, and of all paths only those of a login are open to everybody."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domicile.cli.main import main
from domicile.controllers.door.gate import Gate, render
from tests.unit.test_door import TEXT, skeleton

GATE = Gate("sso.example", "sso.example:9443", "keycloak.sso.svc:8443", ("10.8.0.0/24", "2001:db8::/32"))
REALM = "/realms/bank-01234567"
OPENID = f"{REALM}/protocol/openid-connect"

FIELDS: dict[str, Any] = {
    "host": lambda t: {"host": t},
    "admin_host": lambda t: {"admin_host": t},
    "upstream": lambda t: {"upstream": t},
    "networks": lambda t: {"networks": (t,)},
    "aliases": lambda t: {"aliases": (t,)},
}
GOOD = {"upstream": "b:1", "networks": "10.0.0.0/8"}


@pytest.mark.parametrize("field", FIELDS)
@given(text=TEXT)
def test_no_text_becomes_a_directive(field: str, text: str) -> None:
    expected = skeleton(render(replace(GATE, **FIELDS[field](GOOD.get(field, "x:1")))))
    try:
        config = render(replace(GATE, **FIELDS[field](text)))
    except ValueError as error:
        assert "must" in str(error)  # noqa: PT017
        return
    # A host without a port may be named with 443, too.
    assert [line for line in skeleton(config) if line != "RewriteCond"] == [x for x in expected if x != "RewriteCond"]
    assert not re.search(r"[^ -~\n]|\$\{|\\\n|\\\"", config)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"networks": ()}, "networks must name"),
        ({"networks": ("10.8.0.1/24",)}, "a network of administrators must be"),
        ({"admin_host": "sso.example"}, "admin_host must differ"),
        ({"host": "SSO.example"}, "host must be"),
        ({"upstream": "keycloak"}, "upstream must be"),
        ({"aliases": ("a b",)}, "an alias must be"),
    ],
)
def test_what_can_not_be_served_is_refused_with_a_reason(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render(replace(GATE, **fields))


def opened(line: str) -> bool:
    """Whether the public port takes a request line; httpd's patterns are of Perl, these mean the same to Python."""
    [pattern] = re.findall(r"=~ m#(.*)#\"", render(GATE))
    return re.search(pattern.removesuffix("$") + r"\Z", line) is not None


PARTS = "/resources/yk2dm/login/keycloak.v2/css/styles.css"


@pytest.mark.parametrize(
    "path",
    [
        f"{OPENID}/auth?client_id=front-door&redirect_uri=https%3A%2F%2Fbank.example%2Foauth2%2Fcallback",
        f"{OPENID}/token",
        f"{OPENID}/certs",
        f"{OPENID}/logout",
        f"{OPENID}/logout/logout-confirm?client_id=x",
        f"{OPENID}/logout/backchannel-logout",
        f"{REALM}/.well-known/openid-configuration",
        f"{REALM}/login-actions/authenticate?session_code=a&execution=b",
        f"{REALM}/login-actions/required-action?execution=CONFIGURE_TOTP",
        f"{REALM}/login-actions/action-token?key=eyJh.eyJl.c2ln&client_id=front-door",
        f"{REALM}/broker/corp/endpoint?state=x",
        f"{REALM}/broker/corp/endpoint/descriptor",
        f"{REALM}/broker/corp/login?session_code=x",
        f"{REALM}/broker/after-post-broker-login?session_code=x",
        PARTS,
        "/resources/yk2dm/common/keycloak/vendor/patternfly-v5/patternfly.min.css",
    ],
)
def test_what_a_login_needs_is_open(path: str) -> None:
    assert opened(f"GET {path} HTTP/1.1")


@given(st.sampled_from(("/", "//", "/./", "/%2e/", ";x=1/", "%2F", "/..;/", "/../../../../../", "\\")), st.data())
def test_no_spelling_of_masters_or_of_the_administration_is_open(between: str, data: st.DataObject) -> None:
    tail = data.draw(st.sampled_from(("admin", "realms/master/protocol/openid-connect/auth", "metrics", "health")))
    start = data.draw(st.sampled_from(("", REALM, OPENID, PARTS, "/resources", "/realms", "https://sso.example")))
    assume((start, between) != (PARTS, "/"))
    method = data.draw(st.sampled_from(("GET", "POST", "PUT", "OPTIONS", "CONNECT")))
    assert not opened(f"{method} {start}{between}{tail} HTTP/1.1")


def test_the_command_writes_the_config_from_options_or_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--host", GATE.host, "--admin-host", GATE.admin_host, "--upstream", GATE.upstream]
    networks = [part for n in GATE.networks for part in ("--network", n)]
    assert main(["gate", *options, *networks, "--alias", "gate.sso.svc", "--into", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one/httpd.conf").read_text() == render(replace(GATE, aliases=("gate.sso.svc",)))

    file = tmp_path / "gate.yaml"
    file.write_text(
        f"{{host: {GATE.host}, adminHost: '{GATE.admin_host}', upstream: '{GATE.upstream}',"
        f" networks: ['{GATE.networks[0]}', '{GATE.networks[1]}']}}"
    )
    assert main(["gate", "--file", str(file), "--into", str(tmp_path / "two")]) == 0
    assert (tmp_path / "two/httpd.conf").read_text() == render(GATE)
    assert f"wrote httpd.conf to {tmp_path / 'two'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("{host: a.example}", (), "adminHost"),
        ("{host: a.example, adminHost: a.example, upstream: 'k:1', networks: [10.0.0.0/8]}", (), "must differ"),
        ("[", (), "neither YAML nor JSON"),
        ("{}", ("--host", "a.example"), "--file says all of it"),
        (None, (), "No such file"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, options: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "gate.yaml"
    if text is not None:
        file.write_text(text)
    assert main(["gate", "--file", str(file), *options, "--into", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
