"""The committed CRDs are what the models say, and hold nothing a structural schema forbids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from domicile.api import crd
from domicile.api.failover import FailoverSpec
from domicile.api.restore import RestoreSpec
from domicile.api.tenant import AssistantTenantSpec
from domicile.api.zone import ResidencyZoneSpec

ROOT = Path(__file__).parents[2]
SPECS = {
    "AssistantTenant": AssistantTenantSpec,
    "Failover": FailoverSpec,
    "ResidencyZone": ResidencyZoneSpec,
    "Restore": RestoreSpec,
}
EXAMPLES = sorted((ROOT / "examples").glob("zones/*.yaml")) + sorted((ROOT / "examples").glob("tenants/*.yaml"))
ORDERS = [ROOT / "examples" / "failover.yaml", ROOT / "examples" / "restore.yaml"]


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], f"{path}.{key}")


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda k: k.kind)
def test_committed_files_are_generated(kind: crd.Kind) -> None:
    committed = (ROOT / "crds" / crd.filename(kind)).read_text()
    assert committed == crd.render(kind), "run `make crds`"


def test_no_other_files_are_committed() -> None:
    assert {p.name for p in (ROOT / "crds").iterdir()} == {crd.filename(k) for k in crd.KINDS}


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda k: k.kind)
def test_schema_is_structural_and_documented(kind: crd.Kind) -> None:
    root = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for path, node in nodes(root["properties"][part], part):
            assert "type" in node, path
            assert not {"$ref", "$defs", "anyOf", "title", "const"} & set(node), path
            assert not ("properties" in node and "additionalProperties" in node), path
            if not path.endswith((".items", ".additionalProperties")):
                assert node.get("description"), path
            if "default" in node and node["default"] not in ("", {}):
                assert "Default: " in node["description"], path


def test_status_has_no_defaults() -> None:
    for kind in crd.KINDS:
        root = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert not [path for path, node in nodes(root["properties"]["status"]) if "default" in node]


def test_rules_of_a_model_and_of_its_field_add_up() -> None:
    stores = crd.schema(ResidencyZoneSpec)["properties"]["sites"]["items"]["properties"]["stores"]
    rules = [r["rule"] for r in stores["x-kubernetes-validations"]]
    assert "self == oldSelf" in rules
    assert any("endpoint" in rule for rule in rules)


def test_union_types_are_refused() -> None:
    class Either(BaseModel):
        value: int | str

    with pytest.raises(ValueError, match="no union types"):
        crd.schema(Either)


@pytest.mark.parametrize("path", [*EXAMPLES, *ORDERS], ids=lambda p: p.name)
def test_examples_fit_the_models(path: Path) -> None:
    for obj in yaml.safe_load_all(path.read_text()):
        SPECS[obj["kind"]].model_validate(obj["spec"])
