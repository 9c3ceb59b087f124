"""``domicile plan -f FILE``: what tenants would become, who could talk to whom, and what another version changes."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from domicile.api.common import API_VERSION
from domicile.api.sites import ServedZone
from domicile.api.tenant import AssistantTenantSpec
from domicile.api.zone import ResidencyZoneSpec
from domicile.cli.site import USAGE, UsageError
from domicile.controllers.tenant.plan import Plan, plan
from domicile.controllers.tenant.view import Platform
from domicile.settings import Settings

Object = dict[str, Any]

REFUSED = 3


@dataclass
class _Files:
    """Zones and tenants by name."""

    zones: dict[str, ResidencyZoneSpec] = field(default_factory=dict)
    tenants: dict[str, AssistantTenantSpec] = field(default_factory=dict)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 with a plan for each tenant, 2 for files that make none, 3 where a tenant would be refused."""
    try:
        new, old = _read(args.file), _read(args.against)
        if not new.tenants:
            raise UsageError(f"{', '.join(map(str, args.file))}: no AssistantTenant there")
        old.zones = {**new.zones, **old.zones}
        before, after = _plans(old, args.site), _plans(new, args.site)
    except UsageError as error:
        print(f"plan: {error}", file=sys.stderr)
        return USAGE
    if args.output == "yaml":
        print(yaml.safe_dump_all([o for p in after.values() for o in p.objects], sort_keys=False), end="")
    else:
        for line in _difference(before, after) if args.against else _told(after):
            print(line)
    refused = [p.refusal for p in after.values() if p.refusal is not None]
    return REFUSED if refused else 0


def _read(paths: Sequence[Path]) -> _Files:
    """Zones and tenants of YAML files. Raises UsageError saying which file has what wrong."""
    found = _Files()
    for path in paths:
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"{path}: {error}") from None
        for document in documents:
            if isinstance(document, dict) and document.get("apiVersion") == API_VERSION:
                _take(found, path, document)
    return found


def _take(found: _Files, path: Path, document: Object) -> None:
    kind, meta = document.get("kind"), document.get("metadata")
    name = meta.get("name") if isinstance(meta, dict) else None
    if not isinstance(name, str):
        raise UsageError(f"{path}: {kind} without metadata.name")
    try:
        if kind == "ResidencyZone":
            found.zones[name] = ResidencyZoneSpec.model_validate(document.get("spec"))
        elif kind == "AssistantTenant":
            found.tenants[name] = AssistantTenantSpec.model_validate(document.get("spec"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{path}: {kind} {name}: {wrong}") from None


def _plans(files: _Files, site: str | None) -> dict[str, Plan]:
    plans = {}
    for name, spec in sorted(files.tenants.items()):
        zone = files.zones.get(spec.zone)
        if zone is None:
            raise UsageError(f"{name}: no ResidencyZone {spec.zone} in the files; give its file, too")
        here = site or spec.home_site or zone.sites[0].name
        if here not in {s.name for s in zone.sites}:
            raise UsageError(f"{name}: zone {spec.zone} has no site {here}")
        served = ServedZone(name=spec.zone, site=here, spec=zone)
        plans[name] = plan(name, spec, served, _platform(here), datetime.now(UTC))
    return plans


def _platform(site: str) -> Platform:
    known = Settings(sites=(site,))
    images = (known.door_image, known.gateway_image)
    goes_out = bool(known.way_out)
    return Platform(known.namespace, known.image, known.image_pull_policy, known.sites, *images, goes_out=goes_out)


def _told(plans: Mapping[str, Plan]) -> Iterator[str]:
    for name, made in plans.items():
        if made.refusal is not None:
            yield f"{name} is refused, and nothing is made: {made.refusal.reason}: {made.refusal.message}"
            continue
        yield f"{name}: objects"
        yield from (f"  {_label(o)}" for o in made.objects)
        yield f"{name}: who reaches whom; everything else is closed"
        yield from (f"  {_arrow(f)}" for f in made.flows)


def _difference(before: Mapping[str, Plan], after: Mapping[str, Plan]) -> Iterator[str]:
    """Lines with + for what comes, - for what goes, ~ for what changes, and how."""
    for name in sorted({*before, *after}):
        old, new = before.get(name, Plan(None)), after.get(name, Plan(None))
        if new.refusal is not None:
            yield f"~ {name} is refused from now on: {new.refusal.reason}: {new.refusal.message}"
            continue
        had, has = ({_label(o): o for o in p.objects} for p in (old, new))
        yield from (f"- {label}" for label in had if label not in has)
        for label, made in has.items():
            if label not in had:
                yield f"+ {label}"
            elif had[label] != made:
                yield f"~ {label}"
                lines = difflib.unified_diff(_lines(had[label]), _lines(made), lineterm="", n=2)
                yield from (f"    {line}" for line in list(lines)[2:])
        yield from (f"- {_arrow(f)}" for f in old.flows if f not in new.flows)
        yield from (f"+ {_arrow(f)}" for f in new.flows if f not in old.flows)


def _lines(made: Object) -> list[str]:
    return yaml.safe_dump(made, sort_keys=True).splitlines()


def _label(made: Object) -> str:
    meta = made["metadata"]
    return f"{made['kind']} {'/'.join(filter(None, (meta.get('namespace'), meta['name'])))}"


def _arrow(flow: Any) -> str:
    return f"{flow.source} -> {flow.target} {flow.port}"
