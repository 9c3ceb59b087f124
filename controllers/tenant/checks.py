"""Runs the checks of what a tenant's pods reach: as Jobs, when what they should reach has changed, and daily."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from domicile.api.common import LABEL_INSTANCE
from domicile.api.tenant import Role
from domicile.controllers.tenant import names, reach, way
from domicile.controllers.tenant.addresses import is_address
from domicile.controllers.tenant.parts import DNS_LABEL, DNS_NAMESPACE, DNS_VALUE
from domicile.controllers.tenant.view import Run, TenantView
from domicile.kube.client import ConflictError, ForbiddenError, InvalidError, Kube

Object = dict[str, Any]

LABELS = f"{LABEL_INSTANCE}={reach.NAME}"
_OF_JOB = "batch.kubernetes.io/job-name"
# Of so many other tenants: each is closed at both ends, so that a few tell whether that holds.
_NEIGHBOURS = 2
_LOOKUPS = 8
_LOOKUP_SECONDS = 5


class Checks:
    """Makes and ends the Jobs. It knows addresses of tenants' servers as far as the operator has just seen them."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._servers: dict[str, dict[str, tuple[str, int]]] = {}
        # Of its own: a name server that is silent must hold up nothing else.
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "lookup")

    def seen(self, view: TenantView, live: Object) -> None:
        """An object of the tenant, as the API server has it: a Service that has pods here is one to try."""
        if live["kind"] == "Service" and view.role is Role.ACTIVE:
            address = live["spec"]["clusterIP"], live["spec"]["ports"][0]["port"]
            self._servers.setdefault(view.name, {})[live["metadata"]["name"]] = address

    def gone(self, tenant: str) -> None:
        """A tenant has no servers here any more."""
        self._servers.pop(tenant, None)

    async def see_to(self, view: TenantView) -> TenantView:
        """The view, with what keeps a check from running, if anything."""
        wanted = {check.job: check for check in reach.checks(view)}
        for name, run in view.runs.items():
            if name not in wanted or reach.due(wanted[name], run, view.now):
                await self._kube.delete("batch/v1", "Job", name, view.name)
        refusal = None
        for name in wanted.keys() - view.runs.keys():
            try:
                # One that was ended a moment ago may still be there.
                with suppress(ConflictError):
                    check, others = wanted[name], self._neighbours(view.name)
                    await self._kube.create(reach.job(view, check, others, await self.looked_up(view, check)))
            except (InvalidError, ForbiddenError) as error:
                refusal = f"The API server refuses Job {name}: {error}"
        return replace(view, check_refusal=refusal)

    async def looked_up(self, view: TenantView, check: reach.Check) -> dict[str, str]:
        """Addresses of a check's places, for pods that may look up none themselves.

        Those of Services are the API server's. Of a name that nobody knows there is none: it counts as closed.
        """
        if check.component != reach.ASSISTANT or not way.led(view):
            return {}
        hosts = tuple(dict.fromkeys(p.host for p in check.places))
        found = await asyncio.gather(*(self._address(host) for host in hosts))
        return {host: address for host, address in zip(hosts, found, strict=True) if address is not None}

    async def _address(self, host: str) -> str | None:
        if is_address(host):
            return host
        if host == reach.DNS:
            listed = await self._kube.list("v1", "Service", DNS_NAMESPACE, labels=f"{DNS_LABEL}={DNS_VALUE}")
            return next((ip for service in listed for ip in names.of_service(service)), None)
        if host.endswith(".svc"):
            service = await self._kube.read("v1", "Service", *names.service(host))
            return next(iter(names.of_service(service)), None)
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                found = await asyncio.get_running_loop().run_in_executor(self._lookups, socket.getaddrinfo, host, None)
        except (OSError, TimeoutError):
            return None
        return str(found[0][4][0])

    def _neighbours(self, tenant: str) -> dict[str, tuple[str, int]]:
        """By names that tell nobody who the others are."""
        others = islice((servers for name, servers in sorted(self._servers.items()) if name != tenant), _NEIGHBOURS)
        found = [address for servers in others for _, address in sorted(servers.items())]
        return {f"another tenant's server {n}": address for n, address in enumerate(found, 1)}


def runs(jobs: Sequence[Object], pods: Sequence[Object]) -> dict[str, Run]:
    """The runs that there are, by name of their Job."""
    said = {pod["metadata"].get("labels", {}).get(_OF_JOB): _said(pod) for pod in pods}
    return {j["metadata"]["name"]: Run(_finished(j), said.get(j["metadata"]["name"]), _started(j)) for j in jobs}


def _started(job: Object) -> datetime:
    return datetime.fromisoformat(job["metadata"]["creationTimestamp"])


def _finished(job: Object) -> datetime | None:
    ended = (c for c in job.get("status", {}).get("conditions", []) if c["type"] in {"Complete", "Failed"})
    return next((datetime.fromisoformat(c["lastTransitionTime"]) for c in ended if c["status"] == "True"), None)


def _said(pod: Object) -> frozenset[str] | None:
    for container in pod.get("status", {}).get("containerStatuses", []):
        ended = container.get("state", {}).get("terminated", {})
        if ended.get("exitCode") == 0:
            return _names(ended.get("message", ""))
    return None


def _names(message: str) -> frozenset[str] | None:
    try:
        names = json.loads(message)
    except json.JSONDecodeError:
        return None
    return frozenset(map(str, names)) if isinstance(names, list) else None
