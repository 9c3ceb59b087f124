"""``kubectl domicile snapshot TENANT``: ask for a snapshot now and wait for the commit."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Any

from domicile.api.common import ANNOTATION_ACCEPT_CHANGE, ANNOTATION_REPLICATE, API_VERSION
from domicile.kube.client import MERGE_PATCH, Kube, KubeError, path_of


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once a commit newer than the request exists, else 1."""
    try:
        return asyncio.run(_run(args))
    except KubeError as error:
        print(f"snapshot: {error}", file=sys.stderr)
        return 1


async def _run(args: argparse.Namespace) -> int:
    kube = await Kube.connect(user_agent="kubectl-domicile")
    try:
        asked = datetime.now(UTC)
        annotations = {ANNOTATION_REPLICATE: asked.isoformat()}
        if args.accept_change:
            # The word counts for the very request that it names.
            annotations[ANNOTATION_ACCEPT_CHANGE] = annotations[ANNOTATION_REPLICATE]
        patch = {"metadata": {"annotations": annotations}}
        path = path_of(API_VERSION, "AssistantTenant", args.tenant)
        before = await kube.request("PATCH", path, patch, content_type=MERGE_PATCH)
        begun = time.monotonic()
        old = _commit(before)
        while time.monotonic() - begun < args.timeout:
            tenant = await kube.read(API_VERSION, "AssistantTenant", args.tenant) or {}
            commit = _commit(tenant)
            if commit and commit != old and datetime.fromisoformat(commit["cutTime"]) >= asked:
                print(
                    f"{args.tenant}: snapshot {commit['seq']} at {commit['target']}"
                    f" after {time.monotonic() - begun:.1f} s"
                )
                return 0
            failure = _failure(tenant, asked)
            if failure:
                print(f"snapshot: {failure}", file=sys.stderr)
                return 1
            await asyncio.sleep(0.5)
        print(f"snapshot: none within {args.timeout:.0f} s; see kubectl describe at {args.tenant}", file=sys.stderr)
        return 1
    finally:
        await kube.close()


def _commit(tenant: dict[str, Any]) -> dict[str, Any]:
    commit: dict[str, Any] = (tenant.get("status") or {}).get("lastCommit") or {}
    return commit


def _failure(tenant: dict[str, Any], asked: datetime) -> str | None:
    """The message of a ReplicationHealthy=False that turned so after the request."""
    for c in (tenant.get("status") or {}).get("conditions", []):
        if c["type"] == "ReplicationHealthy" and c["status"] == "False":
            since = datetime.fromisoformat(c["lastTransitionTime"])
            return str(c["message"]) if since >= asked.replace(microsecond=0) else None
    return None
