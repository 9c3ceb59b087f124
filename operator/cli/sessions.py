"""``kubectl domicile sessions list|end TENANT``: who of a tenant's people is logged in, and an end to it.

The end of all is asked of the operator. A list and the end of one are asked of the identity server itself, by an
account of whoever asks: people are named in no object of the cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from domicile.api.common import ANNOTATION_END_SESSIONS, API_VERSION
from domicile.api.tenant import AssistantTenantStatus
from domicile.api.zone import ResidencyZoneSpec
from domicile.controllers.realm import logins
from domicile.controllers.realm.mend.sessions import end_one
from domicile.controllers.realm.server import IdentityError, IdentityServer, load_account
from domicile.kube.client import MERGE_PATCH, Kube, KubeError, path_of

_ID = re.compile("[A-Za-z0-9_-]{1,128}", re.ASCII)


class _WrongError(Exception):
    """What was asked for can't be done; the text says why."""


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once it is done, else 1."""
    try:
        return asyncio.run(_run(args))
    except (KubeError, IdentityError, _WrongError) as error:
        print(f"sessions: {error}", file=sys.stderr)
        return 1


async def _run(args: argparse.Namespace) -> int:
    kube = await Kube.connect(user_agent="kubectl-domicile")
    try:
        if args.what == "end" and args.session is None:
            return await _end_all(kube, args)
        server, realm = await _realm(kube, args)
        try:
            return await (_list(server, realm) if args.what == "list" else _end_one(server, realm, args.session))
        finally:
            await server.close()
    finally:
        await kube.close()


async def _realm(kube: Kube, args: argparse.Namespace) -> tuple[IdentityServer, str]:
    """The tenant's realm and its server. Raises _WrongError, and IdentityError where there is no account."""
    tenant = await kube.read(API_VERSION, "AssistantTenant", args.tenant)
    realm = AssistantTenantStatus.model_validate((tenant or {}).get("status") or {}).realm
    if tenant is None or realm is None:
        raise _WrongError(f"{args.tenant} is no tenant with a realm: whoever else logs its people in knows of sessions")
    zone = await kube.read(API_VERSION, "ResidencyZone", tenant["spec"]["zone"])
    identity = ResidencyZoneSpec.model_validate(zone["spec"]).identity if zone else None
    if identity is None:
        raise _WrongError(f"zone {tenant['spec']['zone']} has no identity server")
    account, bundle = load_account(args.accounts, tenant["spec"]["zone"])
    url = args.url or identity.admin_url or identity.url
    certificate = str(args.certificate) if args.certificate else None
    return IdentityServer(url, account, str(bundle) if bundle else True, certificate), realm


async def _list(server: IdentityServer, realm: str) -> int:
    async with server.realm(realm) as admin:
        found = await logins.sessions(admin)
    for line in (("SESSION", "BEGAN", "LAST SEEN", "ADDRESS", "PERSON"), *map(_line, found)):
        print("{:36}  {:20}  {:20}  {:39}  {}".format(*line))
    return 0


def _line(session: dict[str, Any]) -> tuple[str, ...]:
    began, seen = (
        datetime.fromtimestamp(session[k] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for k in ("start", "lastAccess")
    )
    return session["id"], began, seen, session.get("ipAddress") or "", session.get("username") or ""


async def _end_one(server: IdentityServer, realm: str, session: str) -> int:
    if not _ID.fullmatch(session):
        raise _WrongError("a session's id has letters, digits, - and _; see: kubectl domicile sessions list")
    async with server.realm(realm) as admin:
        ended = await end_one(admin, session)
    if not ended:
        raise _WrongError(f"realm {realm} has no session {session}; it may be over already")
    print(f"session {session} is ended")
    return 0


async def _end_all(kube: Kube, args: argparse.Namespace) -> int:
    asked = datetime.now(UTC).isoformat()
    path = path_of(API_VERSION, "AssistantTenant", args.tenant)
    patch = {"metadata": {"annotations": {ANNOTATION_END_SESSIONS: asked}}}
    await kube.request("PATCH", path, patch, content_type=MERGE_PATCH)
    until = time.monotonic() + args.timeout
    while time.monotonic() < until:
        tenant = await kube.read(API_VERSION, "AssistantTenant", args.tenant) or {}
        if (tenant.get("status") or {}).get("lastHandledEndSessionsAt") == asked:
            print(f"{args.tenant}: all sessions are ended")
            return 0
        await asyncio.sleep(0.5)
    raise _WrongError(
        f"not ended within {args.timeout:.0f} s, and still asked for; see condition SSOConfigured in:"
        f" kubectl describe assistanttenant {args.tenant}"
    )
