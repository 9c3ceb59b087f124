"""An Active Directory of a tenant's realm: a real domain controller behind a real Keycloak."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_asyncio

from domicile.controllers.realm.server import IdentityServer
from tests.integration import active_directory
from tests.integration.active_directory import BIND_PASSWORD, FIELDS, ActiveDirectory
from tests.integration.apiserver import Authority
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, Tenant, federate, log_in
from tests.testbed.keycloak import KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def domain(keycloak: KeycloakServer) -> Iterator[ActiveDirectory]:
    people = {"adam": ("chiefs (all)", "staff"), "ada": ("support",), "albert": ("staff",), "alma": ()}
    with active_directory.running(Authority(keycloak.authority.parent), people, PASSWORD) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer, domain: ActiveDirectory) -> Tenant:
    made = Tenant(identity)
    federate(made, domain.url, BIND_PASSWORD, **FIELDS)
    assert (await made.ensure()).faults == {}
    assert (await made.ensure()).mended == ()
    return made


async def test_people_of_a_domain_log_in_by_account_name_with_the_roles_of_their_groups(
    keycloak: KeycloakServer, tenant: Tenant
) -> None:
    adam = Person(keycloak, "adam", PASSWORD)
    claims = await log_in(adam, tenant)
    assert adam.asked == ["password", "enrolment"]
    assert (claims["acr"], sorted(claims["roles"])) == ("mfa", ["member", "owner"])
    ada = await log_in(Person(keycloak, "ada", PASSWORD), tenant)
    assert sorted(ada["roles"]) == ["assistant.helpdesk", "manager"]
    assert (await log_in(Person(keycloak, "alma", PASSWORD), tenant)).get("roles", []) == []


async def test_a_wrong_password_and_an_account_that_the_domain_has_disabled_open_nothing(
    keycloak: KeycloakServer, tenant: Tenant, domain: ActiveDirectory
) -> None:
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, "albert", "Wrong-Horse-42!"), tenant)
    albert = Person(keycloak, "albert", PASSWORD)
    assert (await log_in(albert, tenant))["roles"] == ["member"]
    domain.disable("albert")
    with pytest.raises(DeniedError):
        await log_in(albert.elsewhere(), tenant)


async def test_nobody_logs_in_without_a_password(keycloak: KeycloakServer, tenant: Tenant) -> None:
    """A domain takes a name without a password for nobody in particular, and says yes (RFC 4513, section 5.1.2)."""
    with pytest.raises(DeniedError):
        await log_in(Person(keycloak, "adam", ""), tenant)
