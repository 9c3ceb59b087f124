"""Single sign-on as part of a tenant: spec and Secrets in, realm and condition out, on real servers."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domicile.api.common import LABEL_TENANT_ID
from domicile.api.sso import Sso
from domicile.controllers.realm import realms
from domicile.controllers.realm import server as identity_server
from domicile.controllers.realm.desired import CALLBACK, CLIENT, Subject
from domicile.controllers.tenant.gather import Gatherer
from examples.assistant import identity, trust
from tests import identities
from tests.integration.apiserver import Authority, free_port
from tests.integration.identity_server import Client, DeniedError, Person
from tests.integration.mail_server import mail_boxes
from tests.integration.realm_estate import PASSWORD, Upstream, connect, user_named
from tests.integration.test_tenant import API, Object, World, keys, world  # noqa: F401  fixtures
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer
from tests.vendors import PROVIDERS

HOST = "bank.example"


class Door:
    """A tenant with single sign-on on a real identity server."""

    def __init__(self, of: World, keycloak: KeycloakServer) -> None:
        self.world = of
        self.keycloak = keycloak
        of.identity.mkdir(exist_ok=True)
        account = {"clientId": ADMIN_ID, "clientSecret": keycloak.admin_secret}
        (of.identity / f"{of.zone_name}.json").write_text(json.dumps(account))
        (of.identity / f"{of.zone_name}.pem").write_bytes(keycloak.authority.read_bytes())
        self.server = connect(keycloak)

    def apply_zone(self, **identity: Any) -> None:
        self.world.apply_zone(identity={"url": self.keycloak.url, "adminUrl": self.keycloak.url, **identity})

    def apply(self, **sso: Any) -> None:
        self.world.apply_tenant(access={"host": HOST, "tls": {"secret": "bank-tls"}, "sso": sso})

    def without_sso(self, **changes: Any) -> None:
        """Nobody logs in any more; with other changes of the spec."""
        gone = '[{"op":"remove","path":"/spec/access"}]'
        self.world.apiserver.kubectl("patch", "assistanttenant", self.world.tenant, "--type=json", "-p", gone)
        self.world.apply_tenant(**changes)

    async def realm(self) -> str:
        return f"{self.world.tenant}-{(await self.world.status())['tenantId'][:8]}"

    async def settings(self) -> Object:
        name = await self.realm()
        async with self.server.realm(name) as admin:
            found: Object = await admin.a_get_realm(name)
        return found

    async def add_user(self, name: str, role: str, **changes: Any) -> None:
        async with self.server.realm(await self.realm()) as admin:
            user = await admin.a_create_user(user_named(name) | changes)
            await admin.a_assign_realm_roles(user, [await admin.a_get_realm_role(role)])

    def secret(self) -> str:
        found = self.world.apiserver.get("secret", "front-door", "-n", self.world.tenant)
        return base64.b64decode(found["data"]["client-secret"]).decode()

    def client(self) -> Client:
        return Client(CLIENT, self.secret(), f"https://{HOST}{CALLBACK}")

    async def log_in(self, name: str, provider: str | None = None) -> Object:
        person = Person(self.keycloak, name, PASSWORD)
        return await asyncio.to_thread(person.log_in, await self.realm(), self.client(), provider)

    async def id_token(self, name: str) -> str:
        person = Person(self.keycloak, name, PASSWORD)
        return await asyncio.to_thread(person.id_token, await self.realm(), self.client())

    def trust(self) -> trust.Trust:
        """What the tenant's assistants are told of who asks, as the reference assistant reads it."""
        found = self.world.apiserver.get("configmap", "identity", "-n", self.world.tenant)
        return trust.parse(found["data"]["helpdesk.json"].encode())

    def assistant(self) -> Object:
        """The pod template of the tenant's assistant."""
        found: Object = self.world.apiserver.get("deployment", "helpdesk", "-n", self.world.tenant)
        return found["spec"]["template"]["spec"]

    def events(self, reason: str) -> list[str]:
        found = self.world.apiserver.get("events", "-A", f"--field-selector=reason={reason}")["items"]
        return [
            e["note"] if "note" in e else e["message"]
            for e in found
            if e["regarding" if "regarding" in e else "involvedObject"]["name"] == self.world.tenant
        ]


