"""Servers that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration import identity_server
from tests.integration.apiserver import ApiServer, running
from tests.integration.clouds import clouds, shared_clouds  # noqa: F401  fixtures
from tests.integration.realm_estate import identity, upstream  # noqa: F401  fixtures
from tests.integration.stores_fixture import cloud_standin_site, standin_site, store_sites  # noqa: F401  fixtures
from tests.testbed.keycloak import KeycloakServer


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real API server with our CRDs and the operator's namespace; tests keep to object names of their own."""
    with running(tmp_path_factory.mktemp("apiserver")) as server:
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "domicile-system"}})
        yield server


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakServer]:
    """A real Keycloak; tests keep to realms of their own."""
    with identity_server.running(tmp_path_factory.mktemp("keycloak")) as server:
        yield server
