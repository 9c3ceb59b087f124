"""What is tried to see that a tenant's pods reach what the chain names and nothing else, as pure functions.

A network policy binds pods by their labels. So a check is a pod of the same labels as those that it stands for, which
tries all places that the chain knows, with each hop skipped, and tells which it reached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from domicile.api.common import LABEL_COMPONENT, LABEL_INSTANCE, LABEL_NAME
from domicile.api.tenant import Role
from domicile.controllers.egress import destinations as egress
from domicile.controllers.tenant import by_name, front_door, gateway, login, pool, way
from domicile.controllers.tenant.addresses import store_address
from domicile.controllers.tenant.network import SESSIONS_PORT, network_policies
from domicile.controllers.tenant.parts import (
    ASSISTANTS,
    DOORS,
    GATEWAYS,
    RESTRICTED,
    Object,
    labels_of,
    named,
    pod_security,
)
from domicile.controllers.tenant.template import merge_template
from domicile.controllers.tenant.view import Run, TenantView

NAME: Final = "reach-check"
ASSISTANT, GATEWAY, DOOR = (labels[LABEL_COMPONENT] for labels in (ASSISTANTS, GATEWAYS, DOORS))
API_SERVER, LEASE, SESSIONS = "API server", "lease agent", "session store"
ALWAYS_THERE: Final = frozenset({API_SERVER, LEASE, SESSIONS})
"""Places that answer whoever gets through to them, at any time."""

DNS: Final = "kube-dns.kube-system.svc"
"""The cluster's, however its Service is called: that of the pods that policies open."""
_LOOK_SECONDS = 60
_DEADLINE_SECONDS = 300
_GOOD = timedelta(days=1)
_BAD = timedelta(minutes=10)
_BROKEN = timedelta(minutes=1)
_OVERDUE = timedelta(minutes=10)


class Place(NamedTuple):
    """Somewhere to connect to; ``open_to`` are the components whose pods should get there."""

    name: str
    host: str
    port: int
    open_to: frozenset[str] = frozenset()


class Check(NamedTuple):
    """What the pods of one component should reach."""

    component: str
    job: str
    """Name of its Job; another one where anything about it changes."""
    places: tuple[Place, ...]

    @property
    def allowed(self) -> frozenset[str]:
        """Names of the places that must be reached."""
        return frozenset(p.name for p in self.places if self.component in p.open_to)


def checks(view: TenantView) -> tuple[Check, ...]:
    """One for each component; none before there is a zone to speak of."""
    if view.zone is None:
        return ()
    places = tuple(_places(view))
    rules = [p["spec"] for p in (*network_policies(view), *by_name.policies(view))]
    told = json.dumps([[(*p[:3], sorted(p.open_to)) for p in places], rules, view.policies_foreign], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:10]
    components = (ASSISTANT, GATEWAY, *([DOOR] if view.spec.access.sso else []))
    # Others may ask it: nothing is expected of it there.
    more = {ASSISTANT: (Place("cluster DNS", DNS, 53),)} if way.led(view) else {}
    return tuple(Check(c, f"{NAME}-{c}-{digest}", (*places, *more.get(c, ()))) for c in components)


def due(check: Check, run: Run, now: datetime) -> bool:
    """Whether a run that has ended is to be repeated: a good one daily, any other one soon."""
    if run.finished is None:
        return overdue(run, now)
    if run.reached is None:
        return now - run.finished >= _BROKEN
    return now - run.finished >= (_GOOD if run.reached == check.allowed else _BAD)


def overdue(run: Run, now: datetime) -> bool:
    """Whether a run should have ended by now: something keeps it from running, and its Job from failing."""
    return run.finished is None and run.started is not None and now - run.started >= _OVERDUE


