"""The way out: real squid, stunnel, TLS origins and DNS; what gets through, and everything that must not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
from collections.abc import Iterator

import pytest

from domicile.controllers.egress.accounts import Destination
from domicile.controllers.pki import holders
from tests.integration.egress_server import (
    ALICE,
    BOB,
    EGRESS,
    HERE,
    PASSWORDS,
    Tunnel,
    WayOut,
    accounts_file,
    basic,
    client_hello,
    give,
    own_network,
    soon,
    squid_and_helpers,
    way_out,
)
from tests.pods import DOOR, authority, certificates

# One of each kind; where an address is many's, its first and its last.
BAD = (
    "0.0.0.1", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "169.254.169.254", "172.16.0.1",
    "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "::10.0.0.1",
    "::ffff:10.0.0.1", "::ffff:127.0.0.1",
    "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:a00:1::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "ff02::1",
)  # fmt: skip


INSIDE = "10.9.0.1"
ELSEWHERE = "10.66.0.1"
LISTS = {
    "alice": (
        Destination("api.example.com"),
        Destination("onprem.example.com", 8443, ("10.9.0.0/24", "fd12:3456::/48")),
        *(Destination(f"{kind}{number}.example.com") for kind in "pm" for number in range(len(BAD))),
        *(Destination(f"o{number}.example.com", 8443, ("10.9.0.0/24", "fd12:3456::/48")) for number in range(7)),
        Destination("six.example.com", 8443, ("10.9.0.0/24", "fd12:3456::/48")),
        *(Destination(f"{name}.example.com") for name in ("nowhere", "slow", "rebound")),
    ),
    "bob": (Destination("bob.example.com"), Destination("onprem.example.com", 8443, ("10.66.0.0/24",))),
}


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WayOut]:
    with own_network():
        for address in (INSIDE, ELSEWHERE, "fd12:3456::1", "2606:2800:21f::1"):
            give(address)
        with way_out(tmp_path_factory.mktemp("egress"), **LISTS) as made:
            made.names.put("api.example.com", HERE, "2606:2800:21f::1")
            made.names.put("bob.example.com", HERE)
            made.names.put("onprem.example.com", INSIDE)
            yield made


async def test_a_listed_host_is_reached_and_both_ends_are_told_of(way: WayOut) -> None:
    answer = await way.visit("api.example.com")
    assert (answer.status, answer.reply) == (200, b"hello")
    assert way.origins[443].seen[-1] == "api.example.com"
    opened = await way.told(event="opened", host="api.example.com")
    assert opened.items() >= {"reason": "allowed", "account": ALICE, "method": "CONNECT", "port": 443}.items()
    assert opened["sni"] == "api.example.com"
    closed = await way.told(event="closed", host="api.example.com")
    assert closed["address"] in {HERE, "2606:2800:21f::1"}
    assert closed["sent"] > 500
    assert closed["ms"] >= 0
    assert way.squid.health() == way.tls.health() == 200


async def test_case_and_the_dot_of_a_full_name_make_no_difference(way: WayOut) -> None:
    assert (await way.visit("API.Example.com.", sni="api.EXAMPLE.com")).reply == b"hello"


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("bob.example.com", 443, "not-listed"),
        ("www.example.com", 443, "not-listed"),
        ("www.api.example.com", 443, "not-listed"),
        ("example.com", 443, "not-listed"),
        ("api.example.com", 8443, "port"),
        ("api.example.com", 80, "port"),
        (HERE, 443, "not-listed"),
        ("[2606:2800:21f::1]", 443, "not-listed"),
        ("[::ffff:93.184.215.14]", 443, "not-listed"),
        ("1572394766", 443, "not-listed"),
        ("0x5db8d70e", 443, "not-listed"),
        ("api.example.com.evil.test", 443, "not-listed"),
    ],
)
async def test_what_the_tenant_does_not_list_is_refused_with_the_reason(
    way: WayOut, host: str, port: int, reason: str
) -> None:
    answer = await way.visit(host, port)
    assert (answer.status, answer.page) == (407, reason)
    assert (await way.told(event="refused", reason=reason, port=port))["account"] == ALICE


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "TRACE", "PURGE"])
async def test_nothing_but_connect(way: WayOut, method: str) -> None:
    tunnel = await Tunnel.to_proxy(way.context())
    lines = (f"{method} http://api.example.com/secret?q=1 HTTP/1.1", "Host: api.example.com", "Content-Length: 0")
    answer = await tunnel.ask(*lines, "Connection: Upgrade", "Upgrade: h2c", basic(ALICE, PASSWORDS[ALICE]))
    tunnel.close()
    assert (answer.status, answer.page) == (407, "method")
    assert "secret" not in way.squid.out + way.squid.err


@pytest.mark.parametrize("sni", ["bob.example.com", "www.api.example.com", "xn--api.example.com", None])
async def test_tls_must_name_what_was_asked_for(way: WayOut, sni: str | None) -> None:
    seen = len(way.origins[443].seen)
    answer = await way.visit("api.example.com", sni=sni)
    assert (answer.status, answer.reply) == (200, None)
    assert (await way.told(event="refused", reason="sni-mismatch", sni=sni))["host"] == "api.example.com"
    assert len(way.origins[443].seen) == seen


async def test_no_name_that_is_not_listed_is_looked_up(way: WayOut) -> None:
    """It could carry bytes to whoever answers for it: as the host, or within TLS."""
    assert (await way.visit("one.carried.example.com")).page == "not-listed"
    assert (await way.visit("api.example.com", sni="two.carried.example.com")).reply is None
    await way.told(reason="sni-mismatch", sni="two.carried.example.com")
    # It does look up what is listed, and that comes after the others.
    assert (await way.visit("nowhere.example.com")).page == "dns"
    assert "nowhere.example.com" in way.names.asked
    assert not [name for name in way.names.asked if "carried" in name]


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", b"SSH-2.0-x\r\n", b"\0" * 600])
async def test_what_is_no_tls_goes_nowhere(way: WayOut, said: bytes) -> None:
    tunnel, answer = await way.connect("api.example.com")
    assert answer.status == 200
    assert await tunnel.say(said) == b""
    tunnel.close()
    assert (await way.told(event="refused", reason="not-tls"))["host"] == "api.example.com"


@pytest.mark.parametrize(("number", "address"), list(enumerate(BAD)))
async def test_a_listed_name_with_an_address_that_is_not_public_is_refused(
    way: WayOut, number: int, address: str
) -> None:
    for host, addresses in ((f"p{number}.example.com", [address]), (f"m{number}.example.com", [HERE, address])):
        way.names.put(host, *addresses)
        answer = await way.visit(host)
        assert (answer.status, answer.page) == (407, "private-destination"), host


async def test_a_name_without_an_address_is_refused(way: WayOut) -> None:
    assert (await way.visit("nowhere.example.com")).page == "dns"
    assert (await way.told(event="refused", reason="dns"))["host"] == "nowhere.example.com"


async def test_a_named_private_destination_has_the_addresses_that_are_named_for_that_tenant(
    way: WayOut,
) -> None:
    host = "onprem.example.com"
    assert (await way.visit(host, 8443)).reply == b"hello"
    assert (await way.told(event="closed", host=host))["address"] == INSIDE
    assert (await way.visit(host, 8443, account=BOB)).page == "private-destination"


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("o0", [ELSEWHERE]),
        ("o1", [INSIDE, ELSEWHERE]),
        ("o2", [HERE]),
        ("o3", [INSIDE, HERE]),
        ("o4", ["fd12:3457::1"]),
        ("o5", ["127.0.0.1"]),
        ("o6", ["::ffff:10.66.0.1"]),
    ],
)
async def test_and_no_other_not_even_a_public_one(way: WayOut, name: str, addresses: list[str]) -> None:
    way.names.put(f"{name}.example.com", *addresses)
    assert (await way.visit(f"{name}.example.com", 8443)).page == "private-destination"


async def test_a_private_address_of_ipv6_can_be_named(way: WayOut) -> None:
    way.names.put("six.example.com", "fd12:3456::1")
    assert (await way.visit("six.example.com", 8443)).reply == b"hello"


async def test_a_name_that_turns_private_while_the_client_is_silent_is_not_followed(way: WayOut) -> None:
    """The address is looked up anew when TLS comes: what was checked at CONNECT no longer counts."""
    turned: list[str] = []
    way.names.put("slow.example.com", HERE, ttl=0)
    way.names.answers["slow.example.com"] = lambda: turned or [HERE]
    tunnel, answer = await way.connect("slow.example.com")
    assert answer.status == 200
    turned.append(ELSEWHERE)
    # Longer than squid remembers any name, which is its negative_dns_ttl.
    await asyncio.sleep(6)
    assert not await tunnel.start_tls(way.trust(), "slow.example.com")
    tunnel.close()
    told = await way.told(event="refused", host="slow.example.com")
    assert (told["reason"], told["address"]) == ("private-destination", None)


async def test_rebinding_never_gets_through(way: WayOut) -> None:
    """Every lookup gives the other one of two addresses, and both are origins that would answer."""
    turn = 0

    def next_one() -> list[str]:
        nonlocal turn
        turn += 1
        return [(HERE, ELSEWHERE)[turn // 2 % 2]]

    way.names.put("rebound.example.com", HERE, ttl=0)
    way.names.answers["rebound.example.com"] = next_one
    last = asyncio.get_running_loop().time() + 24
    while asyncio.get_running_loop().time() < last:
        await asyncio.gather(*(way.visit("rebound.example.com") for _ in range(10)))
    closed = way.decisions(host="rebound.example.com")
    assert {d["address"] for d in closed} <= {HERE, None}
    assert {"allowed", "private-destination"} <= {str(d["reason"]) for d in closed}
    assert len(closed) > 500, "too few to mean anything"


@pytest.mark.parametrize(
    "header",
    [
        "",
        basic(ALICE, PASSWORDS[BOB]),
        basic(ALICE, ""),
        basic("", ""),
        basic("c" * 32, PASSWORDS[ALICE]),
        basic(ALICE.upper(), PASSWORDS[ALICE]),
        f"Proxy-Authorization: Bearer {PASSWORDS[ALICE]}",
        "Proxy-Authorization: Basic !!!",
        "Proxy-Authorization: Basic",
        f"Authorization: Basic {PASSWORDS[ALICE]}",
    ],
)
async def test_without_the_accounts_own_password_nothing_opens(way: WayOut, header: str) -> None:
    answer = await way.visit("api.example.com", header=header)
    assert (answer.status, answer.page) == (407, "credential")


async def test_a_second_connect_on_a_refused_connection_needs_its_own_credential(way: WayOut) -> None:
    tunnel, answer = await way.connect("www.example.com")
    assert answer.status == 407
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        answer = await tunnel.ask("CONNECT api.example.com:443 HTTP/1.1", "Host: api.example.com:443")
    tunnel.close()
    assert answer.status == 407


async def test_each_tenant_has_its_own_list(way: WayOut) -> None:
    assert (await way.visit("bob.example.com", account=BOB)).reply == b"hello"
    assert (await way.visit("api.example.com", account=BOB)).page == "not-listed"


async def test_only_pods_of_the_installation_get_as_far_as_that(way: WayOut) -> None:
    strangers = (
        way.context(DOOR, authority()),
        way.context(holders.lease("domicile-system")),
        way.trust(),
    )

    async def ask(context: ssl.SSLContext) -> None:
        tunnel = await Tunnel.to_proxy(context)
        await tunnel.ask("CONNECT api.example.com:443 HTTP/1.1", basic(ALICE, PASSWORDS[ALICE]))

    for context in strangers:
        # Of TLS 1.3 a client hears of its certificate's refusal when it reads.
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(context)


@pytest.mark.parametrize(
    "name",
    ['x"}\n{"event":"opened', "x%0a%22", "x\r\ny", "x y", 'x","reason":"allowed', "\x1b[2Jx", "\\u0000", "a" * 250],
)
async def test_no_name_forges_a_line(way: WayOut, name: str) -> None:
    """As raw bytes in TLS' own field, as no client library sends them."""
    before = way.squid.out.count("\n")
    tunnel, answer = await way.connect("api.example.com")
    assert answer.status == 200
    assert await tunnel.say(client_hello(name.encode("latin-1"))) == b""
    tunnel.close()
    await soon("it is told", lambda: way.squid.out.count("\n") > before)
    [line] = way.squid.out.splitlines()[before:]
    told = json.loads(line)
    assert told["event"] == "refused"
    assert told["reason"] in {"sni-mismatch", "not-tls"}
    assert told["account"] == ALICE


