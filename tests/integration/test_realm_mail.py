"""Verified addresses: accounts of a tenant's own on a real Keycloak, whose mail goes to a real mail server."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from domicile.controllers.realm.drift import Drift
from domicile.controllers.realm.server import IdentityServer
from tests.integration.apiserver import Authority
from tests.integration.identity_server import DeniedError, Person
from tests.integration.mail_server import MailBoxes, mail_boxes
from tests.integration.realm_estate import PASSWORD, Tenant, Upstream, log_in, somebody
from tests.testbed.keycloak import KeycloakServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
ASKED = "verify your email address"
NOT_SENT = "Failed to send email"


@pytest.fixture(scope="module")
def authority(keycloak: KeycloakServer) -> Authority:
    """The one that the Keycloak trusts."""
    return Authority(keycloak.authority.parent)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def boxes(authority: Authority) -> AsyncIterator[MailBoxes]:
    async with mail_boxes(authority) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer, boxes: MailBoxes) -> Tenant:
    made = Tenant(identity, local_users=True)
    made.mail = boxes.mail
    await made.ensure()
    return made


def address(name: str) -> str:
    return f"{name}@corp.example"


async def unverified(keycloak: KeycloakServer, tenant: Tenant, **changes: object) -> Person:
    return Person(keycloak, await tenant.user("owner", emailVerified=False, **changes), PASSWORD)


async def test_a_realm_with_a_mail_server_is_left_alone(tenant: Tenant) -> None:
    assert (await tenant.ensure()).mended == ()
    assert await tenant.drift() == Drift()


async def test_a_person_gets_in_by_the_link_in_the_mail_and_needs_none_ever_after(
    keycloak: KeycloakServer, tenant: Tenant, boxes: MailBoxes
) -> None:
    ann = await unverified(keycloak, tenant)
    with pytest.raises(DeniedError, match=ASKED):
        await log_in(ann, tenant)
    assert ann.asked == ["password", "enrolment"]
    link = await boxes.link(address(ann.name))
    claims = await asyncio.to_thread(ann.follow, link)
    assert (claims["acr"], claims["roles"]) == ("mfa", ["owner"])
    assert "email" not in claims

    again = ann.elsewhere()
    assert (await log_in(again, tenant))["acr"] == "mfa"
    assert boxes.empty(address(ann.name))


async def test_without_the_link_nobody_gets_in_however_often(
    keycloak: KeycloakServer, tenant: Tenant, boxes: MailBoxes
) -> None:
    ann = await unverified(keycloak, tenant)
    for _ in range(2):
        with pytest.raises(DeniedError, match=ASKED):
            await log_in(ann, tenant)
        ann = ann.elsewhere()
    await boxes.link(address(ann.name))


async def test_a_link_that_was_used_lets_nobody_in_again(
    keycloak: KeycloakServer, tenant: Tenant, boxes: MailBoxes
) -> None:
    ann = await unverified(keycloak, tenant)
    link = await _asked(ann, tenant, boxes)
    await asyncio.to_thread(ann.follow, link)
    for whoever in (ann, Person(keycloak, "nobody", PASSWORD)):
        page = await asyncio.to_thread(whoever.web.get, link)
        assert (page.status_code, "verified already" in page.text) == (200, True)


async def test_a_link_lets_no_other_account_in(keycloak: KeycloakServer, tenant: Tenant, boxes: MailBoxes) -> None:
    ann, bob = await unverified(keycloak, tenant), await unverified(keycloak, tenant)
    await _asked(bob, tenant, boxes)
    link = await _asked(ann, tenant, boxes)
    with pytest.raises(DeniedError, match=f"Confirm validity of e-mail address {address(ann.name)}"):
        await asyncio.to_thread(bob.follow, link)
    assert "has been verified" in await asyncio.to_thread(_open, bob, link)
    assert not await _verified(tenant, bob.name)
    with pytest.raises(DeniedError, match=ASKED):
        await log_in(bob.elsewhere(), tenant)


async def test_a_link_at_another_browser_verifies_and_logs_nobody_in(
    keycloak: KeycloakServer, tenant: Tenant, boxes: MailBoxes
) -> None:
    ann = await unverified(keycloak, tenant)
    link = await _asked(ann, tenant, boxes)
    phone = ann.elsewhere()
    assert "has been verified" in await asyncio.to_thread(_open, phone, link)
    assert await _verified(tenant, ann.name)
    again = Person(keycloak, ann.name, PASSWORD)
    with pytest.raises(DeniedError, match="a one-time password is wanted"):
        await log_in(again, tenant)
    assert (await log_in(ann.elsewhere(), tenant))["roles"] == ["owner"]


async def test_a_link_for_an_earlier_address_is_void(
    keycloak: KeycloakServer, tenant: Tenant, boxes: MailBoxes
) -> None:
    ann = await unverified(keycloak, tenant)
    link = await _asked(ann, tenant, boxes)
    await _set(tenant, ann.name, email=f"{ann.name}@other.example")
    with pytest.raises(DeniedError, match="no longer valid"):
        await asyncio.to_thread(ann.follow, link)
    assert not await _verified(tenant, ann.name)


@pytest.mark.parametrize("verified", [True, False])
async def test_an_account_without_an_address_does_not_get_in(
    keycloak: KeycloakServer, tenant: Tenant, verified: bool
) -> None:
    ann = Person(keycloak, await tenant.user("owner", email="", emailVerified=verified), PASSWORD)
    with pytest.raises(DeniedError, match="Access denied"):
        await log_in(ann, tenant)
    assert ann.asked == ["password"]


async def test_without_a_mail_server_who_was_verified_by_an_administrator_gets_in_and_nobody_else(
    identity: IdentityServer, keycloak: KeycloakServer
) -> None:
    tenant = Tenant(identity, local_users=True)
    await tenant.ensure()
    assert await tenant.drift() == Drift()
    with pytest.raises(DeniedError, match=NOT_SENT):
        await log_in(await unverified(keycloak, tenant), tenant)
    chief = Person(keycloak, await tenant.user("owner"), PASSWORD)
    assert (await log_in(chief, tenant))["roles"] == ["owner"]


async def test_people_of_providers_are_not_asked_and_their_address_is_not_kept(
    identity: IdentityServer, keycloak: KeycloakServer, upstream: Upstream, boxes: MailBoxes
) -> None:
    tenant = Tenant(identity, local_users=True)
    tenant.mail = boxes.mail
    await tenant.trust(upstream)
    await tenant.ensure()
    bob = Person(keycloak, somebody(), PASSWORD)
    await upstream.user(bob.name, emailVerified=False)
    for _ in range(2):
        assert (await log_in(bob, tenant, "corp"))["acr"] == "mfa"
        async with tenant.server.realm(tenant.realm) as admin:
            (user,) = [u for u in await admin.a_get_users() if u["username"].startswith("corp.")]
            assert (user.get("email"), user["firstName"]) == (None, "Some")
        # As of people who came before addresses were dropped.
        await _set(tenant, user["username"], email=address(bob.name))
        bob = bob.elsewhere()
    assert boxes.empty(address(bob.name))


async def test_a_new_password_of_the_mail_server_gets_there(
    keycloak: KeycloakServer, tenant: Tenant, boxes: MailBoxes
) -> None:
    before, boxes.password = boxes.password, "Another-One-43!"
    with pytest.raises(DeniedError, match=NOT_SENT):
        await log_in(await unverified(keycloak, tenant), tenant)
    tenant.mail = boxes.mail
    assert await tenant.drift() == Drift()
    assert (await tenant.ensure(changed=True)).mended == ()
    await _asked(await unverified(keycloak, tenant), tenant, boxes)
    boxes.password = before
    tenant.mail = boxes.mail
    await tenant.ensure(changed=True)


async def test_what_else_somebody_says_of_the_mail_server_is_taken_back(tenant: Tenant) -> None:
    async with tenant.server.realm(tenant.realm) as admin:
        found = (await admin.a_get_realm(tenant.realm))["smtpServer"]
        await admin.a_update_realm(tenant.realm, {"smtpServer": {**found, "debug": "true"}})
    assert (await tenant.ensure()).mended == ("setting smtpServer",)
    assert (await tenant.ensure()).mended == ()
    async with tenant.server.realm(tenant.realm) as admin:
        assert (await admin.a_get_realm(tenant.realm))["smtpServer"] == found


async def test_mail_goes_to_no_server_with_a_certificate_for_another_name(
    keycloak: KeycloakServer, identity: IdentityServer, authority: Authority
) -> None:
    tenant = Tenant(identity, local_users=True)
    async with mail_boxes(authority, "127.0.0.2") as other:
        tenant.mail = other.mail
        await tenant.ensure()
        with pytest.raises(DeniedError, match=NOT_SENT):
            await log_in(await unverified(keycloak, tenant), tenant)
        assert other.logins == 0


async def _asked(person: Person, tenant: Tenant, boxes: MailBoxes) -> str:
    """Log in as far as to the page that asks for the link; the link."""
    with pytest.raises(DeniedError, match=ASKED):
        await log_in(person, tenant)
    return await boxes.link(address(person.name))


def _open(person: Person, link: str) -> str:
    """Open a link and say yes to what the page asks; what the next page says."""
    page = person.web.get(link)
    (further,) = re.findall(r'href="([^"]*/action-token[^"]*)"', page.text)
    return person.web.get(html.unescape(further)).text


async def _set(tenant: Tenant, name: str, **changes: object) -> None:
    async with tenant.server.realm(tenant.realm) as admin:
        user = str(await admin.a_get_user_id(name))
        await admin.a_update_user(user, {**await admin.a_get_user(user), **changes})


async def _verified(tenant: Tenant, name: str) -> bool:
    async with tenant.server.realm(tenant.realm) as admin:
        return bool((await admin.a_get_user(str(await admin.a_get_user_id(name))))["emailVerified"])
