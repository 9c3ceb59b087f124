"""The front door's config: what it says for which data, and that no text of anybody's becomes a directive."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.controllers.door import firewall, words
from domicile.controllers.door.door import Assistant, Claims, Door, Edge, Endpoints, Limits, PathRule, Secrets
from domicile.controllers.door.httpd import render, render_secrets
from domicile.controllers.door.sessions import render_users
from domicile.gateway.error_log import kept
from tests.bench import frontdoor

ISSUER = "https://sso.example/realms/bank"
BASE = f"{ISSUER}/protocol/openid-connect"
DOOR = Door(
    host="bank.example",
    client_id="front-door",
    endpoints=Endpoints(ISSUER, f"{BASE}/auth", "http://sso.internal:8080/token", "http://sso.internal/certs", BASE),
    assistants=(Assistant("helpdesk", "helpdesk.bank.svc:80", (PathRule("/open", None), PathRule("/r", ("owner",)))),),
    redis="sessions.domicile.svc:6379",
)
SECRETS = Secrets("c" * 32, "p" * 48, "doors", "r" * 32)
TEXT = st.one_of(st.text(), st.text(alphabet="ab\"'\\\n\r\t ${}%<>#`;[]()/.:-", max_size=30))


def skeleton(config: str) -> list[str]:
    """The directives of a config, without what stands in quotes."""
    return [re.sub(r'"[^"]*"', "", line).split(" ", 1)[0] for line in config.splitlines()]


def section(config: str, pattern: str) -> list[str]:
    lines = config.splitlines()
    at = lines.index(f'<LocationMatch "{pattern}">')
    return lines[at + 1 : lines.index("</LocationMatch>", at)]


def any_of(claim: str, *values: str) -> str:
    """The line that wants a claim to have one of the values (as patterns)."""
    return "Require claim " + " ".join(f'"{claim}~(?s)^{value}(?!.)"' for value in values)


FIELDS: dict[str, Any] = {
    "host": lambda t: {"host": t},
    "client_id": lambda t: {"client_id": t},
    "issuer": lambda t: {"endpoints": replace(DOOR.endpoints, issuer=t)},
    "authorization": lambda t: {"endpoints": replace(DOOR.endpoints, authorization=t)},
    "token": lambda t: {"endpoints": replace(DOOR.endpoints, token=t)},
    "jwks": lambda t: {"endpoints": replace(DOOR.endpoints, jwks=t)},
    "end_session": lambda t: {"endpoints": replace(DOOR.endpoints, end_session=t)},
    "redis": lambda t: {"redis": t},
    "factor": lambda t: {"claims": Claims(mfa_values=(t,))},
    "factor's claim": lambda t: {"claims": Claims(mfa_claim=t)},
    "value of a role": lambda t: {"claims": Claims(values_of={"owner": (t,)})},
    "roles' claim": lambda t: {"claims": Claims(roles_claim=t)},
    "scope": lambda t: {"scopes": (t,)},
    "assistant": lambda t: {"assistants": (Assistant(t, "a:80"),)},
    "upstream": lambda t: {"assistants": (Assistant("a", t),)},
    "prefix": lambda t: {"assistants": (Assistant("a", "a:80", (PathRule(t, None),)),)},
    "role": lambda t: {"assistants": (Assistant("a", "a:80", (PathRule("/x", (t,)),)),)},
    "cidr": lambda t: {"edge": Edge(cidrs=(t,))},
}
GOOD = {"host": "x", "assistant": "a", "upstream": "b:1", "prefix": "/x", "cidr": "10.0.0.0/8", "redis": "b:1"}


@pytest.mark.parametrize("field", FIELDS)
@given(text=TEXT)
def test_no_text_becomes_a_directive(field: str, text: str) -> None:
    expected = skeleton(render(replace(DOOR, **FIELDS[field](GOOD.get(field, "x")))))
    try:
        config = render(replace(DOOR, **FIELDS[field](text)))
    except ValueError as error:
        assert "must" in str(error) or "needs" in str(error)  # noqa: PT017
        return
    assert skeleton(config) == expected
    assert not re.search(r"[^ -~\n]|\$\{|\\\n|\\\"", config)
    for line in config.splitlines():
        assert line.count('"') % 2 == 0 or "LogFormat" in line


@pytest.mark.parametrize(
    "text", ["a b", 'a"b', "a'b", "a\\", "a\nb", "${HOME}", "%{ENV:x}", "a<b", "a#b", "", "ä", "a\0"]
)
def test_what_no_word_may_hold(text: str) -> None:
    with pytest.raises(ValueError, match="this thing must"):
        words.quoted(text, "this thing")


@given(text=TEXT)
def test_a_secret_is_one_word_or_refused_and_never_told(text: str) -> None:
    for field in ("client_secret", "passphrase", "redis_password"):
        try:
            config = render_secrets(replace(SECRETS, **{field: text}))
        except ValueError as error:
            with pytest.raises(ValueError, match=field) as usual:
                render_secrets(replace(SECRETS, **{field: "!"}))
            assert str(error) == str(usual.value)  # noqa: PT017
            continue
        assert skeleton(config) == skeleton(render_secrets(SECRETS))
        assert "exec:" not in config


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"assistants": ()}, "needs assistants"),
        ({"assistants": (Assistant("oauth2", "a:80"),)}, "other than oauth2"),
        ({"assistants": (Assistant("a", "a:80"), Assistant("a", "b:80"))}, "name of its own"),
        ({"assistants": (Assistant("a", "a:80", (PathRule("/x", ()),)),)}, "nobody could use /x"),
        ({"assistants": (Assistant("a", "a:80", (PathRule("/x/../y", None),)),)}, "must be a path"),
        ({"assistants": (Assistant("a", "a:80", (PathRule("/", None),)),)}, "must be a path"),
        ({"assistants": (Assistant("a", "a:99999"),)}, "the upstream of a must be an address"),
        ({"host": "Bank.example"}, "host must be a host name in lower case"),
        ({"idle_seconds": 9}, "idle_seconds must be a whole number from 10"),
        ({"max_seconds": 0}, "max_seconds must be"),
        ({"hsts_seconds": 0}, "hsts_seconds must be"),
        ({"limits": Limits(client_requests=32768)}, "client_requests must be a whole number from 1 to 32767"),
        ({"limits": Limits(body_bytes=0)}, "body_bytes must be"),
        ({"exclusions": (949110,)}, "949110 is none"),
        ({"exclusions": (901001,)}, "901001 is none"),
        ({"exclusions": (1000,)}, "1000 is none"),
        ({"edge": Edge(cidrs=("10.0.0.1/8",))}, "a network of the edge must be"),
        ({"https_port": 70000}, "https_port must be"),
    ],
)
def test_what_can_not_be_served_is_refused_with_a_reason(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render(replace(DOOR, **fields))


def test_no_secret_is_in_the_config_or_in_a_traceback() -> None:
    assert "c" * 32 not in repr(SECRETS)
    config = render(DOOR)
    assert "Include secrets/secrets.conf" in config
    assert not re.search("OIDCClientSecret|Passphrase|CachePassword", config)


def test_everything_is_closed_that_is_not_opened() -> None:
    config = render(DOOR).splitlines()
    closed = config.index("<Location />")
    assert config[closed + 1] == "Require all denied"
    assert closed < min(n for n, line in enumerate(config) if line.startswith("<LocationMatch"))


def test_the_rules_of_an_assistant() -> None:
    rules = (PathRule("/a/b", ("guest",)), PathRule("/a", None), PathRule("/admin/x", None))
    config = render(replace(DOOR, assistants=(Assistant("bot", "bot:80", rules),)))
    assert any_of("roles", "owner", "admin", "member", "assistant[.]bot") in section(config, "^/bot/")
    assert "Require all granted" in section(config, "^/bot/a(?:/|$)")
    assert any_of("roles", "guest") in section(config, "^/bot/a/b(?:/|$)")
    order = [line for line in config.splitlines() if line.startswith("<LocationMatch") and "/bot/" in line]
    assert "admin(?:[^" in order[-2], "no rule may come after the administrators'"
    assert "Require all denied" in section(config, order[-1].split('"')[1])
    assert order.index('<LocationMatch "^/bot/a(?:/|$)">') < order.index('<LocationMatch "^/bot/a/b(?:/|$)">')
    administration = section(config, "(?i)^/bot/+admin(?:[^a-z0-9_-]|$)")
    assert any_of("roles", "owner", "admin") in administration
    for pattern in ("^/bot/", "^/bot/a/b(?:/|$)", "(?i)^/bot/+admin(?:[^a-z0-9_-]|$)"):
        assert any_of("acr", "mfa") in section(config, pattern)


def test_the_pages_of_a_guard_that_asks_are_open_to_who_may_be_asked() -> None:
    """They come last, for what is opened before is closed by the guard's own section."""
    with_login, without = "^/bot/domicile/(?:notice|consents)$", "^/bot/domicile/public/(?:notice|consents)$"
    for rules, asks, opened in (
        ((), False, []),
        ((PathRule("/a", None),), False, []),
        ((PathRule("/a", ("owner",)),), True, [with_login]),
        ((PathRule("/a", None),), True, [with_login, without]),
    ):
        config = render(replace(DOOR, assistants=(Assistant("bot", "bot:80", rules, asks=asks),)))
        order = re.findall(r'<LocationMatch "(.*)">', config)
        assert order[order.index("(?i)^/bot/+domicile(?:[^a-z0-9_-]|$)") + 1 :] == opened
    assert any_of("acr", "mfa") in section(config, with_login)
    assert "Require all granted" in section(config, without)
    assert "RequestHeader unset Domicile-Identity" in section(config, without)


