"""The accounts of the site's way out: the file that it reads, and each tenant's password in the tenant's namespace."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from domicile.api.common import FIELD_MANAGER, GROUP, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_NAME
from domicile.controllers.egress.accounts import LOGINS, OWN, Account, Destination, digest, of_tenant, render
from domicile.controllers.egress.destinations import TENANT_KEY, TENANT_SECRET
from domicile.kube.apply import apply
from domicile.kube.client import MERGE_PATCH, Kube, NotFoundError, object_path

Object = dict[str, Any]

SECRET = "domicile-egress"  # noqa: S105 - the name of a Secret
"""Of the operator's namespace: what squid reads."""
FILE = "accounts.json"
OWN_SECRETS = {OWN: "domicile-way-out", LOGINS: "domicile-way-out-logins"}
"""Of the operator's namespace: what the installation itself proves itself by, by account."""
ANNOTATION = f"egress.{GROUP}/accounts"
"""Of pods: the digest of the accounts that they are to have, or of the account that they are to use."""
_WAY_OUT = "egress"
_CLIENTS = "operator,lease-agent"
_LABELS = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_COMPONENT: "egress"}
_LEAST = 32
_STAMP_DIGITS = 16


class Egress:
    """Writes accounts; in the steady state every call is two reads at most."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._writing = asyncio.Lock()

    async def see_to(
        self,
        namespace: str,
        account: str,
        destinations: tuple[Destination, ...],
        labels: Mapping[str, str],
        secret: str = TENANT_SECRET,
    ) -> None:
        """Let an account reach exactly these; ``labels`` go onto its Secret. Raises what the API server refuses."""
        async with self._writing:
            known = await self._known()
            others = {i: a for i, a in (known or {}).items() if i != account}
            if not destinations and account not in (known or {}):
                return
            if destinations:
                password = await self._password(namespace, secret, account, labels)
                others[account] = Account(account, digest(password), destinations)
            await self._write(others, known)

    async def see_to_own(self, account: str, destinations: tuple[Destination, ...]) -> None:
        """Let one of the installation's own reach exactly these. Raises what the API server refuses."""
        await self.see_to(self._namespace, account, destinations, _LABELS, OWN_SECRETS[account])

    async def keep(self, tenant_ids: Collection[str]) -> None:
        """Forget all other tenants; writes the file where there is none. Raises what the API server refuses."""
        kept = {*OWN_SECRETS, *chain.from_iterable(map(of_tenant, tenant_ids))}
        async with self._writing:
            known = await self._known()
            await self._write({i: a for i, a in (known or {}).items() if i in kept}, known)

    async def _known(self) -> dict[str, Account] | None:
        """What is written, by id; None where nothing is, or nothing that can be read."""
        found = await self._kube.read("v1", "Secret", SECRET, self._namespace)
        return _parsed(_value(found, FILE))

    async def _write(self, wanted: Mapping[str, Account], known: Mapping[str, Account] | None) -> None:
        if wanted != known:
            text = render(wanted.values())
            await apply(self._kube, _secret(self._namespace, SECRET, _LABELS, FILE, text))
            await self._hurry(_WAY_OUT, text)

    async def _hurry(self, components: str, content: str) -> None:
        """A kubelet looks at what a pod mounts each minute or so, and at once where the pod's annotations change."""
        change = {"metadata": {"annotations": {ANNOTATION: digest(content)[:_STAMP_DIGITS]}}}
        labels = f"{LABEL_NAME}=domicile,{LABEL_COMPONENT} in ({components})"
        for pod in await self._kube.list("v1", "Pod", self._namespace, labels=labels):
            with suppress(NotFoundError):
                await self._kube.request("PATCH", object_path(pod), change, content_type=MERGE_PATCH)

    async def _password(self, namespace: str, secret: str, account: str, labels: Mapping[str, str]) -> str:
        """The account's, minted where it has none; one of an earlier tenant of the name is not this one's."""
        found = await self._kube.read("v1", "Secret", secret, namespace)
        known, _, password = (_value(found, TENANT_KEY) or "").partition(":")
        if known == account and len(password) >= _LEAST:
            return password
        password = secrets.token_urlsafe(32)
        await apply(self._kube, _secret(namespace, secret, labels, TENANT_KEY, f"{account}:{password}"))
        if account in OWN_SECRETS:
            # They run already, and reach no store before they have it.
            await self._hurry(_CLIENTS, password)
        return password


def _parsed(text: str | None) -> dict[str, Account] | None:
    if text is None:
        return None
    try:
        accounts = [
            Account(
                entry["id"],
                entry["digest"],
                tuple(Destination(d["host"], d["port"], tuple(d["cidrs"])) for d in entry["destinations"]),
            )
            for entry in json.loads(text)["accounts"]
        ]
    except (ValueError, KeyError, TypeError):
        # What somebody has spoiled is written anew, tenant by tenant.
        return None
    return {account.id: account for account in accounts}


def _value(secret: Object | None, key: str) -> str | None:
    try:
        return base64.b64decode(((secret or {}).get("data") or {})[key], validate=True).decode()
    except (KeyError, ValueError):
        return None


def _secret(namespace: str, name: str, labels: Mapping[str, str], key: str, value: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode()},
    }
