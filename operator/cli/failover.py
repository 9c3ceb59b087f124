"""``kubectl domicile failover``: create a Failover on the surviving cluster and follow it to its end."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from typing import Any

from domicile.api.common import API_VERSION
from domicile.kube.client import Kube, KubeError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def run(args: argparse.Namespace) -> int:
    """Exit code 0 once every tenant is open (or rehearsed), 1 where one is not, 2 for wrong usage."""
    try:
        accepted = seconds(args.accept_loss)
    except ValueError as error:
        print(f"failover: {error}", file=sys.stderr)
        return 2
    try:
        return asyncio.run(_run(args, accepted))
    except KubeError as error:
        print(f"failover: {error}", file=sys.stderr)
        return 1


def seconds(duration: str) -> int:
    """Seconds of a duration such as 90s, 15m, 2h or 1d. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+)([smhd])", duration)
    if match is None:
        raise ValueError(f"--accept-loss {duration}: write a number and a unit, as in 90s, 15m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def manifest(args: argparse.Namespace, accepted: int) -> dict[str, Any]:
    """The Failover that the arguments ask for."""
    spec: dict[str, Any] = {
        "zone": args.zone,
        "targetSite": args.to,
        "tenants": {"matchLabels": {}} if args.all else {"names": sorted(set(args.tenant))},
        "mode": "emergency",
        "acceptedDataLossSeconds": accepted,
        "sourceIsDown": args.source_is_down,
        "dryRun": args.dry_run,
        "requestedBy": args.requested_by,
    }
    name = f"{args.zone}-to-{args.to}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    return {"apiVersion": API_VERSION, "kind": "Failover", "metadata": {"name": name}, "spec": spec}


async def _run(args: argparse.Namespace, accepted: int) -> int:
    kube = await Kube.connect(user_agent="kubectl-domicile")
    try:
        failover = await kube.create(manifest(args, accepted))
        name = failover["metadata"]["name"]
        print(f"failover.domicile.dev/{name} created", flush=True)
        if args.no_wait:
            return 0
        return await _follow(kube, name, time.monotonic() + args.timeout)
    finally:
        await kube.close()


async def _follow(kube: Kube, name: str, deadline: float) -> int:
    told: set[tuple[str, str]] = set()
    while time.monotonic() < deadline:
        failover = await kube.read(API_VERSION, "Failover", name)
        status = (failover or {}).get("status") or {}
        for tenant in status.get("tenants", []):
            for step in tenant.get("phases", []):
                if (tenant["tenant"], step["phase"]) not in told:
                    told.add((tenant["tenant"], step["phase"]))
                    print(f"  {tenant['tenant']:<24} {step['phase']:<10} {step['seconds']:8.1f} s", flush=True)
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), None)
        if ready and ready["reason"] != "TakingOver":
            return _tell_end(name, status, ready)
        await asyncio.sleep(0.5)
    print(f"failover: {name} is not finished yet; follow it with: kubectl get failover {name} -o yaml", file=sys.stderr)
    return 1


def _tell_end(name: str, status: dict[str, Any], ready: dict[str, Any]) -> int:
    for tenant in status.get("tenants", []):
        if tenant["phase"] == "Failed":
            print(f"  {tenant['tenant']:<24} Failed: {tenant.get('message', '')}", file=sys.stderr)
        else:
            rto = f"RTO {tenant['rtoSeconds']:.1f} s, " if "rtoSeconds" in tenant else ""
            rpo = f"RPO {tenant.get('rpoSeconds', 0):.1f} s, snapshot {tenant.get('commitSeq')}"
            print(f"  {tenant['tenant']:<24} {rto}{rpo}")
    print(f"failover.domicile.dev/{name}: {ready['reason']}: {ready['message']}")
    return 0 if ready["status"] == "True" else 1