def test_a_dot_of_a_prefix_is_a_dot() -> None:
    config = render(replace(DOOR, assistants=(Assistant("bot", "bot:80", (PathRule("/.well-known/x", None),)),)))
    assert section(config, "^/bot/[.]well-known/x(?:/|$)")


def test_the_start_leads_to_the_only_assistant_or_lists_all() -> None:
    assert "RewriteRule ^/$ /helpdesk/ [R=302,L]" in render(DOOR)
    two = render(replace(DOOR, assistants=(*DOOR.assistants, Assistant("sales", "sales:80"))))
    assert "href=/helpdesk/>helpdesk</a><li><a href=/sales/>" in two
    assert any_of("acr", "mfa") in section(two, "^/$")


def test_a_host_without_a_port_is_that_of_https() -> None:
    config = render(DOOR)
    assert 'ServerName "https://bank.example:443"' in config
    assert 'RewriteCond %{HTTP_HOST} "!=bank.example" [NC]' in config
    assert 'OIDCRedirectURI "https://bank.example/oauth2/callback"' in config
    other = render(replace(DOOR, host="bank.example:8443"))
    assert 'OIDCRedirectURI "https://bank.example:8443/oauth2/callback"' in other
    assert '"!=bank.example:443"' not in other


def test_an_edge_is_asked_for_only_where_there_is_one() -> None:
    config = render(DOOR)
    assert "RemoteIP" not in config
    assert "SSLVerifyClient" not in config
    assert "QS_ClientEventBlockCount" in config
    edge = render(replace(DOOR, edge=Edge(cidrs=("10.1.0.0/16", "2001:db8::/32"), client_ca=True)))
    assert "RemoteIPInternalProxy 10.1.0.0/16 2001:db8::/32" in edge
    assert "SSLVerifyClient require" in edge
    assert "QS_ClientEventBlockCount" not in edge, "everybody would be cut off with one"
    assert "RequestHeader unset X-Forwarded-For early" not in edge
    assert "RequestHeader unset X-Forwarded-For\n" in edge