@pytest.fixture
def door(world: World, keycloak: KeycloakServer) -> Door:  # noqa: F811
    return Door(world, keycloak)


async def test_a_tenants_people_log_in_by_a_realm_of_its_own(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    conditions = await door.world.reconcile()
    sso = conditions["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("True", "Configured")
    assert f"{door.keycloak.url}/realms/{await door.realm()}" in sso["message"]
    assert door.world.made() == await door.world.planned()
    await door.add_user("ann", "owner")
    claims = await door.log_in("ann")
    assert (claims["acr"], claims["roles"], claims["aud"]) == ("mfa", ["owner"], CLIENT)
    assert claims["iss"] == f"{door.keycloak.url}/realms/{await door.realm()}"


async def test_a_tenant_is_told_why_no_address_can_be_verified_until_the_mail_server_takes_mail(door: Door) -> None:
    async def told(**zone: Any) -> tuple[str, str, str]:
        door.apply_zone(**zone)
        # Zones are read from memory until one changes.
        await door.world.controllers.reconcile("ResidencyZone", door.world.zone_name)
        found = (await door.world.reconcile())["EmailVerifiable"]
        return found["status"], found["reason"], found["message"]

    door.apply(localUsers=True)
    assert (await told())[:2] == ("False", "NoMailServer")
    async with mail_boxes(Authority(door.keycloak.authority.parent)) as boxes:
        mail = boxes.server.to_wire()
        status, reason, message = await told(mail=mail)
        assert (status, reason, "relay.mail.json" in message) == ("False", "MailAccountMissing", True)
        account = door.world.identity / "relay.mail.json"
        account.write_text(json.dumps({"user": "relay", "password": "wrong"}))
        status, reason, message = await told(mail=mail)
        assert (status, reason, "relay.mail.json" in message) == ("False", "MailLoginRefused", True)
        assert (await told(mail=mail | {"port": free_port()}))[:2] == ("False", "MailServerUnreachable")

        account.write_text(boxes.mail.account.model_dump_json())
        assert await told(mail=mail) == ("True", "Verifiable", "The mail server took the operator's login and sender.")
        await door.add_user("ann", "owner", emailVerified=False)
        ann = Person(door.keycloak, "ann", PASSWORD)
        with pytest.raises(DeniedError, match="verify your email address"):
            await asyncio.to_thread(ann.log_in, await door.realm(), door.client())
        claims = await asyncio.to_thread(ann.follow, await boxes.link("ann@corp.example"))
        assert claims["roles"] == ["owner"]
        shown = json.dumps(door.world.apiserver.get("assistanttenant", door.world.tenant)["status"])
        assert boxes.password not in shown
        assert "ann@" not in shown


async def test_every_well_known_provider_says_which_secret_it_lacks(door: Door) -> None:
    # None has its Secret, so none is asked for its document.
    door.apply_zone()
    door.apply(localUsers=True, identityProviders=[{"name": n, **p} for n, p in PROVIDERS.items()])
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("False", "ProviderFailed")
    for name in PROVIDERS:
        assert f"{name}: Secret login with the key client-secret is missing" in sso["message"]


async def test_the_assistants_know_the_realms_keys_and_nobody_elses(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    await door.add_user("ann", "owner")
    token = await door.id_token("ann")
    asking = identity.verify(token, door.trust())
    assert asking.roles == {"owner"}

    env = {e["name"]: e["value"] for e in door.assistant()["containers"][0]["env"]}
    [mount] = [m for m in door.assistant()["containers"][0]["volumeMounts"] if m["name"] == "identity"]
    assert env["ASSISTANT_IDENTITY"] == f"{mount['mountPath']}/identity.json"
    assert mount["readOnly"] is True

    forged = json.dumps({"data": {"helpdesk.json": json.dumps(identities.document())}})
    door.world.apiserver.kubectl(
        "patch", "configmap", "identity", "-n", door.world.tenant, "--type=merge", "-p", forged
    )
    await door.world.reconcile()
    assert identity.verify(token, door.trust()) == asking

    name = await door.realm()
    async with door.server.realm(name) as admin:
        for key in await admin.a_get_components({"type": "org.keycloak.keys.KeyProvider"}):
            if key["providerId"] == "rsa-generated":
                await admin.a_delete_component(key["id"])
                config = {"priority": ["100"], "algorithm": ["RS256"]}
                await admin.a_create_component({**key, "id": None, "config": config})
    monkeypatch.setattr(realms, "LOOK_SECONDS", 0.0)
    await door.world.reconcile()
    with pytest.raises(identity.IdentityError):
        identity.verify(token, door.trust())
    await door.add_user("bob", "member")
    assert identity.verify(await door.id_token("bob"), door.trust()).roles == {"member"}


async def test_a_missing_secret_closes_its_provider_only_and_reaches_the_peer_when_it_is_there(
    door: Door, keycloak: KeycloakServer
) -> None:
    corp = Upstream(door.server, keycloak.url)
    await corp.create()
    await corp.user("bob", "staff")
    provider = {
        "name": "corp",
        "oidc": {"issuer": corp.issuer, "clientId": "later", "clientSecret": "corp-login"},
        "mfa": {"mode": "local"},
        "roleMappings": [{"group": "staff", "role": "member"}],
    }
    door.apply_zone()
    door.apply(localUsers=True, identityProviders=[provider])
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("False", "ProviderFailed")
    assert "Secret corp-login" in sso["message"]
    await door.add_user("ann", "admin")
    assert (await door.log_in("ann"))["roles"] == ["admin"]

    provider["oidc"]["clientId"] = await corp.client(await door.realm(), "corp")  # type: ignore[index]
    door.apply(localUsers=True, identityProviders=[provider])
    door.world.apiserver.kubectl(
        "create",
        "secret",
        "generic",
        "corp-login",
        "-n",
        door.world.tenant,
        "--from-literal=client-secret=upstream-secret",
    )
    for _ in range(2):
        conditions = await door.world.reconcile()
    assert conditions["SSOConfigured"]["reason"] == "Configured"
    assert (await door.log_in("bob", "corp"))["roles"] == ["member"]
    tenant_id = (await door.world.status())["tenantId"]
    document = door.world.storage("aws-frankfurt").mirrored(tenant_id)
    assert document is not None
    assert base64.b64decode(document["secrets"]["corp-login"]["client-secret"]) == b"upstream-secret"
    assert "front-door" not in document["secrets"]


async def test_who_tampers_with_the_realm_is_undone_and_told(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    name = await door.realm()
    async with door.server.realm(name) as admin:
        await admin.a_update_realm(name, {"bruteForceProtected": False})
    await door.world.reconcile()
    assert (await door.settings())["bruteForceProtected"] is False, "was looked at a moment ago"
    monkeypatch.setattr(realms, "LOOK_SECONDS", 0.0)
    await door.world.reconcile()
    assert (await door.settings())["bruteForceProtected"] is True
    assert any("setting bruteForceProtected" in e for e in door.events("RealmMended"))


async def test_the_steady_state_asks_the_identity_server_nothing_and_writes_nothing(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    for _ in range(3):
        await door.world.reconcile()
    before = door.world.apiserver.audit(door.world.kube.user_agent)
    (door.world.identity / f"{door.world.zone_name}.json").unlink()
    for _ in range(3):
        conditions = await door.world.reconcile()
    assert conditions["SSOConfigured"]["reason"] == "Configured"
    assert door.world.apiserver.audit(door.world.kube.user_agent) == before


async def test_without_single_sign_on_the_realm_is_closed(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    await door.add_user("ann", "owner")
    door.without_sso()
    assert (await door.world.reconcile())["SSOConfigured"]["reason"] == "NotAskedFor"
    assert (await door.settings())["enabled"] is False
    assert all(e["name"] != "ASSISTANT_IDENTITY" for e in door.assistant()["containers"][0]["env"])
    with pytest.raises(DeniedError):
        await door.log_in("ann")


async def test_a_lost_secret_keeps_no_realm_open(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    door.world.apiserver.kubectl("delete", "secret", "front-door", "-n", door.world.tenant)
    door.without_sso()
    assert (await door.world.reconcile())["SSOConfigured"]["reason"] == "NotAskedFor"
    assert (await door.settings())["enabled"] is False


async def test_a_realm_whose_server_left_the_zone_is_not_forgotten(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    door.world.apply_zone()
    await door.world.controllers.reconcile("ResidencyZone", door.world.zone_name)
    door.without_sso()
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("False", "NoIdentityServer")
    door.apply_zone()
    await door.world.controllers.reconcile("ResidencyZone", door.world.zone_name)
    assert (await door.world.reconcile())["SSOConfigured"]["reason"] == "NotAskedFor"
    assert (await door.settings())["enabled"] is False


async def test_a_tenant_that_is_held_up_elsewhere_still_has_its_realm_seen_to(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    door.without_sso(model={"providers": [{"name": "outside"}], "model": "big"})
    assert (await door.world.reconcile())["ResidencyCompliant"]["status"] == "False"
    assert (await door.settings())["enabled"] is False


async def test_a_deleted_tenants_realm_is_closed_when_its_server_is_back(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    name = await door.realm()
    account = door.world.identity / f"{door.world.zone_name}.json"
    kept = account.read_bytes()
    account.unlink()
    door.world.apiserver.kubectl("delete", "assistanttenant", door.world.tenant, "--wait=false")
    assert await door.world.controllers.reconcile("AssistantTenant", door.world.tenant)
    assert await door.world.kube.read(API, "AssistantTenant", door.world.tenant)
    assert any(name in told for told in door.events("IdentityServerRefused"))
    account.write_bytes(kept)
    await door.world.controllers.reconcile("AssistantTenant", door.world.tenant)
    assert await door.world.kube.read(API, "AssistantTenant", door.world.tenant) is None
    async with door.server.realm(name) as admin:
        assert (await admin.a_get_realm(name))["enabled"] is False


async def test_a_server_that_never_comes_back_does_not_keep_a_deleted_tenant(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    (door.world.identity / f"{door.world.zone_name}.json").unlink()
    door.world.apiserver.kubectl("delete", "assistanttenant", door.world.tenant, "--wait=false")
    monkeypatch.setattr(Gatherer, "now", staticmethod(lambda: datetime.now(UTC) + timedelta(hours=2)))
    await door.world.controllers.reconcile("AssistantTenant", door.world.tenant)
    assert await door.world.kube.read(API, "AssistantTenant", door.world.tenant) is None
    assert any("by hand" in told for told in door.events("IdentityServerRefused"))


async def test_a_secret_of_an_earlier_tenant_opens_no_provider(door: Door) -> None:
    door.apply_zone()
    oidc = {"issuer": f"{door.keycloak.url}/realms/master", "clientId": "c", "clientSecret": "corp-login"}
    door.apply(localUsers=True, identityProviders=[{"name": "corp", "oidc": oidc, "mfa": {"mode": "local"}}])
    await door.world.reconcile()
    where = ("-n", door.world.tenant)
    door.world.apiserver.kubectl("create", "secret", "generic", "corp-login", *where, "--from-literal=client-secret=s")
    door.world.apiserver.kubectl("label", "secret", "corp-login", *where, f"{LABEL_TENANT_ID}={'0' * 32}")
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["reason"], "Secret corp-login" in sso["message"]) == ("ProviderFailed", True)


async def test_a_silent_server_is_asked_by_those_who_wait_already_and_by_nobody_else(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_server, "_TIMEOUT_SECONDS", 1)
    asked: list[object] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    door.apply_zone(adminUrl=f"https://localhost:{listening.sockets[0].getsockname()[1]}")
    zone, all_realms = door.world.served(), realms.Realms(door.world.identity)
    subjects = [Subject(f"t{n}", f"{n:032x}", ("a",), HOST, "s", {}) for n in range(12)]
    states = await asyncio.gather(*(all_realms.see_to(zone, s, Sso(local_users=True)) for s in subjects))
    assert {s.error[0] for s in states if s.error} == {"IdentityServerUnreachable"}
    assert all(s.error for s in states)
    # One for each connection, which are four.
    assert len(asked) == 4
    listening.close()


async def test_a_deleted_tenants_realm_is_closed(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    name = await door.realm()
    door.world.apiserver.kubectl("delete", "assistanttenant", door.world.tenant, "--wait=false")
    await door.world.controllers.reconcile("AssistantTenant", door.world.tenant)
    async with door.server.realm(name) as admin:
        assert (await admin.a_get_realm(name))["enabled"] is False
    assert await door.world.kube.read("v1", "ConfigMap", "identity", door.world.tenant) is None


@pytest.mark.parametrize(
    ("account", "admin_url", "reason"),
    [
        (True, f"https://localhost:{free_port()}", "IdentityServerUnreachable"),
        (False, None, "IdentityServerRefused"),
        (None, None, "IdentityServerRefused"),
    ],
    ids=["down", "wrong secret", "no account"],
)
async def test_an_identity_server_that_cannot_be_used_is_told_and_touches_nothing_else(
    door: Door, account: bool | None, admin_url: str | None, reason: str
) -> None:
    path = door.world.identity / f"{door.world.zone_name}.json"
    if account is None:
        path.unlink()
    elif not account:
        path.write_text('{"clientId": "operator", "clientSecret": "wrong"}')
    door.apply_zone(**({"adminUrl": admin_url} if admin_url else {}))
    door.apply(localUsers=True)
    conditions = await door.world.reconcile()
    assert (conditions["SSOConfigured"]["status"], conditions["SSOConfigured"]["reason"]) == ("False", reason)
    assert conditions["StorageReady"]["status"] == "True"
    assert conditions["Ready"]["status"] == "False"
    assert door.world.apiserver.get("deployment", "helpdesk", "-n", door.world.tenant)["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    "bundle", [b"", b"nonsense", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_bundle_that_holds_no_certificates_is_told_and_what_runs_stays(
    door: Door, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realms, "LOOK_SECONDS", 0.0)
    path = door.world.identity / f"{door.world.zone_name}.pem"
    door.apply_zone()
    door.apply(localUsers=True)
    assert (await door.world.reconcile())["SSOConfigured"]["status"] == "True"
    before = door.world.apiserver.get("configmap", "front-door", "-n", door.world.tenant)["data"]
    assert before["ca.crt"] == path.read_text()
    path.write_bytes(bundle)
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("False", "IdentityServerRefused")
    assert path.name in sso["message"]
    assert door.world.apiserver.get("configmap", "front-door", "-n", door.world.tenant)["data"] == before


@pytest.mark.parametrize("passphrase", ["", "short", 'p" \nRequire all granted', "${PATH}" * 4])
async def test_secrets_of_the_door_that_no_config_can_hold_are_made_anew(door: Door, passphrase: str) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    data = {"passphrase": base64.b64encode(passphrase.encode()).decode()}
    door.world.apiserver.kubectl(
        "patch", "secret", "front-door", "-n", door.world.tenant, "--type=merge", "-p", json.dumps({"data": data})
    )
    assert (await door.world.reconcile())["SSOConfigured"]["status"] == "True"
    found = door.world.apiserver.get("secret", "front-door", "-n", door.world.tenant)["data"]
    made = {k: base64.b64decode(v).decode() for k, v in found.items()}
    assert len(made["passphrase"]) > 40
    assert f'OIDCCryptoPassphrase "{made["passphrase"]}"\n' in made["secrets.conf"]


async def test_a_zone_without_an_identity_server_says_so(door: Door) -> None:
    door.world.apply_zone()
    door.apply(localUsers=True)
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["status"], sso["reason"]) == ("False", "NoIdentityServer")


async def test_a_grant_for_an_unknown_assistant_is_told(door: Door, keycloak: KeycloakServer) -> None:
    door.apply_zone()
    provider = {
        "name": "corp",
        "oidc": {"issuer": f"{keycloak.url}/realms/master", "clientId": "c", "clientSecret": "corp"},
        "mfa": {"mode": "local"},
        "roleMappings": [{"group": "g", "role": "manager", "assistants": ["helpdesk", "nobody"]}],
    }
    door.apply(identityProviders=[provider])
    sso = (await door.world.reconcile())["SSOConfigured"]
    assert (sso["reason"], "nobody" in sso["message"]) == ("AssistantUnknown", True)


async def test_secrets_of_the_door_stay_out_of_status_and_events(door: Door) -> None:
    door.apply_zone()
    door.apply(localUsers=True)
    await door.world.reconcile()
    told = json.dumps(await door.world.status()) + json.dumps(door.world.apiserver.get("events", "-A")["items"])
    assert door.secret() not in told
    assert door.keycloak.admin_secret not in told
