"""SAML providers of a tenant's realm, on real Keycloaks: who logs in, and what is refused on its way."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from domicile.api.sso import SamlProvider
from domicile.controllers.realm.server import IdentityServer
from tests.integration.identity_server import DeniedError, Person
from tests.integration.realm_estate import PASSWORD, Tenant, Upstream, forwarding, log_in, somebody
from tests.testbed.keycloak import KeycloakServer

Fields = dict[str, str]
pytestmark = pytest.mark.asyncio(loop_scope="session")
_ASSERTION = re.compile(r"<(\w+:)?Assertion[ >].*?</(\w+:)?Assertion>", re.DOTALL)
_SIGNATURE = re.compile(r"<(\w+:)?Signature[ >].*?</(\w+:)?Signature>", re.DOTALL)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(identity: IdentityServer, upstream: Upstream) -> Tenant:
    made = Tenant(identity)
    made.add("corp", "", saml=SamlProvider(metadata_url=await upstream.saml_client(made.realm, "corp")))
    assert (await made.ensure()).faults == {}
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def bob(keycloak: KeycloakServer, upstream: Upstream) -> Person:
    """Somebody at the provider."""
    name = somebody()
    await upstream.user(name, "support", "guests")
    return Person(keycloak, name, PASSWORD)


async def test_people_of_a_saml_provider_bring_their_roles_and_enrol_here(tenant: Tenant, bob: Person) -> None:
    assert (await tenant.ensure()).mended == ()
    claims = await log_in(bob, tenant, "corp")
    assert bob.asked == ["provider corp", "password", "enrolment"]
    assert claims["acr"] == "mfa"
    assert sorted(claims["roles"]) == ["assistant.helpdesk", "manager", "member"]


def _xml(fields: Fields) -> str:
    return base64.b64decode(fields["SAMLResponse"]).decode()


def _with(fields: Fields, xml: str) -> Fields:
    return {**fields, "SAMLResponse": base64.b64encode(xml.encode()).decode()}


def _unsigned(xml: str) -> str:
    return _SIGNATURE.sub("", xml)


def _promoted(xml: str) -> str:
    changed = xml.replace(">guests<", ">chiefs (all)<")
    assert changed != xml
    return changed


def _forged(xml: str) -> str:
    """A copy of the assertion, unsigned and with another group."""
    found = _ASSERTION.search(xml)
    assert found is not None
    return re.sub(r'ID="[^"]+"', 'ID="ID_forged"', _promoted(_unsigned(found[0])), count=1)


def _wrapped_before(xml: str) -> str:
    found = _ASSERTION.search(xml)
    assert found is not None
    return xml.replace(found[0], _forged(xml) + found[0])


def _wrapped_after(xml: str) -> str:
    found = _ASSERTION.search(xml)
    assert found is not None
    return xml.replace(found[0], found[0] + _forged(xml))


def _wrapped_around(xml: str) -> str:
    """The signed assertion hides within the forged one."""
    found = _ASSERTION.search(xml)
    assert found is not None
    forged = _forged(xml)
    end = forged.rindex("</")
    return xml.replace(found[0], f"{forged[:end]}<x>{found[0]}</x>{forged[end:]}")


@pytest.mark.parametrize("attack", [_unsigned, _promoted, _wrapped_before, _wrapped_after, _wrapped_around])
async def test_an_assertion_that_was_tampered_with_lets_nobody_in(
    tenant: Tenant, bob: Person, attack: Callable[[str], str]
) -> None:
    touched: list[str] = []

    def tamper(fields: Fields) -> Fields:
        if "SAMLResponse" not in fields:
            return fields
        touched.append("response")
        return _with(fields, attack(_xml(fields)))

    bob.on_its_way = tamper
    try:
        claims: dict[str, Any] = await log_in(bob, tenant, "corp")
    except DeniedError:
        claims = {}
    assert touched == ["response"]
    # What wraps a signed assertion may be ignored; it may never count.
    assert "owner" not in claims.get("roles", [])
    if attack in {_unsigned, _promoted}:
        assert claims == {}


async def test_an_assertion_counts_once_and_for_its_own_login(
    keycloak: KeycloakServer, tenant: Tenant, bob: Person
) -> None:
    seen: list[str] = []

    def note(fields: Fields) -> Fields:
        seen.extend([fields["SAMLResponse"]] if "SAMLResponse" in fields else [])
        return fields

    bob.on_its_way = note
    await log_in(bob, tenant, "corp")
    [old] = seen

    thief = Person(keycloak, "eve", PASSWORD)
    answer = thief.web.post(
        f"{keycloak.url}/realms/{tenant.realm}/broker/corp/endpoint", data={"SAMLResponse": old, "RelayState": "x"}
    )
    assert answer.status_code >= 400
    other = Person(keycloak, bob.name, PASSWORD)
    other.on_its_way = lambda fields: {**fields, "SAMLResponse": old} if "SAMLResponse" in fields else fields
    with pytest.raises(DeniedError):
        await log_in(other, tenant, "corp")


async def test_metadata_may_come_in_a_secret(
    identity: IdentityServer,
    keycloak: KeycloakServer,
    upstream: Upstream,
) -> None:
    tenant = Tenant(identity)
    url = await upstream.saml_client(tenant.realm, "corp")
    metadata = Person(keycloak, "", "").web.get(url).text
    tenant.add("corp", metadata, saml=SamlProvider(metadata_secret="corp-metadata"))
    tenant.add("broken", "<nonsense/>", saml=SamlProvider(metadata_secret="broken"))
    tenant.add("expired", _expired(metadata), saml=SamlProvider(metadata_secret="expired"))
    tenant.add("unsigned", re.sub(r"<(\w+:)?KeyDescriptor.*</(\w+:)?KeyDescriptor>", "", metadata, flags=re.DOTALL),
               saml=SamlProvider(metadata_secret="unsigned"))  # fmt: skip
    faults = (await tenant.ensure()).faults
    assert faults.keys() == {"broken", "expired", "unsigned"}
    assert "has expired" in faults["expired"]
    assert "no certificate" in faults["unsigned"]
    name = somebody()
    await upstream.user(name, "guests")
    assert (await log_in(Person(keycloak, name, PASSWORD), tenant, "corp"))["roles"] == ["member"]


def _expired(metadata: str) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now - timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    text = base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()
    return re.sub(r"(<(?:\w+:)?X509Certificate>)[^<]+", rf"\g<1>{text}", metadata)


async def test_a_saml_provider_that_is_silent_keeps_its_endpoints(
    identity: IdentityServer,
    keycloak: KeycloakServer,
    upstream: Upstream,
) -> None:
    tenant = Tenant(identity)
    await upstream.saml_client(tenant.realm, "corp")
    async with forwarding(keycloak.port) as port:
        url = f"https://localhost:{port}/realms/{upstream.realm}/protocol/saml/descriptor"
        tenant.add("corp", "", saml=SamlProvider(metadata_url=url))
        assert (await tenant.ensure()).faults == {}
    outcome = await tenant.ensure()
    assert outcome.faults.keys() == {"corp"}
    assert outcome.mended == ()