@pytest.mark.parametrize(
    "host", ['x"y', "x%0ay", "x'y", "x\\y", "x{y}", "a" * 300, "x\ty", "api.example.com#", "u@api.example.com"]
)
async def test_nor_does_a_host(way: WayOut, host: str) -> None:
    before = way.squid.out.count("\n")
    tunnel = await Tunnel.to_proxy(way.context())
    answer = await tunnel.ask(f"CONNECT {host}:443 HTTP/1.1", "Host: x", basic(ALICE, PASSWORDS[ALICE]))
    tunnel.close()
    assert answer.status != 200
    await soon("it is told", lambda: way.squid.out.count("\n") > before)
    [line] = way.squid.out.splitlines()[before:]
    assert json.loads(line)["event"] == "refused"


async def test_a_new_list_counts_at_once_and_open_tunnels_go_on(way: WayOut) -> None:
    """The first change is the helpers' alone; the second has other private addresses, so squid is reloaded."""
    tunnel, answer = await way.connect("api.example.com")
    assert answer.status == 200
    assert await tunnel.start_tls(way.trust(), "api.example.com")
    squid, _ = squid_and_helpers(way.squid)
    try:
        for lists in (
            {"alice": (Destination("new.example.com"),)},
            {"alice": (Destination("new.example.com", 443, ("10.77.0.0/16", f"{HERE}/32")),)},
        ):
            way.names.put("new.example.com", HERE)
            way.list(**lists)
            assert (await way.visit("new.example.com")).reply == b"hello"
            assert (await way.visit("api.example.com")).page == "not-listed"
            assert (await way.visit("bob.example.com", account=BOB)).page == "credential"
            assert await tunnel.say(b"still") == b"still"
        assert squid_and_helpers(way.squid)[0] == squid
    finally:
        tunnel.close()
        way.list(**LISTS)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{}",
        b'{"accounts": [{}]}',
        b'{"accounts": [], "more": 1}',
        accounts_file(LISTS).replace(b"api.example.com", b".example.com"),
        accounts_file(LISTS).replace(b"api.example.com", b"93.184.215.14"),
        accounts_file(LISTS).replace(b"api.example.com", b"a\\nhttp_access allow all"),
        accounts_file(LISTS).replace(b"10.9.0.0/24", b"127.0.0.0/24"),
        accounts_file(LISTS).replace(b"10.9.0.0/24", b"10.9.0.1/24"),
        accounts_file(LISTS).replace(BOB.encode(), ALICE.encode()),
    ],
)
async def test_a_broken_list_is_told_and_the_old_one_stays(way: WayOut, broken: bytes) -> None:
    before = len(_complaints(way))
    way.lists.put({"accounts.json": broken})
    await soon("it is told", lambda: len(_complaints(way)) > before)
    assert _complaints(way)[-1].startswith("The old config keeps serving")
    assert (await way.visit("api.example.com")).reply == b"hello"
    restored = len(way.squid.events("restored"))
    way.lists.put({"accounts.json": accounts_file(LISTS)})
    await soon("it is whole again", lambda: len(way.squid.events("restored")) > restored)


