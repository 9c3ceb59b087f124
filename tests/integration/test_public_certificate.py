"""A front door's certificate by cert-manager, from the spec to the Secret: real controllers, a real ACME server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from cryptography import x509

from domicile.api.common import LABEL_TENANT_ID
from domicile.controllers.tenant import builders
from domicile.kube.apply import apply
from domicile.metrics import Metrics
from tests.authorities import Authority
from tests.integration.acme_server import ISSUER, issuing
from tests.integration.apiserver import ApiServer, free_port
from tests.integration.test_tenant import Object, World, keys, world  # noqa: F401  fixtures
from tests.unit.test_front_door import with_door
from tests.unit.test_issuance import STANDBY

SECRET = "front-door-tls"
HOST = "assistants.bank.example"


@pytest.fixture(scope="module")
def issuer(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with issuing(apiserver, tmp_path_factory.mktemp("acme")):
        yield ISSUER


def ask(of: World, host: str, **tls: Any) -> None:
    """A tenant with a front door; its identity server answers nobody, which is another condition's business."""
    unreachable = f"https://127.0.0.1:{free_port()}"
    of.apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "domicile-system"}})
    of.apply_zone(identity={"url": unreachable, "adminUrl": unreachable, "cidrs": ["127.0.0.1/32"]})
    tls = tls or {"issuer": {"name": ISSUER}}
    of.apply_tenant(access={"host": host, "tls": tls, "sso": {"localUsers": True}})


async def door_says(of: World, holds: Callable[[Object], bool], seconds: float = 60) -> Object:
    """FrontDoorReady, as soon as it is as wanted."""
    async with asyncio.timeout(seconds):
        while True:
            condition = (await of.reconcile())["FrontDoorReady"]
            if holds(condition):
                return condition
            await asyncio.sleep(0.2)


def kept(of: World) -> Object:
    found: Object = of.apiserver.get("secret", SECRET, "-n", of.tenant)
    return found


def shown(of: World) -> x509.Certificate:
    return x509.load_pem_x509_certificates(base64.b64decode(kept(of)["data"]["tls.crt"]))[0]


def certificates(of: World) -> list[str]:
    found = of.apiserver.get("certificates.cert-manager.io", "-n", of.tenant)["items"]
    return [c["metadata"]["name"] for c in found]


def start_door(of: World) -> None:
    """As if kubelets had started the door's pods: no node here does."""
    deployment = of.apiserver.get("deployment", "front-door", "-n", of.tenant)
    wanted, generation = deployment["spec"]["replicas"], deployment["metadata"]["generation"]
    status = {"observedGeneration": generation, "replicas": wanted}
    status |= {"updatedReplicas": wanted, "readyReplicas": wanted, "availableReplicas": wanted}
    patch = json.dumps({"status": status})
    command = (
        "patch",
        "deployment",
        "front-door",
        "-n",
        of.tenant,
        "--subresource=status",
        "--type=merge",
        "-p",
        patch,
    )
    of.apiserver.kubectl(*command)


def expiry(metrics: Metrics) -> float:
    name = 'domicile_certificate_expiry_timestamp_seconds{use="door"}'
    [line] = [x for x in metrics.render().decode().splitlines() if x.startswith(name)]
    return float(line.split()[1])


async def test_a_cluster_without_cert_manager_is_told_so(world: World) -> None:  # noqa: F811
    ask(world, HOST)
    condition = (await world.reconcile())["FrontDoorReady"]
    assert (condition["status"], condition["reason"]) == ("False", "CertManagerMissing")
    assert f"ClusterIssuer {ISSUER}" in condition["message"]
    assert "install cert-manager" in condition["message"]


