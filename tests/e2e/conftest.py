"""Two real clouds for all end-to-end tests of a session, with Domicile installed.

DOMICILE_KEEP_TESTBED=1 leaves them up and takes them over the next time, for work on a test.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from domicile.api.zone import OnPartition
from tests.estate import NAMESPACE, Estate
from tests.testbed.identity import Identity
from tests.testbed.testbed import Testbed
from tests.testbed.zone import create_zone

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
def estate(testbed: Testbed, identity: Identity) -> Estate:
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
    people = create_zone(testbed, "people", (FIRST,), pool=4, suffix="-people", identity=identity.server)
    estate = Estate(testbed, eu, strict, people)
    if KEEP:
        # Pods of the last session may run an older image of the same name.
        for site in testbed.sites.values():
            site.kubectl("delete", "deploy", "--all", "-n", NAMESPACE, "--ignore-not-found")
    # TEST-NET-2 (RFC 5737).
    estate.install(replicas=2, reachCheck={"outside": ["198.51.100.7:443"]})
    return estate


@pytest.fixture(scope="session")
def named() -> Callable[[str], str]:
    """Names of this session's own: a tenant's name is its identity, and its data outlives it."""
    token = secrets.token_hex(3)
    return lambda word: f"{word}-{token}"