def test_exclusions_come_after_the_rules_and_in_order() -> None:
    lines = firewall.directives(1000, (942100, 920350, 942100), "/tmp/door")
    assert lines[-2:] == ["SecRuleRemoveById 920350", "SecRuleRemoveById 942100"]


def test_the_session_store_learns_a_digest_and_allows_what_a_door_does() -> None:
    users = render_users({"doors": "s" * 32}, {})
    assert "s" * 32 not in users
    assert users.splitlines()[0] == "user default off"
    assert re.search(r"on #[0-9a-f]{64} resetchannels ~\* -@all \+auth", users)
    for user, password in (("a b", "s" * 32), ("a", "hidden hidden hidden"), ("a", "hidden")):
        with pytest.raises(ValueError, match="session store's") as refused:
            render_users({user: password}, {})
        assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            'door|security2|error|Zx1|ModSecurity: Access denied. [data "my secret"] [id "949110"] [uri "/x"]',
            {"level": "error", "module": "security2", "request": "Zx1", "rule": "949110"},
        ),
        ("door|core|error|-|AH00126: Invalid URI my secret", {"level": "error", "module": "core", "code": "AH00126"}),
        ("door|qos|warn|-|mod_qos(067): no, my secret", {"level": "warn", "module": "qos", "code": "mod_qos(067)"}),
        ("door|x|warn|-|oidc_authz: my secret", {"level": "warn", "module": "x", "code": "oidc_authz"}),
        ("door|core|error|my secret|AH00126: x", {"level": "error", "module": "core", "code": "AH00126"}),
        ('door|core|error|Z|my secret [id "123"] AH00126', {"level": "error", "module": "core", "request": "Z"}),
        ("my secret", {"level": "unknown"}),
        ("door|my secret|loud secret", {"level": "unknown"}),
    ],
)  # fmt: skip
def test_of_an_error_only_codes_are_kept(line: str, expected: dict[str, str]) -> None:
    assert kept(line) == expected


@given(st.text(), st.text())
def test_no_word_of_an_error_is_kept(before: str, after: str) -> None:
    assert "sécret" not in str(kept(f"{before}sécret{after}").values())
    assert "sécret" not in str(kept(f"door|core|error|-|{before} sécret {after}").values())


def test_the_benchmarks_closing_line() -> None:
    direct, door, busy = ({"p50": 0.1, "p99": 0.5, "rps": 9.0}, {"p50": 2.1, "p99": 7.5, "rps": 3.0}, {"rps": 412.4})
    slow = {"p50": 9.0, "p99": 90.0, "rps": 1.0}
    runs = {"direct": [direct] * 3, "door": [door, slow, door], "busy": [busy]}
    found = {
        "requests": {"runs": runs, "pss_mib": 83.4, "false_positive_pct": 0.5},
        "realms": {"made": 12.34, "looked_at": 60.0},
    }
    assert frontdoor.line(found) == (
        "added_p50_ms=2.00 added_p99_ms=7.00 rps=412 rss_mib=83 realms_per_min=12.3 false_positive_pct=0.5"
    )
