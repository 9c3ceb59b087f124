"""``kubectl domicile restore TENANT``: create a Restore in the tenant's cluster and follow it to its end."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

from domicile.api.common import API_VERSION
from domicile.cli import site
from domicile.cli.site import UsageError
from domicile.kube.client import Kube, KubeError

_SECONDS = 0.5


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once the snapshot is restored (or rehearsed), 1 where it is not, 2 for wrong usage."""
    try:
        return asyncio.run(_run(args, manifest(args)))
    except UsageError as error:
        print(f"restore: {error}", file=sys.stderr)
        return site.USAGE
    except KubeError as error:
        print(f"restore: {error}", file=sys.stderr)
        return 1


def manifest(args: argparse.Namespace) -> dict[str, Any]:
    """The Restore that the arguments ask for. Raises UsageError."""
    if args.into is None:
        raise UsageError("with a tenant's name the operator restores: --into live or --into beside")
    at = site.moment(args.at)
    spec: dict[str, Any] = {
        "tenant": args.name,
        "into": args.into,
        "mode": args.mode,
        "prefix": args.prefix,
        "whileServing": args.while_serving,
        "dryRun": args.dry_run,
        "requestedBy": args.requested_by,
    }
    chosen = {"seq": args.seq, "at": at and at.isoformat(), "keptAt": args.replica}
    name = f"{args.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    return {
        "apiVersion": API_VERSION,
        "kind": "Restore",
        "metadata": {"name": name},
        "spec": spec | {key: value for key, value in chosen.items() if value is not None},
    }


async def _run(args: argparse.Namespace, order: dict[str, Any]) -> int:
    kube = await Kube.connect(user_agent="kubectl-domicile")
    try:
        name = (await kube.create(order))["metadata"]["name"]
        print(f"restore.domicile.dev/{name} created", flush=True)
        return 0 if args.no_wait else await _follow(kube, name, time.monotonic() + args.timeout)
    finally:
        await kube.close()


async def _follow(kube: Kube, name: str, deadline: float) -> int:
    told = ""
    while time.monotonic() < deadline:
        status = ((await kube.read(API_VERSION, "Restore", name)) or {}).get("status") or {}
        ready: dict[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        if status.get("phase") in {"Restored", "Rehearsed", "Failed"}:
            return _tell_end(name, status, ready)
        if ready and ready["message"] != told:
            told = ready["message"]
            print(f"  {status['phase']:<10} {told}", flush=True)
        await asyncio.sleep(_SECONDS)
    print(f"restore: {name} is not finished yet; follow it with: kubectl get restore {name} -o yaml", file=sys.stderr)
    return 1


def _tell_end(name: str, status: dict[str, Any], ready: dict[str, Any]) -> int:
    failed = status["phase"] == "Failed"
    if not failed:
        print(
            f"  snapshot {status['seq']} of {status['cutTime']}, kept at {status['keptAt']}:"
            f" {status['objects']} objects, {status['bytes']} bytes; {status['skipped']} there already,"
            f" {status['overwritten']} overwritten, {status['deleted']} deleted"
        )
        if bucket := status.get("bucket"):
            print(f"  bucket {bucket}")
    print(f"restore.domicile.dev/{name}: {ready['reason']}: {ready['message']}", file=sys.stderr if failed else None)
    return 1 if failed else 0
