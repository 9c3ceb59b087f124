"""Independent judges of manifests: kubeconform (schemas) and kube-score (practice), both without network.

kubeconform usually downloads JSON schemas. Here they come from the OpenAPI document in the k8s.io/kubernetes module
that the testbed builds its servers from, and from the CRDs of this checkout.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.testbed import build

ROOT = Path(__file__).resolve().parent.parent
CRDS = ROOT / "crds"
# Pinned versions that are never overwritten need no pull, and nodes without a registry must restart pods.
IGNORED_CHECKS = ("container-image-pull-policy",)


def _swagger() -> dict[str, Any]:
    module = build.TOOLS_DIR / "kubernetes"

    def where() -> str:
        command = ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]
        return subprocess.run(command, cwd=module, check=True, capture_output=True, text=True).stdout.strip()

    if not where():
        subprocess.run(["go", "mod", "download", "k8s.io/kubernetes"], cwd=module, check=True, capture_output=True)
    found: dict[str, Any] = json.loads((Path(where()) / "api/openapi-spec/swagger.json").read_text())
    return found


def _closed(schema: Any) -> Any:
    """The schema with unknown fields refused, and Kubernetes' own formats in JSON Schema's words."""
    if isinstance(schema, list):
        return [_closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    out: dict[str, Any] = {}
    for word, value in schema.items():
        if word == "properties":
            out[word] = {name: _closed(s) for name, s in value.items()}
        elif word != "default":
            out[word] = _closed(value)
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


def _references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        here = {schema["$ref"].rsplit("/", 1)[-1]} if isinstance(schema.get("$ref"), str) else set()
        return here.union(*(_references(v) for v in schema.values()))
    return set().union(*(_references(v) for v in schema)) if isinstance(schema, list) else set()


def _write(folder: Path, group: str, version: str, kind: str, schema: dict[str, Any]) -> None:
    suffix = f"-{group.split('.', maxsplit=1)[0]}-{version}" if group else f"-{version}"
    (folder / f"{kind.lower()}{suffix}.json").write_text(json.dumps(schema))


def write_schemas(folder: Path, kinds: Iterable[str]) -> None:
    """Write the JSON schema of each of Kubernetes' ``kinds`` and of our CRDs into ``folder``."""
    wanted = set(kinds)
    definitions = {name: _closed(schema) for name, schema in _swagger()["definitions"].items()}
    for name, definition in definitions.items():
        for gvk in definition.get("x-kubernetes-group-version-kind", []):
            if gvk["kind"] not in wanted:
                continue
            needed = {name}
            while more := set().union(*(_references(definitions[n]) for n in needed)) - needed:
                needed |= more
            schema = {"$ref": f"#/definitions/{name}", "definitions": {n: definitions[n] for n in needed}}
            _write(folder, gvk["group"], gvk["version"], gvk["kind"], schema)
    for path in CRDS.glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            _write(folder, spec["group"], version["name"], spec["names"]["kind"], schema)


def kubeconform(schemas: Path, manifests: str) -> list[dict[str, str]]:
    """What kubeconform finds wrong in a YAML stream; empty means that every object has a schema and fits it."""
    done = subprocess.run(
        [
            build.build("kubeconform"),
            "-strict",
            "-output",
            "json",
            "-schema-location",
            f"{schemas}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json",
            "-",
        ],
        check=False,
        input=manifests,
        capture_output=True,
        text=True,
    )
    if not done.stdout.strip():
        raise AssertionError(f"kubeconform said nothing: {done.stderr}")
    found: list[dict[str, str]] = json.loads(done.stdout).get("resources") or []
    return found


def kube_score(manifests: str) -> list[str]:
    """The critical findings of kube-score in a YAML stream, one line each."""
    ignored = [f"--ignore-test={check}" for check in IGNORED_CHECKS]
    done = subprocess.run(
        [build.build("kube-score"), "score", "--kubernetes-version=v1.34", "--output-format=ci", *ignored, "-"],
        check=False,
        input=manifests,
        capture_output=True,
        text=True,
    )
    if done.returncode and not done.stdout:
        raise AssertionError(f"kube-score failed: {done.stderr}")
    return [line for line in done.stdout.splitlines() if line.startswith("[CRITICAL]")]
