"""The pods' certificates as Secrets of a real API server."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from domicile.controllers.pki import holders
from domicile.controllers.pki.authority import KNOWN, LEAF, ROTATION, SLACK, BrokenError
from domicile.controllers.pki.keeper import SECRET, Keeper
from domicile.kube.client import Kube
from tests.integration.apiserver import ApiServer

Object = dict[str, Any]


class Clock:
    """The real time, and what was added to it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class World:
    """An installation in a namespace of its own, and two of its processes."""

    def __init__(self, kube: Kube, apiserver: ApiServer, namespace: str) -> None:
        self.kube = kube
        self.apiserver = apiserver
        self.namespace = namespace
        self.clock = Clock()
        self.keeper = Keeper(kube, namespace, self.clock)
        self.lease = holders.lease(namespace)
        apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def secret(self, name: str) -> dict[str, bytes]:
        found = self.apiserver.get("secret", name, "-n", self.namespace)
        return {k: base64.b64decode(v) for k, v in found["data"].items()}

    def authorities(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self.secret(SECRET)["ca.crt"])

    def writes(self) -> int:
        return len(
            [e for e in self.apiserver.audit(self.kube.user_agent) if e["objectRef"].get("namespace") == self.namespace]
        )


_numbers = iter(range(1000))


@pytest.fixture
async def world(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    kube = await Kube.connect(user_agent="pki-test")
    try:
        yield World(kube, apiserver, f"pki{next(_numbers)}")
    finally:
        await kube.close()


async def test_a_holder_gets_key_certificate_bundle_and_pair_and_then_nothing_is_written(world: World) -> None:
    standing = await world.keeper.see_to(world.lease, {"domicile.dev/zone": "eu"})
    held = world.secret("domicile-lease-tls")
    assert set(held) == {"tls.crt", "tls.key", "ca.crt", "identity.pem"}
    assert standing.fault is None
    assert standing.until == x509.load_pem_x509_certificate(held["tls.crt"]).not_valid_after_utc
    assert world.secret(SECRET)["ca.crt"] == held["ca.crt"]
    before = world.writes()
    assert before == 2
    assert await world.keeper.see_to(world.lease, {"domicile.dev/zone": "eu"}) == standing
    anew = Keeper(world.kube, world.namespace, world.clock)
    assert await anew.see_to(world.lease, {"domicile.dev/zone": "eu"}) == standing
    assert world.writes() == before
    assert world.secret("domicile-lease-tls") == held


async def test_two_processes_that_start_together_agree_on_one_authority(world: World) -> None:
    keepers = [Keeper(world.kube, world.namespace, world.clock) for _ in range(4)]
    made = await asyncio.gather(*(k.authorities() for k in keepers))
    assert {a.certificate.serial_number for m in made for a in m} == {c.serial_number for c in world.authorities()}
    assert len(world.authorities()) == 1


async def test_a_rotation_reaches_every_holder_step_by_step(world: World) -> None:
    def signed_by() -> int:
        [leaf] = x509.load_pem_x509_certificates(world.secret("domicile-lease-tls")["tls.crt"])
        return next(i for i, a in enumerate(world.authorities()) if a.subject == leaf.issuer)

    seen = []
    for ahead in (timedelta(), ROTATION, ROTATION + KNOWN, ROTATION + KNOWN + LEAF + SLACK):
        world.clock.ahead = ahead + timedelta(seconds=5)
        assert (await world.keeper.see_to(world.lease)).fault is None
        assert world.secret("domicile-lease-tls")["ca.crt"] == world.secret(SECRET)["ca.crt"]
        keys = world.secret(SECRET)["ca.key"].count(b"BEGIN PRIVATE KEY")
        seen.append((len(world.authorities()), keys, signed_by()))
    # Authorities, keys, and which of the authorities signed the leaf.
    assert seen == [(1, 1, 0), (2, 2, 0), (2, 1, 1), (1, 1, 0)]


async def test_what_others_did_to_a_secret_is_undone(world: World) -> None:
    await world.keeper.see_to(world.lease)
    patch = {"data": {"tls.key": base64.b64encode(b"another").decode(), "more": "eA=="}}
    world.apiserver.kubectl(
        "patch", "secret", "domicile-lease-tls", "-n", world.namespace, "-p", str(patch).replace("'", '"')
    )
    await world.keeper.see_to(world.lease)
    held = world.secret("domicile-lease-tls")
    assert set(held) == {"tls.crt", "tls.key", "ca.crt", "identity.pem"}
    assert held["identity.pem"] == held["tls.key"] + held["tls.crt"]


async def test_a_secret_of_somebody_else_is_left_alone_and_told(world: World) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "stringData": {"tls.key": "theirs"},
              "metadata": {"name": "domicile-lease-tls", "namespace": world.namespace}}  # fmt: skip
    world.apiserver.apply(theirs)
    standing = await world.keeper.see_to(world.lease)
    assert standing.until is None
    assert standing.fault == f"Secret domicile-lease-tls in namespace {world.namespace} is somebody else's: remove it"
    assert world.secret("domicile-lease-tls") == {"tls.key": b"theirs"}


async def test_an_authority_that_can_not_be_read_is_never_replaced(world: World) -> None:
    await world.keeper.authorities()
    keys = world.secret(SECRET)["ca.key"]
    world.apiserver.kubectl("patch", "secret", SECRET, "-n", world.namespace, "-p", '{"data":{"ca.crt":"eA=="}}')
    with pytest.raises(BrokenError, match=f"Secret {SECRET} holds .*: restore it, or delete it") as raised:
        await Keeper(world.kube, world.namespace, world.clock).authorities()
    assert "PRIVATE" not in str(raised.value)
    assert world.secret(SECRET)["ca.key"] == keys
    standing = await Keeper(world.kube, world.namespace, world.clock).see_to(world.lease)
    assert standing.fault == str(raised.value), "other things of a tenant go on, and it is said"


async def test_the_operators_own_leaf_is_kept_until_a_new_one_is_due(world: World) -> None:
    operator = holders.operator(world.namespace)
    first = await world.keeper.own(operator)
    assert await world.keeper.own(operator) == first
    world.clock.ahead = LEAF / 2
    assert await world.keeper.own(operator) == first
    world.clock.ahead = LEAF * 3 / 4
    second = await world.keeper.own(operator)
    assert second["tls.crt"] != first["tls.crt"]
    names = [o["metadata"]["name"] for o in world.apiserver.get("secrets", "-n", world.namespace)["items"]]
    assert names == [SECRET], "it is in no Secret"


async def test_no_key_is_logged_and_none_of_the_authority_reaches_a_holder(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await world.keeper.see_to(world.lease)
    held = b"".join(world.secret("domicile-lease-tls").values())
    for secret in (world.secret(SECRET)["ca.key"], world.secret("domicile-lease-tls")["tls.key"]):
        line = secret.splitlines()[1].decode()
        assert line not in caplog.text
        assert base64.b64encode(secret).decode()[:60] not in caplog.text
    assert world.secret(SECRET)["ca.key"].splitlines()[1] not in held
