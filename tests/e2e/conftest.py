"""Two real clouds for all end-to-end tests of a session, with Domicile installed.

DOMICILE_KEEP_TESTBED=1 leaves them up and takes them over the next time, for work on a test.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest

from domicile.api import egress
from domicile.api.egress import AllowedDestination
from domicile.api.providers import Contract, ModelProvider
from domicile.api.zone import OnPartition
from tests.estate import NAMESPACE, Estate
from tests.testbed.identity import Identity
from tests.testbed.testbed import Testbed
from tests.testbed.world import HOST, OTHER_HOST, PORT, REBOUND_HOST, World
from tests.testbed.zone import MODEL_PROVIDER, create_zone

KEEP = bool(os.environ.get("DOMICILE_KEEP_TESTBED"))
LEASE_SECONDS = 8
FIRST = "gcp-frankfurt"


@pytest.fixture(scope="session")
def testbed() -> Iterator[Testbed]:
    """The default topology: gcp-frankfurt and aws-frankfurt. A test leaves both up and no link cut."""
    testbed = Testbed(name="e2e")
    if not KEEP:
        testbed.down()
    try:
        testbed.up()
        yield testbed
    finally:
        if not KEEP:
            testbed.down()


@pytest.fixture(scope="session")
def identity(testbed: Testbed) -> Identity:
    """The identity server of the first site."""
    made = Identity(testbed.site(FIRST))
    made.up()
    return made


@pytest.fixture(scope="session")
def world(testbed: Testbed) -> World:
    """A model server outside all sites."""
    made = World(testbed)
    made.up()
    return made


@pytest.fixture(scope="session")
def estate(testbed: Testbed, identity: Identity, world: World) -> Estate:
    """Domicile in both clouds, two of each part, short leases; zone ``strict`` stops on partition, ``eu`` goes on."""
    eu = create_zone(testbed, pool=60 if KEEP else 12, lease_seconds=LEASE_SECONDS)
    strict = create_zone(
        testbed,
        "strict",
        pool=20 if KEEP else 3,
        lease_seconds=LEASE_SECONDS,
        on_partition=OnPartition.STOP,
        suffix="-strict",
    )
    # People log in here; one site, for the identity server knows no other.
    people = create_zone(testbed, "people", (FIRST,), pool=4, suffix="-people", identity=identity)
    # Its tenants ask models outside.
    open_zone = create_zone(testbed, "open", pool=20 if KEEP else 3, suffix="-open", **outside(world))
    # Its stores have TLS and names, and are reached through the way out.
    sealed = create_zone(testbed, "sealed", pool=20 if KEEP else 2, suffix="-sealed", sealed=True)
    estate = Estate(testbed, eu, strict, people, open_zone, sealed)
    if KEEP:
        # Pods of the last session may run an older image of the same name.
        for site in testbed.sites.values():
            site.kubectl("delete", "deploy", "--all", "-n", NAMESPACE, "--ignore-not-found")
    # TEST-NET-2 (RFC 5737).
    estate.install(replicas=2, egress={"enabled": True, "all": True}, reachCheck={"outside": ["198.51.100.7:443"]})
    return estate


def outside(world: World) -> dict[str, Any]:
    """Of a zone: model providers at two names of the world's server, and a destination that leads inside."""
    until = {"attested_on": date(2026, 1, 1), "expires_on": date(2099, 1, 1)}
    contract = Contract(
        processor="World Models Ltd",
        regions=["testbed"],
        data_processing=True,
        no_training=True,
        retention_days=0,
        statement="The testbed's own server: what reaches it stays on this machine.",
        **until,
    )
    providers = [
        ModelProvider(
            name=name,
            base_url=f"https://{host}/v1",
            models=["extractive-1"],
            ca_bundle=world.authority,
            contract=contract,
        )
        for name, host in (("world", HOST), ("other", OTHER_HOST))
    ]
    word = egress.Contract(processor="World Ltd", place="this machine", statement="As the models' contract.", **until)
    listed = [AllowedDestination(host=h, port=PORT, contract=word) for h in (OTHER_HOST, REBOUND_HOST)]
    return {
        "model_providers": [MODEL_PROVIDER, *providers],
        "model_regions": ["testbed"],
        "allowed_destinations": listed,
    }


@pytest.fixture(scope="session")
def named() -> Callable[[str], str]:
    """Names of this session's own: a tenant's name is its identity, and its data outlives it."""
    token = secrets.token_hex(3)
    return lambda word: f"{word}-{token}"
