"""The certificate by which a front door's pods reach others: a Secret of the tenant's namespace."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509

from tests.integration.test_tenant import World, keys, world  # noqa: F401  fixtures

SECRET = "front-door-pods-tls"
# Nobody answers there: a certificate needs no identity server.
NOWHERE = {"url": "https://localhost:9", "adminUrl": "https://localhost:9"}


@pytest.fixture
def asked(world: World) -> World:  # noqa: F811
    """A tenant that wants single sign-on."""
    world.apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "domicile-system"}})
    world.apply_zone(identity=NOWHERE)
    world.apply_tenant(access={"host": "bank.example", "tls": {"secret": "bank-tls"}, "sso": {"localUsers": True}})
    return world


async def test_a_door_has_a_certificate_of_its_own_that_its_pods_mount(asked: World) -> None:
    await asked.reconcile()
    found = asked.apiserver.get("secret", SECRET, "-n", asked.tenant)
    held = {k: base64.b64decode(v) for k, v in found["data"].items()}
    certificate = x509.load_pem_x509_certificate(held["tls.crt"])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    accounts = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert accounts == [f"spiffe://domicile/ns/{asked.tenant}/sa/front-door"]
    deployment = asked.apiserver.get("deployment", "front-door", "-n", asked.tenant)
    [volume] = [v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "pods-tls"]
    assert volume["secret"]["secretName"] == SECRET
    assert {i["key"] for i in volume["secret"]["items"]} <= held.keys()


async def test_a_secret_of_somebody_else_in_its_place_is_left_alone_and_told(asked: World) -> None:
    own = {"name": asked.tenant, "labels": {"domicile.dev/tenant": asked.tenant}}
    asked.apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": own})
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": asked.tenant}}
    asked.apiserver.apply(theirs | {"stringData": {"tls.crt": "theirs"}})
    ready = (await asked.reconcile())["WorkloadReady"]
    assert ready["status"] == "False"
    assert f"Secret {SECRET} in namespace {asked.tenant} is somebody else's: remove it" in ready["message"]
    kept = asked.apiserver.get("secret", SECRET, "-n", asked.tenant)["data"]
    assert kept == {"tls.crt": base64.b64encode(b"theirs").decode()}
