"""Between doors and session store: real stunnel and redis, each other's certificates, and every way to go wrong."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from domicile.controllers.door.sessions import render_users
from domicile.controllers.pki import holders
from domicile.controllers.pki.authority import bundle
from domicile.controllers.pki.leaf import Holder
from tests.integration.door_server import end, family, until
from tests.integration.session_server import STORE, Store, Talk, Tunnel, session_store
from tests.pods import DOOR, authority, certificates


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with session_store(tmp_path_factory.mktemp("sessions") / "store") as made:
        yield made


def known(store: Store, way: Tunnel) -> Talk:
    """A door's connection that has given its password, at the second try if need be, as mod_auth_openidc does."""
    for _ in range(2):
        talk = way.open()
        if talk.say("AUTH", "doors", store.password) == "+OK":
            return talk
    raise AssertionError("the store is not reached")


def straight(store: Store, folder: Path, mounted: dict[str, bytes], newest: ssl.TLSVersion | None = None) -> str:
    """What the store's port answers to TLS without a tunnel, with these certificates; empty where it hangs up."""
    context = ssl.create_default_context(cadata=bundle((store.authority,)).decode())
    if newest:
        context.maximum_version = newest
    if mounted:
        for name, content in mounted.items():
            (folder / name).write_bytes(content)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with socket.create_connection(("127.0.0.1", store.port), 20) as plain:
        try:
            return Talk(context.wrap_socket(plain, server_hostname="localhost")).say("PING")
        except ssl.SSLError:
            return ""


def serial(store: Store) -> str:
    """The certificate that the store shows to anybody."""
    return ssl.get_server_certificate(("127.0.0.1", store.port))


def test_what_a_door_writes_is_what_another_reads(store: Store) -> None:
    one, other = known(store, store.way), known(store, store.tunnel())
    assert one.say("SETEX", "s:abc", "60", "sealed") == "+OK"
    assert other.say("GET", "s:abc") == "sealed"


def test_the_store_talks_to_nobody_without_a_certificate_of_the_sites_authority(store: Store, tmp_path: Path) -> None:
    good = certificates(DOOR, store.authority)
    assert straight(store, tmp_path, good).startswith("-NOAUTH")
    assert straight(store, tmp_path, good, ssl.TLSVersion.TLSv1_2) == ""
    assert straight(store, tmp_path, {}) == ""
    assert straight(store, tmp_path, certificates(DOOR, authority())) == ""
    assert straight(store, tmp_path, certificates(STORE, store.authority)) == "", "servers call nobody"
    with socket.create_connection(("127.0.0.1", store.port), 20) as plain:
        assert Talk(plain).say("PING") == ""


def test_a_certificate_is_no_account(store: Store) -> None:
    assert store.way.open().say("GET", "s:abc") == "-NOAUTH Authentication required."
    assert "WRONGPASS" in store.way.open().say("AUTH", "doors", "guessed")
    assert "WRONGPASS" in store.ask("PING", user="default")
    assert "WRONGPASS" in store.ask("PING", user="domicile-keeper")


def test_a_door_believes_only_its_own_sites_store(store: Store) -> None:
    distrusting = store.tunnel(mounted=certificates(DOOR, store.authority, authority()))
    assert distrusting.open().say("PING") == ""
    until("it is told", lambda: "verify failed" in distrusting.err)
    until("nobody thinks it is well", lambda: bool(distrusting.events("unreachable")))


@pytest.mark.parametrize("other", [holders.lease("domicile-system"), holders.door("shop")], ids=["server", "door"])
def test_nobody_else_of_the_site_passes_for_the_store(store: Store, other: Holder) -> None:
    tunnel, good = store.tunnel(), certificates(STORE, store.authority)
    store.mount(store.tls, certificates(other, store.authority))
    try:
        assert tunnel.open().say("PING") == ""
        until("it is told", lambda: "Rejected by CERT at depth=0" in tunnel.err)
    finally:
        store.mount(store.tls, good)
    assert known(store, tunnel).say("PING") == "+PONG"


def test_the_tunnel_is_for_its_own_pod(store: Store) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", store.way.port), 5)


def test_new_certificates_and_a_new_authority_arrive_without_a_lost_session(store: Store, tmp_path: Path) -> None:
    """At every step an open connection goes on, and a new one opens; redis is the same process throughout."""
    tunnel, old = store.tunnel(), store.authority
    _, redis = family(store.process.pid)
    talk = known(store, tunnel)
    assert talk.say("SETEX", "s:kept", "600", "sealed") == "+OK"

    def goes_on() -> None:
        assert talk.say("GET", "s:kept") == "sealed"
        assert known(store, tunnel).say("GET", "s:kept") == "sealed"

    shown = {serial(store)}
    new = authority()
    # A new leaf; then the new authority is believed, then shown; then the old one is forgotten.
    for issuer, trusted in ((old, (old,)), (old, (old, new)), (new, (old, new)), (new, (new,))):
        for server, holder in ((store, STORE), (tunnel, DOOR)):
            server.mount(server.tls, certificates(holder, issuer, *trusted))
            goes_on()
        shown.add(serial(store))
    assert len(shown) == 5
    assert straight(store, tmp_path, certificates(DOOR, old)) == ""
    assert family(store.process.pid)[1:] == [redis]
    store.authority = new
    store.way.mount(store.way.tls, certificates(DOOR, new))


