"""CustomResourceDefinitions, generated from the pydantic models.

The output is a structural schema (apiextensions.k8s.io/v1): no references, no ``anyOf`` for optional fields,
``x-kubernetes-*`` keys and CEL rules kept as the models give them.

    python -m domicile.api.crd crds/
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from domicile.api.common import GROUP, VERSION, cel
from domicile.api.failover import FailoverSpec, FailoverStatus
from domicile.api.restore import RestoreSpec, RestoreStatus
from domicile.api.tenant import AssistantTenantSpec, AssistantTenantStatus
from domicile.api.zone import ResidencyZoneSpec, ResidencyZoneStatus

HEADER = "# Generated from operator/api by `make crds`. Do not edit.\n"
_RULES = "x-kubernetes-validations"
_DROPPED = frozenset({"$defs", "$ref", "title", "anyOf", "const", "default", "additionalProperties", "propertyNames"})

# A namespace takes the tenant's name, and the fields zone and tenants[] of other kinds hold these names.
NAME_RULE = cel(
    "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must be a DNS label of at most 40 characters",
)
RESERVED_NAME_RULE = cel(
    "self.metadata.name != 'default' && !self.metadata.name.startsWith('kube-')",
    "metadata.name is also the tenant's namespace: 'default' and 'kube-*' belong to the cluster",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column of ``kubectl get``; ``wide`` shows it with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_READY = Column("Ready", _condition("Ready"))
_MESSAGE = Column("Message", _condition("Ready", "message"), wide=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a CustomResourceDefinition says beyond its two models."""

    kind: str
    plural: str
    short: str
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    rules: tuple[dict[str, str], ...] = ()


KINDS = (
    Kind(
        "AssistantTenant",
        "assistanttenants",
        "at",
        "AssistantTenant is one customer's assistants, kept at home in a zone. Its namespace has its name.",
        AssistantTenantSpec,
        AssistantTenantStatus,
        (
            _READY,
            Column("Zone", ".spec.zone"),
            Column("Active-Site", ".status.activeSite"),
            Column("Last-Replication", ".status.lastCommit.cutTime", "date"),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), wide=True),
            _MESSAGE,
        ),
        (".spec.zone",),
        (NAME_RULE, RESERVED_NAME_RULE),
    ),
    Kind(
        "Failover",
        "failovers",
        "fo",
        "Failover is one take-over of tenants by a site, ordered by a person. It runs once and can't be changed.",
        FailoverSpec,
        FailoverStatus,
        (
            _READY,
            Column("Zone", ".spec.zone"),
            Column("Target", ".spec.targetSite"),
            Column("Mode", ".spec.mode"),
            Column("Dry-Run", ".spec.dryRun", "boolean"),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), wide=True),
            _MESSAGE,
        ),
        (".spec.zone", ".spec.targetSite"),
    ),
    Kind(
        "ResidencyZone",
        "residencyzones",
        "rz",
        "ResidencyZone is a legal area, the cloud regions in it, its one or two sites and what may be used there.",
        ResidencyZoneSpec,
        ResidencyZoneStatus,
        (
            _READY,
            Column("Jurisdiction", ".spec.jurisdiction"),
            Column("Site", ".status.site"),
            Column("Sites", ".spec.sites[*].name"),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), wide=True),
            _MESSAGE,
        ),
        (".spec.jurisdiction",),
        (NAME_RULE,),
    ),
    Kind(
        "Restore",
        "restores",
        "rst",
        "Restore is one snapshot of a tenant put into its live bucket or beside it. It runs once and can't be changed.",
        RestoreSpec,
        RestoreStatus,
        (
            _READY,
            Column("Tenant", ".spec.tenant"),
            Column("Into", ".spec.into"),
            Column("Snapshot", ".status.seq", "integer"),
            Column("Phase", ".status.phase"),
            Column("Dry-Run", ".spec.dryRun", "boolean"),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), wide=True),
            _MESSAGE,
        ),
        (".spec.tenant",),
    ),
)


def _resolve(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The node with its reference and its Optional wrapper folded in; the node's own words win, rules add up."""
    inner: dict[str, Any] = {}
    if "$ref" in node:
        inner = _resolve(defs[node["$ref"].rsplit("/", 1)[1]], defs)
    elif "anyOf" in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise ValueError(f"{node.get('title')}: a structural schema has no union types")
        inner = _resolve(options[0], defs)
    rules = [*inner.get(_RULES, []), *node.get(_RULES, [])]
    return {**inner, **node, **({_RULES: rules} if rules else {})}


def _default(value: Any) -> Any:
    # Defaults inside an object are its own fields' defaults; an empty list or map means the same as none.
    if isinstance(value, dict):
        return {} if value else None
    return None if value == [] else value


def _described(text: str, default: Any) -> str:
    if default is None or default in ({}, "") or "Default:" in text:
        return text
    return f"{text} Default: {str(default).lower() if isinstance(default, bool) else default}."


def structural(node: dict[str, Any], defs: dict[str, Any], *, defaults: bool = True) -> dict[str, Any]:
    """A pydantic JSON schema node as a structural schema. Raises ValueError for what one can't express."""
    node = _resolve(node, defs)
    out = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        out["enum"] = [node["const"]]
    if out.get("type") == "integer":
        out["format"] = "int64"
    if "properties" in out:
        out["properties"] = {k: structural(v, defs, defaults=defaults) for k, v in out["properties"].items()}
    elif isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = structural(node["additionalProperties"], defs, defaults=defaults)
    if "items" in out:
        out["items"] = structural(out["items"], defs, defaults=defaults)
    default = _default(node.get("default")) if defaults else None
    if default is not None:
        out["default"] = default
    if "description" in out:
        out["description"] = _described(" ".join(out["description"].split()), default)
    return out


def schema(model: type[BaseModel], *, defaults: bool = True) -> dict[str, Any]:
    """The structural schema of a model, by wire names."""
    raw = model.model_json_schema(by_alias=True)
    return structural(raw, raw.get("$defs", {}), defaults=defaults)


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    root: dict[str, Any] = {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema(kind.spec),
            # One writer sets every field of a status: a server-side default would only hide a missing one.
            "status": schema(kind.status, defaults=False),
        },
    }
    if kind.rules:
        root[_RULES] = list(kind.rules)
    columns = [
        {"name": c.name, "jsonPath": c.path, "type": c.type, **({"priority": 1} if c.wide else {})}
        for c in kind.columns
    ]
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": root},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["domicile"],
            },
            "versions": [version],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Block sequences indented, and no anchors for values that occur twice."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def render(kind: Kind) -> str:
    """The YAML file of a kind."""
    return HEADER + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=118)


def filename(kind: Kind) -> str:
    """Name of the kind's file in crds/."""
    return f"{GROUP}_{kind.plural}.yaml"


def main(folder: Path) -> None:
    """Write one file for each kind into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / filename(kind)).write_text(render(kind))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
