"""``kubectl domicile sessions end TENANT``: end all sessions of a tenant's people and wait until it is done."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime

from domicile.api.common import ANNOTATION_END_SESSIONS, API_VERSION
from domicile.kube.client import MERGE_PATCH, Kube, KubeError, path_of


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once the operator has ended them, else 1."""
    try:
        return asyncio.run(_run(args))
    except KubeError as error:
        print(f"sessions: {error}", file=sys.stderr)
        return 1


async def _run(args: argparse.Namespace) -> int:
    kube = await Kube.connect(user_agent="kubectl-domicile")
    try:
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
        print(
            f"sessions: not ended within {args.timeout:.0f} s, and still asked for; see condition SSOConfigured in:"
            f" kubectl describe assistanttenant {args.tenant}",
            file=sys.stderr,
        )
        return 1
    finally:
        await kube.close()
