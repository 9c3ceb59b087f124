"""The tenant controller against a real API server and real object stores of two clouds."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domicile.api.common import FINALIZER
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantSpec
from domicile.api.zone import Site, Subject
from domicile.backup import claims, mirror
from domicile.backup.kek import KeyRing, generate
from domicile.backup.keys import mint_tenant_key, open_tenant_key
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import Bucket, StoreError
from domicile.controllers import sites as sites_module
from domicile.controllers.mirrors import MirrorController
from domicile.controllers.registry import Controllers
from domicile.controllers.sites import SiteStores
from domicile.controllers.tenant.plan import plan
from domicile.controllers.tenant.storage import TenantStorage
from domicile.controllers.tenant.view import Platform
from domicile.controllers.zones import Zones
from domicile.kube.client import Kube
from domicile.kube.events import Events
from domicile.kube.status import remove_finalizer
from domicile.metrics import Metrics
from tests.integration.apiserver import ApiServer
from tests.integration.stores_fixture import StoreSites, fake_gcs, make_site
from tests.unit.views import CONTRACT, OUTSIDE

API = "domicile.dev/v1alpha1"
Object = dict[str, Any]
_numbers = itertools.count()

PLATFORM = Platform(
    "domicile-system",
    "domicile.dev/domicile:0.1.0",
    "IfNotPresent",
    ("gcp-frankfurt",),
    "domicile.dev/frontdoor:0.1.0",
    "domicile.dev/gateway:0.1.0",
)


class World:
    """One cluster that is gcp-frankfurt, a zone of its own in real stores, and one operator's controllers."""

    def __init__(self, kube: Kube, apiserver: ApiServer, stores: StoreSites, keys: Path) -> None:
        self.kube = kube
        self.apiserver = apiserver
        self.credentials = stores.credentials
        self.keys = keys
        self.identity = keys / "identity"
        self.number = next(_numbers)
        self.zone_name = f"zone{self.number}"
        self.tenant = f"tenant{self.number}"
        self.woken: list[tuple[str, str]] = []
        self.gcp = self._site(stores.gcp)
        self.aws = self._site(stores.aws)
        for name in ("gcp-frankfurt", "aws-frankfurt"):
            if not (keys / f"{name}.public.json").exists():
                generate(name, keys)
        self.controllers = self.operator()

    def _site(self, site: Site, **stores: Any) -> Site:
        names = {role: f"{site.cloud}-{role}-{self.number}" for role in ("replica", "keys", "control")}
        live = {"live": {"pool": [f"{site.cloud}-live-{self.number}"]}}
        made = make_site(site.name, site.cloud, site.region, site.stores.endpoint, **(names | live | stores))
        for bucket in (*names.values(), *(made.stores.live.pool or ())):
            open_bucket(made, bucket, self.credentials).create_bucket()
        return made

    def operator(self, *, goes_out: bool = False) -> Controllers:
        """A fresh operator, as after a restart."""
        return Controllers(
            self.kube,
            Events(self.kube, "test"),
            replace(PLATFORM, goes_out=goes_out),
            credentials=self.credentials,
            keys=self.keys,
            identity=self.identity,
            models=self.identity,
            resync_seconds=30,
            wake=lambda kind, name: self.woken.append((kind, name)),
            metrics=Metrics(),
        )

    def apply_zone(self, *sites: Site, **changes: Any) -> None:
        spec = {
            "jurisdiction": "EU",
            "allowedRegions": [
                {"cloud": "gcp", "regions": ["europe-west3"]},
                {"cloud": "aws", "regions": ["eu-central-1"]},
            ],
            "sites": [s.to_wire() for s in sites or (self.gcp, self.aws)],
            "modelProviders": [
                {
                    "name": "local",
                    "service": {"namespace": "models", "name": "m", "port": 8080, "podLabels": {"app": "m"}},
                    "models": ["small"],
                },
                OUTSIDE,
            ],
            "attestations": [
                {
                    "site": s.name,
                    "subject": subject,
                    "statement": "a test's server on this machine",
                    "attestedOn": "2026-01-01",
                    "expiresOn": "2099-01-01",
                }
                for s in sites or (self.gcp, self.aws)
                for subject in Subject
            ],
            **changes,
        }
        meta = {"name": self.zone_name}
        self.apiserver.apply({"apiVersion": API, "kind": "ResidencyZone", "metadata": meta, "spec": spec})

    def apply_tenant(self, **changes: Any) -> None:
        spec = {
            "zone": self.zone_name,
            "assistants": [{"name": "helpdesk", "mode": "free", "image": "registry.example/helpdesk:1"}],
            "model": {"providers": [{"name": "local"}], "model": "small"},
            **changes,
        }
        meta = {"name": self.tenant}
        self.apiserver.apply({"apiVersion": API, "kind": "AssistantTenant", "metadata": meta, "spec": spec})

    def reached(self) -> set[tuple[str, str]]:
        """Accounts of the way out and the hosts on their lists."""
        found = self.apiserver.get("secret", "domicile-egress", "-n", "domicile-system")
        accounts = json.loads(base64.b64decode(found["data"]["accounts.json"]))["accounts"]
        return {(a["id"], d["host"]) for a in accounts for d in a["destinations"]}

    async def reconcile(self) -> dict[str, Object]:
        """Reconcile once; the conditions by type."""
        await self.controllers.reconcile("AssistantTenant", self.tenant)
        return {c["type"]: c for c in (await self.status()).get("conditions", [])}

    def storage(self, site: str) -> TenantStorage:
        return TenantStorage(self.served().model_copy(update={"site": site}), SiteStores(self.credentials, self.keys))

    async def follow(self, site: str) -> None:
        """One look at the mirror, as a site's operator."""
        zones = Zones(self.kube, SiteStores(self.credentials, self.keys), (site,))
        await MirrorController(self.kube, zones).follow(self.served().model_copy(update={"site": site}))

    def made(self) -> set[tuple[str, str]]:
        """Kind and name of all in the tenant's namespace that is not of Kubernetes' own controllers."""
        kinds = "deployment,service,poddisruptionbudget,serviceaccount,networkpolicy,secret,configmap,job"
        listed = self.apiserver.get(kinds, "-n", self.tenant)["items"]
        own = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}
        return {(o["kind"], o["metadata"]["name"]) for o in listed} - own

    async def planned(self) -> set[tuple[str, str]]:
        """Kind and name of all that a plan says of that namespace."""
        found = await self.kube.read(API, "AssistantTenant", self.tenant)
        spec = AssistantTenantSpec.model_validate((found or {})["spec"])
        told = plan(self.tenant, spec, self.served(), PLATFORM, datetime.now(UTC))
        return {(o["kind"], o["metadata"]["name"]) for o in told.objects if o["kind"] != "Namespace"}

    async def status(self) -> Object:
        found = await self.kube.read(API, "AssistantTenant", self.tenant)
        return (found or {}).get("status", {})

    def objects(self, site: Site) -> dict[str, list[str]]:
        """Names of all objects in the buckets of a site."""
        stores = site.stores
        names = (stores.replica, stores.keys, stores.control, *(stores.live.pool or ()))
        return {n: [o.name for o in open_bucket(site, n, self.credentials).list()] for n in names}

    def served(self) -> ServedZone:
        spec = self.apiserver.get("residencyzone", self.zone_name)["spec"]
        return ServedZone.model_validate({"name": self.zone_name, "site": "gcp-frankfurt", "spec": spec})


