"""The tenant controller mints what opens a live bucket: a real API server, real exchanges, a clock of the test's."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domicile.api.live_credentials import GoogleToken, parse
from domicile.backup.stores import gcs
from domicile.controllers.tenant import builders
from domicile.controllers.tenant.gather import Gatherer
from domicile.kube.apply import apply
from domicile.kube.client import Kube
from tests import gcs_standin
from tests.gcs_standin.accounts import ADMIN
from tests.integration.apiserver import ApiServer
from tests.integration.clouds import Clouds
from tests.integration.stores_fixture import StoreSites, make_site
from tests.integration.test_cloud_identity import LIVE, OPERATOR, PLATFORM, Cluster, federation, with_token
from tests.integration.test_tenant import World
from tests.unit.test_live_access import minting

SITE = make_site("gcp-frankfurt", "gcp", "europe-west3", None)


class Clock:
    """The operator's, which the test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def past(self, **since: float) -> None:
        self.now += timedelta(**since)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(Gatherer, "now", staticmethod(lambda: made.now))
    return made


@pytest.fixture
def google(clouds: Clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with gcs_standin.running() as state:
        monkeypatch.setattr(gcs, "endpoint", lambda _: state.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        cluster = Cluster(tmp_path, clouds)
        cluster.gcs = state
        clouds.google.accounts[OPERATOR].add(LIVE)
        clouds.google.most_seconds = 12 * 3600
        state.accounts.grants |= {PLATFORM: {"*": ADMIN}, LIVE: {"*": ADMIN}}
        (tmp_path / "gcp-frankfurt.token").write_text("a.projected.token")
        source = {"file": str(tmp_path / "gcp-frankfurt.token")}
        cluster.write("gcp-frankfurt", federation(tmp_path, credential_source=source))
        yield cluster


class MintingWorld(World):
    """A tenant of a site in a cloud."""

    def __init__(self, kube: Kube, apiserver: ApiServer, stores: Any, keys: Path) -> None:
        super().__init__(kube, apiserver, stores, keys)
        self.gcp = self.gcp.model_copy(update={"live_identity": LIVE})

    def secret(self) -> dict[str, Any]:
        return self.apiserver.get("secret", "store-credentials", "-n", self.tenant)

    def content(self) -> bytes:
        return base64.b64decode(self.secret()["data"]["store.json"])


@pytest.fixture
async def world(
    apiserver: ApiServer,
    google: Cluster,
    store_sites: StoreSites,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[MintingWorld]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    labels = {"topology.kubernetes.io/region": "europe-west3"}
    apiserver.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}})
    shutil.copy(store_sites.credentials / "aws-frankfurt.json", google.folder)
    sites = SimpleNamespace(gcp=SITE, aws=store_sites.aws, credentials=google.folder)
    kube = await Kube.connect(user_agent="minting-test-")
    made = MintingWorld(kube, apiserver, sites, tmp_path / "keys")
    made.tenant, made.zone_name = f"minting{made.number}", f"minting-zone{made.number}"
    made.apply_zone(made.gcp)
    made.apply_tenant()
    yield made
    await kube.close()


def minted(google: Cluster) -> int:
    return sum(issued.boundary is not None for issued in google.clouds.google.tokens.values())


async def test_a_tenants_pods_get_what_opens_their_bucket_and_it_is_renewed_in_time(
    world: MintingWorld, google: Cluster, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    conditions = await world.reconcile()
    assert conditions["StorageReady"]["status"] == "True", conditions["StorageReady"]
    first = world.content()
    found = parse(first)
    assert isinstance(found, GoogleToken)
    bucket = (await world.status())["storage"]["bucket"]
    assert google.gcs is not None
    assert with_token(google.gcs, found.access_token, "GET", f"/storage/v1/b/{bucket}/o") == 200
    for other in (world.gcp.stores.control, world.gcp.stores.keys):
        assert with_token(google.gcs, found.access_token, "GET", f"/storage/v1/b/{other}/o") == 403

    clock.past(hours=7.9)
    world.controllers = world.operator()
    await world.reconcile()
    assert (world.content(), minted(google)) == (first, 1), "not yet, also not after a restart"

    clock.past(hours=0.2)
    google.clouds.google.status = 503
    conditions = await world.reconcile()
    assert world.content() == first, "what still counts is kept"
    assert conditions["StorageReady"]["status"] == "True"
    clock.past(hours=2)
    conditions = await world.reconcile()
    assert conditions["StorageReady"]["reason"] == "AccessNotRenewed"
    assert "no answer of Google's STS" in conditions["StorageReady"]["message"]
    asked = len(google.clouds.proxy.asked)
    await world.reconcile()
    assert len(google.clouds.proxy.asked) == asked, "not again within a minute"

    google.clouds.google.status = 0
    clock.past(minutes=2)
    conditions = await world.reconcile()
    assert conditions["StorageReady"]["status"] == "True"
    assert world.content() != first
    told = json.dumps(conditions) + caplog.text + json.dumps(world.apiserver.get("events", "-A"))
    for token in google.clouds.google.tokens:
        assert token not in told
    assert "a.projected.token" not in told


async def test_who_was_refused_has_no_access_and_says_so(world: MintingWorld, google: Cluster, clock: Clock) -> None:
    google.clouds.google.accounts[OPERATOR].remove(LIVE)
    conditions = await world.reconcile()
    assert conditions["StorageReady"]["reason"] == "AccessNotRenewed"
    assert "serviceAccountTokenCreator" in conditions["StorageReady"]["message"]
    assert world.secret().get("data") is None
    google.clouds.google.accounts[OPERATOR].add(LIVE)
    clock.past(minutes=2)
    assert (await world.reconcile())["StorageReady"]["status"] == "True"
    assert parse(world.content())


async def test_what_somebody_put_into_the_secret_is_replaced(
    world: MintingWorld, google: Cluster, clock: Clock
) -> None:
    await world.reconcile()
    foreign = base64.b64encode(world.content().replace(b"ya29", b"evil")).decode()
    patch = json.dumps({"data": {"store.json": foreign}})
    world.apiserver.kubectl(
        "patch", "secret", "store-credentials", "-n", world.tenant, "--type=merge", "--field-manager=x", "-p", patch
    )
    await world.reconcile()
    assert b"evil" not in world.content()
    assert minted(google) == 2


async def test_who_is_no_longer_active_has_nothing_left(world: MintingWorld) -> None:
    await world.reconcile()
    assert world.content()
    await apply(world.kube, builders.store_secret(minting(name=world.tenant, claim=None)))
    assert world.secret().get("data") is None


async def test_a_deleted_tenant_leaves_nothing_that_opens_its_bucket(world: MintingWorld) -> None:
    await world.reconcile()
    assert world.content()
    world.apiserver.kubectl("delete", "assistanttenant", world.tenant, "--wait=false")
    await world.controllers.reconcile("AssistantTenant", world.tenant)
    assert world.secret().get("data") is None
