"""The pods of a server of the operator's own in a tenant's namespace: front door or gateway."""

from __future__ import annotations

from collections.abc import Mapping

from domicile.api.common import LABEL_TENANT_ID, LABEL_TOPOLOGY_ZONE
from domicile.api.tenant import Role
from domicile.controllers.tenant.parts import Object, named, pod_security, spread
from domicile.controllers.tenant.template import merge_template
from domicile.controllers.tenant.view import TenantView

_SPREAD = (LABEL_TOPOLOGY_ZONE, "kubernetes.io/hostname")
# New requests are served for 5 s after the end was announced, and what runs may take 25 s.
_GRACE_SECONDS = 40


def deployment(
    view: TenantView,
    name: str,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    *,
    replicas: int,
    containers: list[Object],
    volumes: list[Object],
    sidecars: list[Object],
) -> Object:
    """On nodes of the site's region only; where the tenant doesn't serve there are no pods.

    ``name`` is that of the service account, too. ``sidecars`` (KEP-753) are there before the ``containers`` and after
    them. Raises ValueError where no zone is served.
    """
    if view.zone is None:
        raise ValueError("builders need a served zone; the policies gate on it")
    template: Object = {
        "metadata": {"labels": dict(labels) | {LABEL_TENANT_ID: view.tenant_id or ""}},
        "spec": {
            "serviceAccountName": name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "securityContext": pod_security(),
            "topologySpreadConstraints": [spread(k, selector) for k in _SPREAD],
            "initContainers": sidecars,
            "containers": containers,
            "volumes": volumes,
        },
    }
    return named("apps/v1", "Deployment", view.name, name, labels) | {
        "spec": {
            "replicas": replicas if view.role is Role.ACTIVE else 0,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(selector)},
            "template": merge_template({}, {}, template, view.zone.own.region),
        }
    }
