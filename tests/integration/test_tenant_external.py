"""An external issuer as part of a tenant: spec, zone and Secret in, door and conditions out, on real servers.

The issuer is a Keycloak of which the operator knows no more than anybody does.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from domicile.api.common import ANNOTATION_END_SESSIONS
from domicile.controllers.issuer import issuers
from examples.assistant import identity, trust
from tests.integration.foreign_issuer import ForeignIssuer
from tests.integration.test_tenant import Object, World, keys, world  # noqa: F401  fixtures
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer

HOST = "bank.example"


@pytest.fixture(scope="module")
def foreign(keycloak: KeycloakServer) -> ForeignIssuer:
    made = ForeignIssuer(keycloak)
    made.create(f"https://{HOST}")
    return made


class Guest:
    """A tenant whose people come from the foreign issuer."""

    def __init__(self, of: World, foreign: ForeignIssuer) -> None:
        self.world = of
        self.foreign = foreign
        of.identity.mkdir(exist_ok=True)
        # The authority of the issuer's certificate, and no account of anybody's.
        (of.identity / f"{of.zone_name}.pem").write_text(foreign.authorities)

    def apply_zone(self, approval: Object | None = None, **changes: Any) -> None:
        self.world.apply_zone(externalIssuers=[self.foreign.approval(**(approval or {}))], **changes)

    def apply(self, **changes: Any) -> None:
        self.apply_sso(external=self.foreign.wire(**changes))

    def apply_sso(self, **sso: Any) -> None:
        self.world.apply_tenant(access={"host": HOST, "tls": {"secret": "bank-tls"}, "sso": sso})

    def put_secret(self, text: str | None = None) -> None:
        """The Secret with what the issuer gave for our client."""
        meta = {"name": "corp-login", "namespace": self.world.tenant}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
        self.world.apiserver.apply(secret | {"stringData": {"client-secret": text or self.foreign.secret}})

    def change(self, *path: str, value: Object | None) -> None:
        where = "/" + "/".join(path)
        patch = [{"op": "remove", "path": where}] if value is None else [{"op": "add", "path": where, "value": value}]
        name = self.world.tenant
        self.world.apiserver.kubectl("patch", "assistanttenant", name, "--type=json", "-p", json.dumps(patch))

    async def sso(self) -> tuple[str, str, str]:
        """What SSOConfigured says after a look."""
        found = (await self.world.reconcile())["SSOConfigured"]
        return found["status"], found["reason"], found["message"]

    def config(self) -> str:
        found = self.world.apiserver.get("configmap", "front-door", "-n", self.world.tenant)
        return str(found["data"]["httpd.conf"])

    def trust(self) -> trust.Trust:
        found = self.world.apiserver.get("configmap", "identity", "-n", self.world.tenant)
        return trust.parse(found["data"]["helpdesk.json"].encode())

    def there(self, kind: str, name: str) -> bool:
        done = self.world.apiserver.kubectl("get", kind, name, "-n", self.world.tenant, check=False)
        return done.returncode == 0


@pytest.fixture
def guest(world: World, foreign: ForeignIssuer, monkeypatch: pytest.MonkeyPatch) -> Guest:  # noqa: F811
    monkeypatch.setattr(issuers, "FAULT_SECONDS", 0.0)
    return Guest(world, foreign)


async def test_a_tenants_people_log_in_at_an_issuer_that_the_operator_has_no_say_in(guest: Guest) -> None:
    guest.apply_zone()
    guest.apply()
    assert (await guest.sso())[:2] == ("False", "IssuerSecretMissing")
    assert not guest.there("configmap", "front-door")
    guest.put_secret()
    status, reason, message = await guest.sso()
    assert (status, reason) == ("True", "IssuerTrusted"), message
    assert f"https://{HOST}/oauth2/callback" in message
    assert f'OIDCProviderIssuer "{guest.foreign.issuer}"' in guest.config()
    assert 'Require claim "groups~(?s)^Bank chiefs [(]all[)](?!.)"' in guest.config()
    assert (await guest.world.reconcile())["ResidencyCompliant"]["reason"] == "Attested"

    name = await asyncio.to_thread(guest.foreign.user, "support")
    token = await asyncio.to_thread(guest.foreign.id_token, name, f"https://{HOST}")
    assert identity.verify(token, guest.trust()).roles == {"manager", "assistant.helpdesk"}
    weak = await asyncio.to_thread(lambda: guest.foreign.user("support", factor=False))
    token = await asyncio.to_thread(guest.foreign.id_token, weak, f"https://{HOST}")
    with pytest.raises(identity.IdentityError, match="not strong enough"):
        identity.verify(token, guest.trust())


async def test_the_steady_state_asks_the_issuer_nothing_and_writes_nothing(guest: Guest) -> None:
    guest.apply_zone()
    guest.apply()
    await guest.world.reconcile()
    guest.put_secret()
    for _ in range(3):
        await guest.world.reconcile()
    before = guest.world.apiserver.audit(guest.world.kube.user_agent)
    for _ in range(2):
        assert (await guest.sso())[1] == "IssuerTrusted"
    assert guest.world.apiserver.audit(guest.world.kube.user_agent) == before


async def test_sessions_are_ended_by_another_passphrase_once(guest: Guest) -> None:
    guest.apply_zone()
    guest.apply()
    await guest.world.reconcile()
    guest.put_secret()
    await guest.world.reconcile()

    def passphrase() -> str:
        return str(guest.world.apiserver.get("secret", "front-door", "-n", guest.world.tenant)["data"]["secrets.conf"])

    before = passphrase()
    asked = f"{ANNOTATION_END_SESSIONS}=2026-02-03T04:05:06Z"
    guest.world.apiserver.kubectl("annotate", "assistanttenant", guest.world.tenant, asked)
    assert (await guest.sso())[1] == "IssuerTrusted"
    after = passphrase()
    assert after != before
    assert (await guest.world.status())["lastHandledEndSessionsAt"] == "2026-02-03T04:05:06Z"
    await guest.world.reconcile()
    assert passphrase() == after
    told = guest.world.apiserver.get("events", "-A", "--field-selector=reason=SessionsEnded")["items"]
    assert any(guest.foreign.issuer in e.get("note", e.get("message", "")) for e in told)


async def test_a_secret_that_the_issuer_does_not_know_is_told(guest: Guest) -> None:
    guest.apply_zone()
    guest.apply()
    await guest.world.reconcile()
    guest.put_secret("not-the-right-secret-at-all")
    status, reason, message = await guest.sso()
    assert (status, reason) == ("False", "IssuerRefusesClient")
    assert "Secret corp-login" in message
    assert "not-the-right" not in message
    guest.put_secret()
    assert (await guest.sso())[:2] == ("True", "IssuerTrusted")


async def test_an_issuer_that_the_zone_does_not_approve_of_gets_nobody(guest: Guest) -> None:
    guest.world.apply_zone()
    guest.apply()
    found = (await guest.world.reconcile())["ResidencyCompliant"]
    assert (found["status"], found["reason"]) == ("False", "IssuerNotApproved")
    guest.apply_zone({"expiresOn": "2026-01-02"})
    await guest.world.controllers.reconcile("ResidencyZone", guest.world.zone_name)
    assert (await guest.world.reconcile())["ResidencyCompliant"]["reason"] == "IssuerNotAttested"
    assert not guest.there("configmap", "front-door")
    guest.apply_zone()
    await guest.world.controllers.reconcile("ResidencyZone", guest.world.zone_name)
    assert (await guest.world.reconcile())["ResidencyCompliant"]["status"] == "True"
    assert (await guest.sso())[1] == "IssuerSecretMissing"


async def test_from_a_realm_to_an_issuer_and_to_neither(guest: Guest) -> None:
    keycloak = guest.foreign.keycloak
    account = {"clientId": ADMIN_ID, "clientSecret": keycloak.admin_secret}
    (guest.world.identity / f"{guest.world.zone_name}.json").write_text(json.dumps(account))
    guest.apply_zone(identity={"url": keycloak.url, "adminUrl": keycloak.url})
    guest.apply_sso(localUsers=True)
    assert (await guest.sso())[1] == "Configured"
    status = await guest.world.status()
    assert status["realm"] == f"{guest.world.tenant}-{status['tenantId'][:8]}"

    guest.change("spec", "access", "sso", value={"external": guest.foreign.wire()})
    guest.put_secret()
    status, reason, message = await guest.sso()
    assert (status, reason) == ("True", "IssuerTrusted"), message
    assert "realm" not in await guest.world.status()
    assert guest.trust().issuer == guest.foreign.issuer

    guest.change("spec", "access", value=None)
    assert (await guest.sso())[1] == "NotAskedFor"
    assert not guest.there("deployment", "front-door")
    assert not guest.there("networkpolicy", "allow-door-identity")