async def test_the_way_to_stores_is_there_before_they_are_asked(world: World) -> None:
    """Without it nothing that asks them could start."""
    endpoints = {"gcp": "https://gcs.example.com", "aws": "https://s3.example.com:9000"}
    stores = {
        s.cloud: s.stores.model_copy(update={"endpoint": endpoints[s.cloud], "endpoint_cidrs": ["10.9.0.0/24"]})
        for s in (world.gcp, world.aws)
    }
    sites = [s.model_copy(update={"stores": stores[s.cloud]}) for s in (world.gcp, world.aws)]
    server = {"url": "https://sso.example.com", "adminUrl": "https://admin.example.com"}
    world.apply_zone(*sites, identity=server)
    # Nothing listens there.
    with suppress(StoreError):
        await world.operator(goes_out=True).reconcile("ResidencyZone", world.zone_name)
    assert {("installation", "gcs.example.com"), ("installation", "s3.example.com")} <= world.reached()
    assert {account for account, host in world.reached() if host == "admin.example.com"} == {"logins"}
    made = (("domicile-way-out", {"egress"}), ("domicile-way-out-logins", {"egress"}))
    for name, keys in (*made, ("domicile-way-out-tls", {"tls.crt", "tls.key", "ca.crt"})):
        assert world.apiserver.get("secret", name, "-n", "domicile-system")["data"].keys() >= keys
    # So many that a condition has no room for all of them.
    hosts = [f"{'x' * 60}{n}.example.com" for n in range(8)]
    dates = {
        "attestedOn": "2026-01-01",
        "expiresOn": "2099-01-01",
        "place": "Frankfurt",
        "statement": "as in the contract",
    }
    issuer = {"issuer": "https://login.example.com", "hosts": hosts, "cidrs": ["0.0.0.0/0"], **dates}
    world.apply_zone(*sites, identity=server | {"cidrs": ["169.254.0.0/16"]}, externalIssuers=[issuer])
    with suppress(StoreError):
        await world.operator(goes_out=True).reconcile("ResidencyZone", world.zone_name)
    [ready] = world.apiserver.get("residencyzone", world.zone_name)["status"]["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "AddressesRefused")
    assert "admin.example.com: 169.254.0.0/16" in ready["message"]
    assert ("installation", "gcs.example.com") in world.reached(), "nothing else is closed by it"
    assert "logins" not in {account for account, _ in world.reached()}
    # Switched off, it opens nothing any more.
    with suppress(StoreError):
        await world.operator().reconcile("ResidencyZone", world.zone_name)
    assert "installation" not in {account for account, _ in world.reached()}


async def test_authorities_of_a_store_that_are_none_are_told(world: World) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    stores = world.gcp.stores.model_copy(update={"endpoint": "https://gcs.example.com"})
    world.apply_zone(world.gcp.model_copy(update={"stores": stores, "store_ca_bundle": broken}), world.aws)
    with suppress(StoreError):
        await world.operator().reconcile("ResidencyZone", world.zone_name)
    [ready] = world.apiserver.get("residencyzone", world.zone_name)["status"]["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "StoreAuthoritiesUnreadable")
    assert "gcp-frankfurt" in ready["message"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
async def world(
    apiserver: ApiServer, store_sites: StoreSites, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    apiserver.apply(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/region": "europe-west3"}},
        }
    )
    kube = await Kube.connect(user_agent=f"tenant-test-{next(_numbers)}-")
    yield World(kube, apiserver, store_sites, keys)
    await kube.close()


async def test_a_tenant_comes_into_being(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    conditions = await world.reconcile()
    status = await world.status()
    tenant = status["tenantId"]
    assert status["role"] == "Active"
    assert status["claim"] == {"number": 1, "holder": "gcp-frankfurt"}
    assert conditions["ResidencyCompliant"]["reason"] == "Attested"
    assert {
        k: conditions[k]["status"] for k in ("StorageReady", "EncryptionReady", "NetworkIsolated")
    } == dict.fromkeys(("StorageReady", "EncryptionReady", "NetworkIsolated"), "True")
    assert conditions["Ready"]["status"] == "False"
    assert conditions["Reconciling"]["reason"] == "Progressing"
    deployment = world.apiserver.get("deployment", "helpdesk", "-n", world.tenant)
    assert deployment["spec"]["replicas"] == 2
    for site in (world.gcp, world.aws):
        control = open_bucket(site, site.stores.control, world.credentials)
        assert claims.read_claim(control, tenant, 1).holder == "gcp-frankfurt"
        assert mirror.tenants(control) == [tenant]
        wraps = open_bucket(site, site.stores.keys, world.credentials)
        own = KeyRing(world.keys, world.credentials).own(world.served().model_copy(update={"site": site.name}))
        assert open_tenant_key(own, wraps, tenant, world.zone_name).secret
    names = str([world.objects(s) for s in (world.gcp, world.aws)])
    assert world.tenant not in names


async def test_the_steady_state_writes_nothing(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    for _ in range(3):
        await world.reconcile()
    before = world.apiserver.audit(world.kube.user_agent)
    stored = [world.objects(s) for s in (world.gcp, world.aws)]
    for _ in range(3):
        await world.reconcile()
    assert world.apiserver.audit(world.kube.user_agent) == before
    assert [world.objects(s) for s in (world.gcp, world.aws)] == stored


async def test_a_tenant_that_asks_has_guards_that_are_told_what(world: World) -> None:
    world.apply_zone()
    asked = {"notice": {"version": "1", "texts": {"en": "No insults."}}}
    world.apply_tenant(consent=asked)
    assert (await world.reconcile())["ConsentsValid"]["reason"] == "Valid"

    def told() -> Any:
        return json.loads(world.apiserver.get("configmap", "consents", "-n", world.tenant)["data"]["consents.json"])

    def deployed() -> Object:
        found: Object = world.apiserver.get("deployment", "helpdesk", "-n", world.tenant)
        return found

    assert told()["consent"]["notice"] == asked["notice"]
    assert told()["bucket"] == (await world.status())["storage"]["bucket"]
    (guard,) = deployed()["spec"]["template"]["spec"]["initContainers"]
    assert "consents" in {m["name"] for m in guard["volumeMounts"]}
    assert await world.planned() <= world.made()

    # Another text reaches the guards by the file, and no pod is replaced for it.
    before = deployed()["metadata"]["generation"]
    world.apply_tenant(consent={"notice": {"version": "2", "texts": {"en": "No jokes."}}})
    await world.reconcile()
    assert told()["consent"]["notice"]["version"] == "2"
    assert deployed()["metadata"]["generation"] == before
    world.apply_tenant()
    assert (await world.reconcile())["ConsentsValid"]["reason"] == "NotAsked"
    (guard,) = deployed()["spec"]["template"]["spec"]["initContainers"]
    assert "DOMICILE_CONSENTS" not in {e["name"] for e in guard["env"]}

    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    await world.reconcile()
    assert ("ConfigMap", "consents") not in world.made()


async def test_drift_is_repaired(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    world.apiserver.kubectl("delete", "service", "helpdesk", "-n", world.tenant)
    world.apiserver.kubectl(
        "patch", "networkpolicy", "default-deny", "-n", world.tenant, "--type=merge", "-p", '{"spec":{"ingress":[{}]}}'
    )
    world.apiserver.kubectl("delete", "networkpolicy", "allow-dns", "-n", world.tenant)
    await world.reconcile()
    assert world.apiserver.get("service", "helpdesk", "-n", world.tenant)["spec"]["ports"][0]["port"] == 80
    assert not world.apiserver.get("networkpolicy", "default-deny", "-n", world.tenant)["spec"].get("ingress")
    assert world.apiserver.get("networkpolicy", "allow-dns", "-n", world.tenant)


async def test_a_plan_names_what_the_operator_makes(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    assert world.made() == await world.planned()


async def test_an_assistant_that_leaves_the_spec_runs_no_more_and_another_gets_its_certificate(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    held = world.apiserver.get("secret", "helpdesk-pods-tls", "-n", world.tenant)
    assert set(held["data"]) == {"tls.crt", "tls.key", "ca.crt", "identity.pem"}
    world.apply_tenant(assistants=[{"name": "reports", "mode": "free", "image": "registry.example/reports:1"}])
    await world.reconcile()
    for api_version, kind in (
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("policy/v1", "PodDisruptionBudget"),
        ("v1", "ServiceAccount"),
    ):
        assert await world.kube.read(api_version, kind, "helpdesk", world.tenant) is None
        assert await world.kube.read(api_version, kind, "reports", world.tenant) is not None
    assert await world.kube.read("v1", "Secret", "reports-pods-tls", world.tenant) is not None


REFUSALS: list[tuple[str, Object, str, str]] = [
    ("zone", {"zone": "atlantis"}, "ResidencyCompliant", "ZoneNotFound"),
    ("home", {"homeSite": "gcp-iowa"}, "ResidencyCompliant", "HomeSiteUnknown"),
    (
        "provider",
        {"model": {"providers": [{"name": "outside"}], "model": "big"}},
        "ResidencyCompliant",
        "ModelProviderOutside",
    ),
    (
        "egress",
        {"network": {"additionalEgress": [{"host": "www.example", "port": 443, "contract": "Acme Ltd"}]}},
        "ResidencyCompliant",
        "EgressNotAllowed",
    ),
]


async def test_what_a_tenant_reaches_outside_follows_its_zone(world: World) -> None:
    listed = {
        "host": "api.acme.example",
        "port": 443,
        "contract": {
            "processor": "Acme Ltd",
            "place": "Ireland",
            "statement": "The contract of the 3rd of May.",
            "attestedOn": "2026-01-01",
            "expiresOn": "2099-01-01",
        },
    }
    world.apply_zone(allowedDestinations=[listed])
    asked = [{"host": "api.acme.example", "port": 443, "contract": "Acme Ltd"}]
    world.apply_tenant(network={"additionalEgress": asked})
    await world.reconcile()
    tenant_id = (await world.status())["tenantId"]
    assert (tenant_id, "api.acme.example") in world.reached()
    assert world.made() == await world.planned()
    world.apply_zone(allowedDestinations=[])
    await world.controllers.reconcile("ResidencyZone", world.zone_name)
    conditions = await world.reconcile()
    assert conditions["ResidencyCompliant"]["reason"] == "EgressNotAllowed"
    assert not [host for account, host in world.reached() if account == tenant_id]


@pytest.mark.parametrize(("what", "changes", "kind", "reason"), REFUSALS, ids=[r[0] for r in REFUSALS])
async def test_bad_input_creates_nothing(world: World, what: str, changes: Object, kind: str, reason: str) -> None:
    world.apply_zone()
    world.apply_tenant(**changes)
    conditions = await world.reconcile()
    assert (conditions[kind]["status"], conditions[kind]["reason"]) == ("False", reason)
    assert conditions["Stalled"]["reason"] == reason
    assert not any(names for s in (world.gcp, world.aws) for names in world.objects(s).values())
    assert await world.kube.read("v1", "Namespace", world.tenant) is None


async def test_a_zone_that_changes_has_its_tenants_looked_at(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    for changes, woken in (({}, True), ({}, False), ({"modelRegions": ["germanywestcentral"]}, True)):
        world.woken.clear()
        world.apply_zone(**changes)
        await world.controllers.reconcile("ResidencyZone", world.zone_name)
        assert (("AssistantTenant", world.tenant) in world.woken) == woken
        assert {name for _, name in world.woken} <= {world.tenant}


async def test_a_zone_without_a_site_here_is_refused(world: World) -> None:
    iowa = world.gcp.model_copy(update={"name": "gcp-iowa", "region": "us-central1"})
    world.apply_zone(
        iowa, jurisdiction="US", allowedRegions=[{"cloud": "gcp", "regions": ["us-central1"]}], attestations=[]
    )
    world.apply_tenant()
    conditions = await world.reconcile()
    assert conditions["ResidencyCompliant"]["reason"] == "ZoneNotServedHere"
    assert "gcp-iowa" in conditions["ResidencyCompliant"]["message"]
    assert await world.kube.read("v1", "Namespace", world.tenant) is None


@pytest.fixture(scope="module")
def american() -> Iterator[str]:
    with fake_gcs("US-EAST1") as server:
        yield server.url


async def test_an_american_store_gets_no_byte_of_an_european_tenant(world: World, american: str) -> None:
    away = world._site(make_site("gcp-frankfurt", "gcp", "europe-west3", american))
    world.apply_zone(away, world.aws)
    world.apply_tenant()
    conditions = await world.reconcile()
    compliant = conditions["ResidencyCompliant"]
    assert (compliant["status"], compliant["reason"]) == ("False", "StoreOutsideZone")
    assert "us-east1" in compliant["message"].lower()
    assert not any(names for s in (away, world.aws) for names in world.objects(s).values())
    assert await world.kube.read("v1", "Namespace", world.tenant) is None


async def test_a_foreign_namespace_is_left_alone(world: World) -> None:
    world.apiserver.kubectl("create", "namespace", world.tenant)
    before = world.apiserver.get("namespace", world.tenant)["metadata"]["resourceVersion"]
    world.apply_zone()
    world.apply_tenant()
    conditions = await world.reconcile()
    assert conditions["WorkloadReady"]["reason"] == "NamespaceConflict"
    assert world.apiserver.get("namespace", world.tenant)["metadata"]["resourceVersion"] == before
    world.apiserver.kubectl("label", "namespace", world.tenant, f"domicile.dev/tenant={world.tenant}")
    assert (await world.reconcile())["WorkloadReady"]["reason"] == "Progressing"


async def test_a_missing_secret_is_named_and_its_arrival_heals(world: World) -> None:
    world.apply_zone()
    world.apply_tenant(assistants=[{"name": "helpdesk", "mode": "free", "image": "i:1", "envSecrets": ["crm"]}])
    workload = (await world.reconcile())["WorkloadReady"]
    assert (workload["reason"], "crm" in workload["message"]) == ("SecretMissing", True)
    world.apiserver.kubectl("create", "secret", "generic", "crm", "-n", world.tenant, "--from-literal=token=t0psecret")
    assert (await world.reconcile())["WorkloadReady"]["reason"] == "Progressing"
    status = await world.status()
    control = open_bucket(world.aws, world.aws.stores.control, world.credentials)
    wraps = open_bucket(world.aws, world.aws.stores.keys, world.credentials)
    at_peer = world.served().model_copy(update={"site": "aws-frankfurt"})
    own = KeyRing(world.keys, world.credentials).own(at_peer)
    key = open_tenant_key(own, wraps, status["tenantId"], world.zone_name)
    found = mirror.read(control, key, status["tenantId"], world.zone_name)
    assert found is not None
    assert found[1]["secrets"]["crm"] == {"token": "dDBwc2VjcmV0"}
    sealed = b"".join(control.read(o.name) for o in control.list())
    assert b"t0psecret" not in sealed
    assert b"dDBwc2VjcmV0" not in sealed


async def test_an_unreachable_store_is_said_and_nothing_is_lost(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    known = await world.status()
    dead = world.gcp.stores.model_copy(update={"endpoint": "http://127.0.0.1:1"})
    world.controllers = world.operator()
    original = sites_module.open_bucket

    def broken(site: Site, name: str, credentials: Path, *deadlines: Any) -> Bucket:
        return original(
            site.model_copy(update={"stores": dead}) if site.name == "gcp-frankfurt" else site,
            name,
            credentials,
            *deadlines,
        )

    sites_module.open_bucket = broken  # type: ignore[assignment]
    try:
        conditions = await world.reconcile()
    finally:
        sites_module.open_bucket = original
    assert conditions["Ready"]["status"] == "False"
    assert (await world.status())["tenantId"] == known["tenantId"]
    world.controllers = world.operator()
    assert (await world.reconcile())["StorageReady"]["status"] == "True"
    assert (await world.status())["claim"] == known["claim"]


async def test_a_wrong_key_is_said(world: World, tmp_path: Path) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    for name in ("gcp-frankfurt", "aws-frankfurt"):
        generate(name, tmp_path)
    world.keys = tmp_path
    world.controllers = world.operator()
    conditions = await world.reconcile()
    assert conditions["EncryptionReady"]["status"] == "False"
    assert conditions["EncryptionReady"]["reason"] == "KeyUnavailable"
    assert conditions["Ready"]["status"] == "False"


async def test_suspend_changes_nothing(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    world.apply_tenant(suspend=True)
    world.apiserver.kubectl("delete", "service", "helpdesk", "-n", world.tenant)
    conditions = await world.reconcile()
    assert conditions["Reconciling"]["reason"] == "Suspended"
    assert await world.kube.read("v1", "Service", "helpdesk", world.tenant) is None


async def _asked(world: World) -> list[str]:
    """Base URLs that the tenant's gateway is told."""
    told = await world.kube.read("v1", "ConfigMap", "gateway", world.tenant)
    assert told is not None
    return [e["baseUrl"] for e in json.loads(told["data"]["gateway.json"])["endpoints"]]


async def test_whom_the_zone_no_longer_has_is_asked_no_more_though_nothing_else_may_change(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    assert await _asked(world) == ["http://m.models.svc:8080/v1"]
    world.apply_zone(modelProviders=[OUTSIDE])
    await world.controllers.reconcile("ResidencyZone", world.zone_name)
    assert (await world.reconcile())["ResidencyCompliant"]["reason"] == "ModelProviderUnknown"
    assert await _asked(world) == []
    assert await world.kube.read("apps/v1", "Deployment", "helpdesk", world.tenant) is not None


async def test_who_may_process_outside_is_asked_no_more(world: World) -> None:
    inside = OUTSIDE | {"models": ["small"], "contract": CONTRACT | {"expiresOn": "2099-01-01"}}
    world.apply_zone(modelProviders=[inside], modelRegions=["germanywestcentral"])
    world.apply_tenant(model={"providers": [{"name": "outside"}], "model": "small"})
    await world.reconcile()
    assert await _asked(world) == ["https://models.example/v1"]
    world.apply_zone(modelProviders=[inside], modelRegions=["swedencentral"])
    await world.controllers.reconcile("ResidencyZone", world.zone_name)
    assert (await world.reconcile())["ResidencyCompliant"]["reason"] == "ModelProviderOutside"
    assert await _asked(world) == []


async def test_deletion_stops_isolates_and_keeps_the_data(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    status = await world.status()
    before = [world.objects(s) for s in (world.gcp, world.aws)]
    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    while await world.controllers.reconcile("AssistantTenant", world.tenant) is not None:
        continue
    assert await world.kube.read(API, "AssistantTenant", world.tenant) is None
    # Nothing was taken away; both mirrors say that the tenant is gone.
    told = {f"tenants/{status['tenantId']}/{2:010d}"}
    for site, had in zip((world.gcp, world.aws), before, strict=True):
        for bucket, names in world.objects(site).items():
            assert set(names) - set(had[bucket]) == (told if bucket == site.stores.control else set())
            assert set(had[bucket]) <= set(names)
    # The peer, which had no such object yet, makes none now.
    await world.follow("aws-frankfurt")
    assert await world.kube.read(API, "AssistantTenant", world.tenant) is None
    policies = await world.kube.list("networking.k8s.io/v1", "NetworkPolicy", world.tenant)
    assert [p["metadata"]["name"] for p in policies] == ["default-deny"]
    emptied = await world.kube.read("v1", "Secret", "gateway", world.tenant)
    assert emptied is not None
    assert not emptied.get("data")
    assert await world.kube.read("apps/v1", "Deployment", "helpdesk", world.tenant) is None
    events = world.apiserver.get("events.events.k8s.io", "-n", "default")["items"]
    farewell = [e["note"] for e in events if e["reason"] == "Deleted" and e["regarding"]["name"] == world.tenant]
    assert len(farewell) == 1
    assert status["storage"]["bucket"] in farewell[0]
    # The name is free again; the data is not.
    world.apply_tenant()
    await world.reconcile()
    assert (await world.status()).get("tenantId") != status["tenantId"]


async def test_a_deleted_tenants_standby_gives_its_name_free_and_nothing_else(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    deleted = (await world.status())["tenantId"]
    await world.follow("aws-frankfurt")
    assert (await world.status())["tenantId"] == deleted
    world.storage("gcp-frankfurt").retire(deleted, world.tenant)
    await world.follow("aws-frankfurt")
    assert "tenantId" not in await world.status()
    await world.follow("aws-frankfurt")
    assert "tenantId" not in await world.status()


async def test_a_standby_does_not_become_a_tenant_that_starts_elsewhere(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    found = await world.kube.read(API, "AssistantTenant", world.tenant)
    assert found is not None
    # As another cluster would have it: the same name, but at home there.
    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    await remove_finalizer(world.kube, await world.kube.read(API, "AssistantTenant", world.tenant), FINALIZER)  # type: ignore[arg-type]
    world.apply_tenant(homeSite="aws-frankfurt")
    await world.follow("aws-frankfurt")
    assert "tenantId" not in await world.status()


async def test_a_mirrored_tenant_that_the_cluster_refuses_keeps_no_other_from_its_standby(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    tenant, storage = (await world.status())["tenantId"], world.storage("gcp-frankfurt")
    document = storage.mirrored(tenant)
    assert document is not None
    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    await remove_finalizer(world.kube, await world.kube.read(API, "AssistantTenant", world.tenant), FINALIZER)  # type: ignore[arg-type]
    strange, at_peer = "0" * 32, world.storage("aws-frankfurt")
    controls = [open_bucket(s, s.stores.control, world.credentials) for s in (world.gcp, world.aws)]
    wraps = [open_bucket(s, s.stores.keys, world.credentials) for s in (world.gcp, world.aws)]
    ring, served = KeyRing(world.keys, world.credentials), world.served()
    mint_tenant_key(ring.own(served), wraps[0], strange, world.zone_name, ring.peer(served), wraps[1])
    mirror.publish(controls, at_peer.open_key(strange), strange, world.zone_name, document | {"name": "kube-system"})
    await world.follow("aws-frankfurt")
    assert (await world.status())["tenantId"] == tenant


async def test_a_policy_of_somebody_else_is_no_isolation(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    meta = {"name": "allow-all", "namespace": world.tenant}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
    world.apiserver.apply(policy)
    isolated = (await world.reconcile())["NetworkIsolated"]
    assert (isolated["status"], isolated["reason"]) == ("False", "ForeignPolicies")
    world.apiserver.kubectl("delete", "networkpolicy", "allow-all", "-n", world.tenant)
    assert (await world.reconcile())["NetworkIsolated"]["status"] == "True"


async def test_a_pod_template_that_the_api_server_refuses_is_said(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    await world.reconcile()
    mount = {"name": "nowhere", "mountPath": "/x"}
    template = {"spec": {"containers": [{"name": "assistant", "volumeMounts": [mount]}]}}
    world.apply_tenant(assistants=[{"name": "helpdesk", "mode": "free", "image": "i:1", "podTemplate": template}])
    conditions = await world.reconcile()
    assert (conditions["Ready"]["status"], conditions["WorkloadReady"]["reason"]) == ("False", "Refused")
    assert "nowhere" in conditions["WorkloadReady"]["message"]


class CrashError(BaseException):
    """The process died here."""


class Crashing:
    """A bucket whose process dies before or after the n-th write."""

    def __init__(self, bucket: Bucket, countdown: list[int]) -> None:
        self._bucket = bucket
        self._countdown = countdown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    def create(self, name: str, data: bytes) -> None:
        self._countdown[0] -= 1
        if self._countdown[0] == 0:
            raise CrashError
        self._bucket.create(name, data)
        self._countdown[0] -= 1
        if self._countdown[0] == 0:
            raise CrashError


async def test_an_operator_that_dies_at_any_store_write_leaves_a_tenant_that_heals(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply_zone()
    live = [f"gcp-live-{world.number}", *(f"gcp-spare-{world.number}-{n}" for n in range(40))]
    for name in live[1:]:
        open_bucket(world.gcp, name, world.credentials).create_bucket()
    died = 0
    for step in itertools.count(1):
        countdown = [step]

        def crashing(
            site: Site, name: str, credentials: Path, *deadlines: Any, countdown: list[int] = countdown
        ) -> Any:
            return Crashing(open_bucket(site, name, credentials, *deadlines), countdown)

        pool = world.gcp.stores.model_copy(update={"live": world.gcp.stores.live.model_copy(update={"pool": live})})
        fresh = World.__new__(World)
        fresh.__dict__.update(
            world.__dict__, tenant=f"{world.tenant}-{step}", gcp=world.gcp.model_copy(update={"stores": pool})
        )
        fresh.zone_name = f"{world.zone_name}-crash"
        if step == 1:
            fresh.apply_zone()
        fresh.apply_tenant()
        monkeypatch.setattr(sites_module, "open_bucket", crashing)
        fresh.controllers = fresh.operator()
        try:
            await fresh.reconcile()
            crashed = False
        except CrashError:
            crashed = True
        monkeypatch.setattr(sites_module, "open_bucket", open_bucket)
        if not crashed:
            break
        died += 1
        fresh.controllers = fresh.operator()
        for _ in range(2):
            conditions = await fresh.reconcile()
        status = await fresh.status()
        assert conditions["StorageReady"]["status"] == "True", (step, conditions)
        assert conditions["EncryptionReady"]["status"] == "True", (step, conditions)
        assert status["role"] == "Active"
        control = open_bucket(world.aws, world.aws.stores.control, world.credentials)
        assert claims.read_claim(control, status["tenantId"], 1).holder == "gcp-frankfurt"
        assert status["tenantId"] in mirror.tenants(control)
    assert died >= 16


def _checks(world: World) -> dict[str, Object]:
    """The Jobs of checks by component."""
    listed = world.apiserver.get("jobs", "-n", world.tenant)["items"]
    return {j["metadata"]["labels"]["app.kubernetes.io/component"]: j for j in listed}


def _fail(world: World, job: Object, when: datetime) -> None:
    """As Kubernetes' own controller says that a Job ended without success."""
    moment = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"status": "True", "reason": "BackoffLimitExceeded", "message": "", "lastTransitionTime": moment}
    status = {"startTime": moment, "conditions": [{"type": t, **ended} for t in ("FailureTarget", "Failed")]}
    name = job["metadata"]["name"]
    world.apiserver.kubectl(
        "patch",
        "job",
        name,
        "-n",
        world.tenant,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
    )


async def test_checks_run_for_what_is_wanted_now_and_again_when_they_are_due(world: World) -> None:
    world.apply_zone()
    world.apply_tenant()
    for _ in range(2):
        conditions = await world.reconcile()
    first = _checks(world)
    assert first.keys() == {"assistant", "gateway"}
    assert conditions["EgressVerified"]["reason"] == "AwaitingCheck"
    _fail(world, first["gateway"], datetime.now(UTC))
    _fail(world, first["assistant"], datetime.now(UTC) - timedelta(minutes=2))
    conditions = await world.reconcile()
    assert (conditions["EgressVerified"]["status"], conditions["EgressVerified"]["reason"]) == (
        "Unknown",
        "CheckFailed",
    )
    await world.reconcile()
    again = _checks(world)
    assert again["gateway"]["metadata"]["uid"] == first["gateway"]["metadata"]["uid"]
    assert again["assistant"]["metadata"]["uid"] != first["assistant"]["metadata"]["uid"]
    world.apply_tenant(access={"clients": [{"namespace": "others"}]})
    for _ in range(2):
        await world.reconcile()
    changed = _checks(world)
    assert {j["metadata"]["name"] for j in changed.values()}.isdisjoint(j["metadata"]["name"] for j in again.values())
    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    await world.controllers.reconcile("AssistantTenant", world.tenant)
    assert not _checks(world)


async def test_a_check_that_the_cluster_has_no_room_for_is_told_and_stops_nothing(world: World) -> None:
    world.apply_zone()
    meta = {"name": world.tenant, "labels": {"domicile.dev/tenant": world.tenant}}
    world.apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    hard = {"count/jobs.batch": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": world.tenant}}
    world.apiserver.apply(quota | {"spec": {"hard": hard}})
    status = json.dumps({"status": {"hard": hard, "used": {"count/jobs.batch": "0"}}})
    world.apiserver.kubectl(
        "patch", "resourcequota", "none", "-n", world.tenant, "--subresource=status", "--type=merge", "-p", status
    )
    world.apply_tenant()
    conditions = await world.reconcile()
    assert (conditions["EgressVerified"]["status"], conditions["EgressVerified"]["reason"]) == (
        "Unknown",
        "CheckFailed",
    )
    assert "exceeded quota" in conditions["EgressVerified"]["message"]
    assert conditions["Reconciling"]["reason"] == "Progressing"
    assert not _checks(world)
