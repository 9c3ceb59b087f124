"""The way out's accounts as Secrets of a real API server, read back by what squid's helper reads them with."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domicile.controllers.egress.accounts import OWN, Destination
from domicile.controllers.egress.destinations import TENANT_KEY, TENANT_SECRET, url
from domicile.controllers.egress.keeper import FILE, OWN_SECRETS, SECRET, Egress
from domicile.gateway.egress.accounts import Book, decide, parse
from domicile.kube.client import Kube
from tests.integration.apiserver import ApiServer

ONE, TWO = "1" * 32, "2" * 32
API = (Destination("api.example"),)
_numbers = iter(range(1000))


class World:
    """An installation with two tenants' namespaces."""

    def __init__(self, kube: Kube, apiserver: ApiServer, name: str) -> None:
        self.kube, self.apiserver, self.name = kube, apiserver, name
        self.egress = Egress(kube, name)
        self.tenants = (f"{name}-one", f"{name}-two")
        for namespace in (name, *self.tenants):
            apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def _value(self, secret: str, key: str, namespace: str) -> bytes:
        found: dict[str, Any] = self.apiserver.get("secret", secret, "-n", namespace)
        assert set(found["data"]) == {key}
        return base64.b64decode(found["data"][key])

    def book(self) -> Book:
        return parse(self._value(SECRET, FILE, self.name))

    def credential(self, tenant: str) -> str:
        return f"Basic {base64.b64encode(self._value(TENANT_SECRET, TENANT_KEY, tenant)).decode()}"

    def writes(self) -> int:
        return len([e for e in self.apiserver.audit(self.kube.user_agent) if self.name in e["objectRef"]["namespace"]])


@pytest.fixture
async def world(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    kube = await Kube.connect(user_agent="egress-test")
    try:
        yield World(kube, apiserver, f"egress{next(_numbers)}")
    finally:
        await kube.close()


async def test_a_tenant_proves_itself_by_what_lies_in_its_own_namespace_and_only_a_digest_is_elsewhere(
    world: World,
) -> None:
    one, two = world.tenants
    await world.egress.see_to(one, ONE, API, {"domicile.dev/tenant": one})
    await world.egress.see_to(two, TWO, (Destination("other.example", 8443, ("10.9.0.0/24",)),), {})
    book, proof = world.book(), world.credential(one)
    assert decide(book, proof, "api.example", "443") == (ONE, "public", "allowed")
    assert decide(book, world.credential(two), "api.example", "443") == (TWO, None, "not-listed")
    assert decide(book, world.credential(two), "other.example", "8443").route in book.routes
    password = base64.b64decode(proof.partition(" ")[2]).partition(b":")[2]
    assert password not in world._value(SECRET, FILE, world.name)
    before = world.writes()
    await world.egress.see_to(one, ONE, API, {"domicile.dev/tenant": one})
    assert world.writes() == before
    assert world.credential(one) == proof


async def test_pods_of_the_way_out_look_at_a_new_list_at_once(world: World) -> None:
    one, _ = world.tenants
    meta = {"namespace": world.name, "labels": {"app.kubernetes.io/name": "domicile"}}
    for name in ("egress", "operator"):
        labels = {**meta["labels"], "app.kubernetes.io/component": name}
        spec = {"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "default"}
        world.apiserver.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": world.name},
            },
            {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "name": name, "labels": labels}, "spec": spec},
        )

    def stamp(pod: str) -> str | None:
        found = world.apiserver.get("pod", pod, "-n", world.name)["metadata"].get("annotations", {})
        return found.get("egress.domicile.dev/accounts")

    await world.egress.see_to(one, ONE, API, {})
    first = stamp("egress")
    assert first
    before = world.writes()
    await world.egress.see_to(one, ONE, API, {})
    assert world.writes() == before
    await world.egress.see_to(one, ONE, (), {})
    assert stamp("egress") not in {None, first}
    assert stamp("operator") is None
    # Who uses the account of the installation runs already, and waits for it.
    await world.egress.see_to_own(OWN, API)
    used = stamp("operator")
    assert used
    await world.egress.see_to_own(OWN, (*API, Destination("more.example")))
    assert stamp("operator") == used


async def test_another_operator_goes_on_with_the_same_passwords(world: World) -> None:
    one, _ = world.tenants
    await world.egress.see_to(one, ONE, API, {})
    proof = world.credential(one)
    await Egress(world.kube, world.name).see_to(one, ONE, (*API, Destination("more.example")), {})
    assert world.credential(one) == proof
    assert decide(world.book(), proof, "more.example", "443").reason == "allowed"


async def test_who_reaches_nothing_any_more_has_no_account(world: World) -> None:
    one, two = world.tenants
    for tenant, tenant_id in ((one, ONE), (two, TWO)):
        await world.egress.see_to(tenant, tenant_id, API, {})
    await world.egress.see_to(one, ONE, (), {})
    assert set(world.book().accounts) == {TWO}
    await world.egress.keep({ONE})
    assert not world.book().accounts


async def test_the_installation_itself_has_an_account_and_no_tenant_is_told(world: World) -> None:
    one, _ = world.tenants
    await world.egress.see_to_own(OWN, (Destination("s3.example"),))
    await world.egress.see_to(one, ONE, API, {})
    proof = f"Basic {base64.b64encode(world._value(OWN_SECRETS[OWN], TENANT_KEY, world.name)).decode()}"
    assert decide(world.book(), proof, "s3.example", "443") == (OWN, "public", "allowed")
    assert decide(world.book(), proof, "api.example", "443").reason == "not-listed"
    assert decide(world.book(), world.credential(one), "s3.example", "443").reason == "not-listed"
    await world.egress.keep(())
    assert set(world.book().accounts) == {OWN}
    before = world.writes()
    await world.egress.see_to_own(OWN, (Destination("s3.example"),))
    assert world.writes() == before
    await world.egress.see_to_own(OWN, ())
    assert not world.book().accounts


async def test_an_earlier_tenant_of_the_name_lends_nobody_its_password(world: World) -> None:
    one, _ = world.tenants
    await world.egress.see_to(one, ONE, API, {})
    before = world.credential(one)
    await world.egress.see_to(one, ONE, (), {})
    await world.egress.see_to(one, TWO, API, {})
    assert world.credential(one) != before
    assert decide(world.book(), before, "api.example", "443").reason == "credential"


async def test_the_file_is_there_before_the_first_tenant_and_comes_back_where_it_is_spoiled(world: World) -> None:
    await world.egress.keep(())
    assert not world.book().accounts
    spoiled = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": world.name}}
    world.apiserver.apply(spoiled | {"stringData": {FILE: "{"}})
    await world.egress.see_to(world.tenants[0], ONE, API, {})
    assert set(world.book().accounts) == {ONE}


def test_gateways_call_it_by_the_name_in_its_certificate() -> None:
    assert url("domicile-system") == "https://domicile-egress.domicile-system.svc:3129"
