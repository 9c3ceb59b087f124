"""A snapshot at once: turn the request annotation into one Job of the site's replicator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from domicile.api.common import (
    ANNOTATION_ACCEPT_CHANGE,
    ANNOTATION_REPLICATE,
    FIELD_MANAGER,
    LABEL_COMPONENT,
    LABEL_MANAGED_BY,
)
from domicile.api.tenant import Role
from domicile.controllers.tenant.view import TenantView
from domicile.kube.apply import apply
from domicile.kube.client import Kube

_REPLICATOR = "domicile-replicate"
_PATIENCE = timedelta(minutes=10)


async def request_replication(kube: Kube, view: TenantView, annotations: Mapping[str, str]) -> TenantView:
    """Create the Job that a new value of the annotation asks for; the view remembers that it was handled.

    The Job's name derives from tenant and request, so that a second try finds the first one's Job. A change is accepted
    for this one Job, and only where the other annotation names the same request.
    """
    requested_at = annotations.get(ANNOTATION_REPLICATE)
    if not requested_at or requested_at == view.status.last_handled_replicate_at or view.role is not Role.ACTIVE:
        return view
    site = view.zone.site if view.zone else ""
    name = cron_job_name(site)
    cron_job = await kube.read("batch/v1", "CronJob", name, view.platform.namespace)
    if cron_job is None:
        failure = (
            "ReplicatorMissing",
            f"CronJob {name} is missing in {view.platform.namespace}; reinstall the chart with {site} among its sites.",
        )
        return replace(view, replication_failure=failure)
    accepted = annotations.get(ANNOTATION_ACCEPT_CHANGE) == requested_at
    await apply(kube, job(cron_job, site, view.tenant_id or "", requested_at, accept_change=accepted))
    status = view.status.model_copy(update={"last_handled_replicate_at": requested_at})
    return replace(view, status=status)


def cron_job_name(site: str) -> str:
    """The CronJob whose pods run on nodes of the site's region only; the chart makes one for each site."""
    return f"{_REPLICATOR}-{site}"


def awaits_snapshot(view: TenantView) -> bool:
    """Whether a snapshot was asked for in the last minutes and neither has come nor failed yet."""
    try:
        asked = datetime.fromisoformat(view.status.last_handled_replicate_at or "")
    except ValueError:
        return False
    if asked.tzinfo is None or view.now - asked > _PATIENCE or view.replication_failure is not None:
        return False
    return view.last_commit is None or view.last_commit.cut_time < asked


def job(
    cron_job: dict[str, Any], site: str, tenant: str, requested_at: str, *, accept_change: bool = False
) -> dict[str, Any]:
    """One run of a site's replicator for one tenant, from the CronJob's own template and so in its region."""
    template: dict[str, Any] = cron_job["spec"]["jobTemplate"]
    pod = template["spec"]["template"]
    args = ["replicate", "--tenant", tenant, "--site", site, *(["--accept-change"] if accept_change else [])]
    container = {**pod["spec"]["containers"][0], "args": args}
    digest = hashlib.sha256(f"{tenant} {requested_at}".encode()).hexdigest()[:12]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{_REPLICATOR}-{digest}",
            "namespace": cron_job["metadata"]["namespace"],
            "labels": {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_COMPONENT: "replicator"},
        },
        "spec": {
            **template["spec"],
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": 3600,
            "template": {**pod, "spec": {**pod["spec"], "containers": [container]}},
        },
    }