def _complaints(way: WayOut) -> list[str]:
    return [event["message"] for event in way.squid.events("refused") if "message" in event]


async def test_no_log_has_a_password(way: WayOut) -> None:
    assert (await way.visit("api.example.com")).reply == b"hello"
    logs = way.squid.out + way.squid.err + way.tls.out + way.tls.err
    for password in PASSWORDS.values():
        assert password not in logs
    for account, password in PASSWORDS.items():
        assert basic(account, password).rpartition(" ")[2] not in logs


async def test_new_certificates_are_taken_and_open_tunnels_go_on(way: WayOut) -> None:
    tunnel, _ = await way.connect("api.example.com")
    assert await tunnel.start_tls(way.trust(), "api.example.com")
    way.tls.mount(way.certificates, certificates(EGRESS, way.authority))
    assert (await way.visit("api.example.com")).reply == b"hello"
    assert await tunnel.say(b"still") == b"still"
    tunnel.close()


async def test_without_a_helper_nothing_opens(way: WayOut) -> None:
    """Who asks meanwhile waits, and hears a refusal when it has ended; squid starts new ones."""
    _, helpers = squid_and_helpers(way.squid)
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    attempts = [asyncio.create_task(way.visit("api.example.com")) for _ in range(3)]
    _, pending = await asyncio.wait(attempts, timeout=2)
    assert len(pending) == 3
    for pid in helpers:
        os.kill(pid, signal.SIGKILL)
    for attempt in await asyncio.gather(*attempts, return_exceptions=True):
        assert isinstance(attempt, Exception) or attempt.reply is None
    await soon("there are others", lambda: not {*helpers} & {*squid_and_helpers(way.squid)[1]})
    assert (await way.visit("api.example.com")).reply == b"hello"