async def test_a_certificate_is_ordered_issued_renewed_and_given_up(world: World, issuer: str) -> None:  # noqa: F811
    metrics = Metrics()
    world.controllers._tenants._metrics = metrics
    ask(world, f"{HOST}:8443")
    first = (await world.reconcile())["FrontDoorReady"]
    assert (first["status"], first["reason"]) == ("False", "CertificateNotIssued")
    await door_says(world, lambda c: c["reason"] == "AwaitingPods")
    start_door(world)
    assert (await door_says(world, lambda c: c["status"] == "True"))["reason"] == "Serving"
    issued = shown(world)
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert kept(world)["metadata"]["labels"][LABEL_TENANT_ID] == (await world.status())["tenantId"]
    assert expiry(metrics) == issued.not_valid_after_utc.timestamp()

    # Nothing is written again, and what cert-manager adds is left to it.
    before = world.apiserver.get("certificates.cert-manager.io", "front-door", "-n", world.tenant)
    await world.reconcile()
    after = world.apiserver.get("certificates.cert-manager.io", "front-door", "-n", world.tenant)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    # Renewed when 40 % of its life are left.
    life = issued.not_valid_after_utc - issued.not_valid_before_utc
    renewal = datetime.fromisoformat(after["status"]["renewalTime"])
    assert abs((issued.not_valid_after_utc - renewal) / life - 0.4) < 0.01

    due = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "as cmctl renew does"}
    patch = json.dumps({"status": {"conditions": [*after["status"]["conditions"], due]}})
    object_ = ("certificates.cert-manager.io", "front-door", "-n", world.tenant)
    world.apiserver.kubectl("patch", *object_, "--subresource=status", "--type=merge", "-p", patch)
    await door_says(world, lambda _: shown(world).serial_number != issued.serial_number)
    renewed = shown(world)
    assert renewed.public_key() != issued.public_key()
    assert (await door_says(world, lambda c: c["status"] == "True"))["reason"] == "Serving"
    assert expiry(metrics) == renewed.not_valid_after_utc.timestamp()

    ask(world, f"{HOST}:8443", secret=SECRET)
    await world.reconcile()
    assert certificates(world) == []
    assert shown(world).serial_number == renewed.serial_number


async def test_a_standby_follows_the_mirror_and_takes_over_without_an_order(world: World, issuer: str) -> None:  # noqa: F811
    ask(world, HOST)
    await door_says(world, lambda c: c["reason"] == "AwaitingPods")
    issued = shown(world)
    # As at the standby: there is no Certificate, and the mirror goes on with what the peer was issued.
    ask(world, HOST, secret=SECRET)
    await world.reconcile()
    assert certificates(world) == []
    standby = with_door({"tls": {"issuer": {"name": ISSUER}}}, claim=STANDBY)
    seen = replace(standby, name=world.tenant, tenant_id=(await world.status())["tenantId"])
    renewed = Authority("elsewhere").issue(HOST, hosts=(HOST,), days=(-1, 90))
    data = {k: base64.b64encode(v).decode() for k, v in zip(("tls.crt", "tls.key"), renewed, strict=True)}
    await apply(world.kube, builders.mirrored_secret(seen, SECRET, data))
    assert shown(world).serial_number != issued.serial_number
    copied = kept(world)

    ask(world, HOST)
    await world.reconcile()
    assert certificates(world) == ["front-door"]
    ready = ("wait", "--for=condition=Ready", "certificates.cert-manager.io/front-door", "-n", world.tenant)
    world.apiserver.kubectl(*ready, "--timeout=30s")
    assert kept(world)["data"] == copied["data"]
    requests = world.apiserver.get("certificaterequests.cert-manager.io", "-n", world.tenant)["items"]
    assert not [r for r in requests if r["metadata"]["creationTimestamp"] > copied["metadata"]["creationTimestamp"]]


async def test_a_refused_order_is_told_and_ends_with_the_tenant(world: World, issuer: str) -> None:  # noqa: F811
    ask(world, "assistants.refused.example")
    told = await door_says(world, lambda c: "Failed" in c["message"])
    assert (told["status"], told["reason"]) == ("False", "CertificateNotIssued")
    assert "Certificate front-door in namespace" in told["message"]
    assert "rejectedIdentifier" in told["message"]
    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    await world.controllers.reconcile("AssistantTenant", world.tenant)
    assert certificates(world) == []


async def test_a_certificate_of_a_persons_own_stays(world: World, issuer: str) -> None:  # noqa: F811
    ask(world, HOST, secret="own-tls")
    await world.reconcile()
    own = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "front-door", "namespace": world.tenant},
        "spec": {
            "secretName": "own-tls",
            "dnsNames": [HOST],
            "issuerRef": {"name": ISSUER, "kind": "ClusterIssuer"},
        },
    }
    world.apiserver.apply(own)
    told = await door_says(world, lambda c: c["reason"] == "AwaitingPods")
    assert told["status"] != "True"
    assert certificates(world) == ["front-door"]
