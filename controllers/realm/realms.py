"""The realms of all tenants: none is looked at more often than needed, and a dead server holds up nobody."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from keycloak import KeycloakAdmin

from domicile.api.egress import leads
from domicile.api.sites import ServedZone
from domicile.api.sso import Sso
from domicile.controllers.realm import logins, refusals, repair, watch
from domicile.controllers.realm.desired import Desired, Subject, build, realm_name
from domicile.controllers.realm.discovery import Endpoints
from domicile.controllers.realm.dormancy import DAY_SECONDS
from domicile.controllers.realm.mail import Mail, MailAccountError
from domicile.controllers.realm.mailservers import MailServers
from domicile.controllers.realm.mend import accounts, sessions
from domicile.controllers.realm.server import (
    Account,
    IdentityError,
    IdentityServer,
    RefusedError,
    UnreachableError,
    load_account,
    load_bundle,
    load_mail,
)
from domicile.controllers.realm.state import RealmState

# URL, account, the CA bundle's content and the proxy.
_Access = tuple[str, Account, bytes, str | None]

# A realm that nobody asked to change is compared with what it should be this often.
LOOK_SECONDS = 300.0
# The same where an identity provider or a directory is at fault, and how long a silent server is left alone.
FAULT_SECONDS = 60.0
SILENCE_SECONDS = 15.0
_SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")


class _SilentError(UnreachableError):
    """It did not answer somebody else a moment ago."""


@dataclass(frozen=True)
class _Seen:
    digest: str
    at: float
    state: RealmState
    endpoints: Mapping[str, Endpoints]


class Realms:
    """Sees to realms on the identity servers of the served zones."""

    def __init__(
        self,
        accounts: Path,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        proxy: str | None = None,
    ) -> None:
        """``accounts``: the mounted folder of ``<zone>.json`` and ``<zone>.pem``; ``now``: Unix time; ``proxy``: URL of
        one that leads out of the site.
        """
        self._accounts = accounts
        self._clock = clock
        self._now = now
        self._proxy = proxy
        self._servers: dict[str, tuple[_Access, IdentityServer]] = {}
        self._silent: dict[str, tuple[float, str]] = {}
        self._seen: dict[str, _Seen] = {}
        self._refused: dict[str, dict[str, refusals.Refusal]] = {}
        self._emergency: dict[tuple[str, str], str | None] = {}
        self._memories: dict[str, watch.Memory] = {}
        self._mail_servers = MailServers(clock)
        self._tidied: dict[str, float] = {}
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def see_to(self, zone: ServedZone, subject: Subject, sso: Sso) -> RealmState:
        """Bring a tenant's realm to what its spec asks for, unless that was done and looked at lately."""
        mail, fault = await self._mail(zone, sso)
        return replace(await self._see_to(zone, build(subject, sso, mail), subject, sso), mail=fault)

    async def _mail(self, zone: ServedZone, sso: Sso) -> tuple[Mail | None, tuple[str, str] | None]:
        """The zone's mail server, where the realm needs one; why it takes no mail, if it doesn't.

        It is named all the same: what goes on may be between it and this operator alone, and without it all sessions of
        the realm would end.
        """
        server = zone.spec.identity.mail if zone.spec.identity else None
        if server is None or not sso.local_users:
            return None, None
        try:
            mail = load_mail(self._accounts, server)
        except MailAccountError as error:
            return Mail(server), ("MailAccountMissing", str(error))
        return mail, await self._mail_servers.fault(mail, self.authorities(zone))

    async def _see_to(self, zone: ServedZone, desired: Desired, subject: Subject, sso: Sso) -> RealmState:
        issuer = f"{_public_url(zone)}/realms/{desired.name}"
        tries = refusals.attempts(desired, subject.versions)
        digest, seen = _digest(desired, tries), self._seen.get(desired.name)
        if seen is not None and seen.digest == digest and self._clock() - seen.at < _patience(seen.state):
            return replace(seen.state, issuer=issuer, mended=())
        known = seen.endpoints if seen else {}
        refused = self._refused.get(desired.name, {})
        spared = refusals.spared(refused, tries, self._clock())
        if seen is not None:
            # After a failure nobody knows what was written.
            self._seen[desired.name] = replace(seen, digest="")
        try:
            async with self._realm(zone, desired.name) as admin:
                changed = seen is None or seen.digest != digest
                outcome = await repair.ensure(admin, desired, known, changed=changed, spared=spared)
                new = {n: refusals.told(outcome.unreachable[n], self._now()) for n in outcome.refused}
                self._refused[desired.name] = refusals.remember(refused, spared, new, tries, self._clock())
                alerts = await self._watch(admin, desired.name, sso, outcome)
        except IdentityError as error:
            return RealmState(issuer, error=(error.reason, str(error)))
        state = RealmState(
            issuer, outcome.mended, outcome.faults, {**outcome.unreachable, **new}, alerts=alerts, keys=outcome.keys
        )
        self._seen[desired.name] = _Seen(digest, self._clock(), state, outcome.endpoints)
        return state

    async def _watch(
        self, admin: KeycloakAdmin, name: str, sso: Sso, outcome: repair.Outcome
    ) -> tuple[watch.Alert, ...]:
        now, memory = self._now(), self._memories.get(name)
        seen = await logins.look(admin, watch.since(memory, now))
        if sso.passwords and sso.passwords.break_glass:
            account = sso.passwords.break_glass
            known = self._emergency.get((name, account))
            # By its name it can't be found while a directory is silent; one that refuses us must not be tried again.
            if known is not None or not outcome.unreachable:
                since = watch.emergencies_since(memory, now)
                found = await logins.break_glass(admin, account, since, known)
                self._emergency[name, account] = found.account
                seen = replace(seen, break_glass=found)
        alerts, self._memories[name] = watch.judge(seen, memory, now)
        # While a directory is silent the server can't list accounts.
        due = now - self._tidied.get(name, 0.0) >= DAY_SECONDS and not outcome.unreachable
        if sso.passwords and sso.passwords.dormant_days and due:
            alerts += watch.dormant_disabled(await accounts.disable_dormant(admin, sso.passwords, now))
            self._tidied[name] = now
        return alerts

    async def close(self, zone: ServedZone, tenant: str, tenant_id: str) -> None:
        """Let nobody in any more; the accounts stay until they are erased. Raises IdentityError."""
        name = realm_name(tenant, tenant_id)
        self._seen.pop(name, None)
        self._refused.pop(name, None)
        self._emergency = {k: account for k, account in self._emergency.items() if k[0] != name}
        self._memories.pop(name, None)
        async with self._realm(zone, name) as admin:
            await repair.close(admin, name, tenant_id)

    def authorities(self, zone: ServedZone) -> str:
        """The authorities (PEM) that vouch for the zone's identity server: those of its account, else the system's.

        Empty where its account has a bundle that can't be used, which ``see_to`` tells.
        """
        bundle = self._accounts / f"{zone.name}.pem"
        if not bundle.exists():
            return _SYSTEM.read_text()
        try:
            return load_bundle(bundle)
        except RefusedError:
            return ""

    async def end_sessions(self, zone: ServedZone, tenant: str, tenant_id: str) -> int:
        """End all sessions of a tenant's people; how many there were. Raises IdentityError."""
        async with self._realm(zone, realm_name(tenant, tenant_id)) as admin:
            return await sessions.end(admin)

    @asynccontextmanager
    async def _realm(self, zone: ServedZone, name: str) -> AsyncIterator[KeycloakAdmin]:
        """A connection to a realm; where the server is silent, the next thousand tenants don't wait for it, too."""
        self._refuse_while_silent(zone)
        server = await self._server(zone)
        try:
            async with server.realm(name) as admin:
                # Whoever waited for a connection may have waited for that.
                self._refuse_while_silent(zone)
                yield admin
        except _SilentError:
            raise
        except UnreachableError as error:
            self._silent[zone.name] = (self._clock(), str(error))
            raise

    def _refuse_while_silent(self, zone: ServedZone) -> None:
        silent = self._silent.get(zone.name)
        if silent is not None and self._clock() - silent[0] < SILENCE_SECONDS:
            raise _SilentError(silent[1])

    async def _server(self, zone: ServedZone) -> IdentityServer:
        identity = zone.spec.identity
        if identity is None:
            raise IdentityError(f"Zone {zone.name} names no identity server: add spec.identity.")
        account, bundle = load_account(self._accounts, zone.name)
        url = identity.for_operators
        proxy = self._proxy if identity.pods is None and leads(url) else None
        access = (url, account, bundle.read_bytes() if bundle else b"", proxy)
        async with self._opening:
            known = self._servers.get(zone.name)
            if known is not None and known[0] == access:
                return known[1]
            if known is not None:
                # What is under way there ends first.
                self._closing.add(task := asyncio.create_task(known[1].close()))
                task.add_done_callback(self._closing.discard)
            server = IdentityServer(url, account, str(bundle) if bundle else True, proxy=proxy)
            self._servers[zone.name] = (access, server)
            return server


def _public_url(zone: ServedZone) -> str:
    return zone.spec.identity.url.removesuffix("/") if zone.spec.identity else ""


def _patience(state: RealmState) -> float:
    return FAULT_SECONDS if state.faults or state.unreachable else LOOK_SECONDS


def _digest(desired: Desired, tries: Mapping[str, str]) -> str:
    wire = json.dumps(asdict(desired) | {"actions": sorted(desired.actions), "tries": tries}, sort_keys=True)
    return hashlib.sha256(wire.encode()).hexdigest()