@pytest.mark.parametrize("end_of", ["store", "tunnel"])
@pytest.mark.parametrize("what", ["pair", "no key", "no authority"])
def test_broken_certificates_are_told_and_the_old_keep_serving(store: Store, end_of: str, what: str) -> None:
    server, holder = (store, STORE) if end_of == "store" else (store.way, DOOR)
    good, other = (certificates(holder, store.authority) for _ in range(2))
    server.mount(server.tls, good)
    broken = {
        "pair": good | {"tls.key": other["tls.key"]},
        "no key": {k: v for k, v in good.items() if k != "tls.key"},
        "no authority": good | {"ca.crt": b"nothing"},
    }[what]
    told, reloaded = len(server.events("refused")), len(server.events("reloaded"))
    server.tls.put(broken)
    until("the refusal", lambda: len(server.events("refused")) > told)
    assert server.events("refused")[-1]["message"].startswith("The old config keeps serving: ")
    assert known(store, store.way).say("PING") == "+PONG"
    server.tls.put(good)
    until("all is well", lambda: bool(server.events("restored")))
    assert len(server.events("reloaded")) == reloaded


def test_a_new_password_is_taken_without_a_lost_session(store: Store) -> None:
    assert known(store, store.way).say("SETEX", "s:older", "600", "sealed") == "+OK"
    old, store.password = store.password, "n" * 32
    store.mount(store.users, {"users.acl": render_users({"doors": store.password}, {}).encode()})
    assert known(store, store.way).say("GET", "s:older") == "sealed"
    assert "WRONGPASS" in store.way.open().say("AUTH", "doors", old)


def test_accounts_that_redis_can_not_read_are_told_until_they_are_mended(store: Store) -> None:
    before, told = len(store.events("reloaded")), len(store.events("refused"))
    store.users.put({"users.acl": b"user doors on #nonsense ~* +get\n"})
    until("the refusal", lambda: len(store.events("refused")) > told)
    assert "redis answers to ACL LOAD: -ERR" in store.events("refused")[-1]["message"]
    assert "nonsense" not in store.err
    assert known(store, store.way).say("PING") == "+PONG"
    store.users.put({"users.acl": render_users({"doors": store.password}, {}).encode()})
    until("all is well", lambda: len(store.events("reloaded")) > before)
    assert known(store, store.way).say("PING") == "+PONG"


def test_a_dead_tunnel_fails_its_probe_and_a_missing_store_does_not(store: Store) -> None:
    tunnel = store.tunnel()
    until("the probe is good", lambda: tunnel.health() == 200)
    end(store.process)
    assert tunnel.open().say("PING") == ""
    assert tunnel.health() == 200
    store.start()
    stunnel = family(tunnel.process.pid)[1]
    os.kill(stunnel, signal.SIGSTOP)
    try:
        until("the probe fails", lambda: tunnel.health() == 503, 40)
        assert tunnel.events("stuck")
    finally:
        os.kill(stunnel, signal.SIGCONT)
    until("the probe is good again", lambda: tunnel.health() == 200)
    os.kill(stunnel, signal.SIGKILL)
    assert tunnel.process.wait(10) == 128 + signal.SIGKILL


def test_a_store_that_hangs_fails_its_probe(store: Store) -> None:
    assert store.health() == 200
    redis = family(store.process.pid)[1]
    os.kill(redis, signal.SIGSTOP)
    try:
        assert store.health() == 503
    finally:
        os.kill(redis, signal.SIGCONT)
    until("the probe is good again", lambda: store.health() == 200)


def test_they_end_when_they_are_told_to(store: Store) -> None:
    tunnel = store.tunnel()
    tunnel.process.terminate()
    assert tunnel.process.wait(10) == 0
    store.process.terminate()
    assert store.process.wait(10) == 0
    store.start()


def test_the_tunnel_is_confined_and_small(store: Store) -> None:
    pids = family(store.way.process.pid)
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        assert status["Uid"].split() == ["65532"] * 4
        assert int(status["CapEff"], 16) == 0
    root = Path(f"/proc/{pids[0]}/root")
    for place in ("", "etc", "var/tmp", "run"):
        with pytest.raises(OSError, match="Read-only file system"):
            (root / place / "written").touch()
    assert {p.name for p in (root / "tmp").iterdir()} == {"tunnel"}
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n") for pid in pids]
    kib = sum(int(line.split()[1]) for lines in rollups for line in lines if line.startswith("Pss:"))
    assert kib < 32 * 1024


def test_logs_tell_of_certificates_and_of_no_session(store: Store) -> None:
    talk = known(store, store.way)
    assert talk.say("SETEX", "s:private-name", "60", "private-value") == "+OK"
    told = "".join(s.out + s.err for s in (store, store.way))
    assert "private" not in told
    assert store.password not in told