def job(
    view: TenantView,
    check: Check,
    neighbours: Mapping[str, tuple[str, int]],
    addresses: Mapping[str, str] | None = None,
) -> Object:
    """The Job of a check, which also tries the ``neighbours``: addresses and ports that belong to other tenants.

    ``addresses`` of hosts are tried in their place: who may look up no names reaches what has one all the same.
    """
    if view.zone is None:
        raise ValueError("builders need a served zone; the policies gate on it")
    tried = {p.name: ((addresses or {}).get(p.host, p.host), p.port) for p in check.places} | dict(neighbours)
    env = {
        "DOMICILE_PLACES": json.dumps(tried),
        "DOMICILE_EXPECTED": json.dumps(sorted(check.allowed)),
        "DOMICILE_SECONDS": str(_LOOK_SECONDS),
    }
    labels = labels_of(view) | {LABEL_NAME: NAME, LABEL_INSTANCE: NAME, LABEL_COMPONENT: check.component}
    template: Object = {
        "metadata": {"labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(),
            "containers": [
                {
                    "name": NAME,
                    "image": view.platform.image,
                    "imagePullPolicy": view.platform.image_pull_policy,
                    "command": ["python3", "-P", "-m", "domicile.gateway.reach"],
                    "env": [{"name": k, "value": v} for k, v in env.items()],
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "48Mi", "ephemeral-storage": "1Mi"},
                        "limits": {"cpu": "200m", "memory": "48Mi", "ephemeral-storage": "8Mi"},
                    },
                    "securityContext": dict(RESTRICTED),
                }
            ],
        },
    }
    return named("batch/v1", "Job", view.name, check.job, labels) | {
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": _DEADLINE_SECONDS,
            "template": merge_template({}, {}, template, view.zone.own.region),
        }
    }


def _places(view: TenantView) -> Iterator[Place]:
    """All that the chain knows; what has no pods at the standby is no place there."""
    platform, zone = f"{view.platform.namespace}.svc", view.zone
    if zone is None:
        return
    yield Place(API_SERVER, "kubernetes.default.svc", 443)
    yield Place("metadata server", "169.254.169.254", 80)
    yield Place(LEASE, f"domicile-lease.{platform}", 443, frozenset({ASSISTANT}))
    yield Place(SESSIONS, f"domicile-sessions.{platform}", SESSIONS_PORT, frozenset({GATEWAY, DOOR}))
    led, door_led = way.led(view), login.led(view)
    goes = {GATEWAY: bool(pool.reached(view)), ASSISTANT: led, DOOR: door_led}
    through = frozenset(component for component, may in goes.items() if may)
    yield Place("way out", f"domicile-egress.{platform}", egress.PORT, through)
    own = store_address(zone.own)
    yield Place("store", *own, frozenset(() if led else {ASSISTANT}))
    for site in zone.spec.sites:
        if (other := store_address(site)) != own:
            yield Place(f"store of {site.name}", *other)
    if zone.spec.identity is not None:
        by_realm = view.spec.access.sso is not None and view.external is None and not door_led
        url = urlsplit(zone.spec.identity.for_doors)
        yield Place("identity server", url.hostname or "", url.port or 443, frozenset({DOOR} if by_realm else ()))
    for provider in (m.provider for m in pool.usable(view)):
        if provider.service is not None:
            host = f"{provider.service.name}.{provider.service.namespace}.svc"
            yield Place(f"model {provider.name}", host, provider.service.port, frozenset({GATEWAY}))
    for target in pool.reached(view):
        yield Place(f"{target.host}:{target.port}", target.host, target.port)
    for host, port in view.platform.outside:
        yield Place(f"{host}:{port}", host, port)
    if view.role is Role.ACTIVE:
        yield from _servers(view)


def _servers(view: TenantView) -> Iterator[Place]:
    """The tenant's own."""
    yield Place("gateway", f"{gateway.NAME}.{view.name}.svc", 443, frozenset({ASSISTANT}))
    sso = view.spec.access.sso is not None
    if sso:
        yield Place("front door", f"{front_door.NAME}.{view.name}.svc", 443)
    if view.restoring is None:
        for assistant in view.spec.assistants:
            yield Place(
                f"assistant {assistant.name}",
                f"{assistant.name}.{view.name}.svc",
                443 if sso else 80,
                frozenset({DOOR} if sso else ()),
            )
