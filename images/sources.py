"""What goes into the images from this checkout: sources, entry points and the pinned requirements of each."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from images.layers import SITE, compiled

ROOT = Path(__file__).resolve().parent.parent
_ENTRY = """#!/usr/bin/python3 -sP
import sys

from domicile.cli.main import main

# Processes that the gateway starts read this, too.
if __name__ == "__main__":
    sys.exit(main())
"""


@cache
def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    return dict(_pyproject()["project"])


def _canonical(requirement: str) -> str:
    """The distribution's name of a requirement, normalised (PEP 503)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    if not name:
        raise SystemExit(f"images: can't read the requirement {requirement!r}")
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def lock_subset(lock: str | None = None, direct: list[str] | None = None) -> str:
    """The part of requirements.lock that the product needs at run time: without the dev extra.

    The lock names under each pin who asked for it ("# via"); the walk goes down from ``direct`` requirements.
    """
    text = lock if lock is not None else (ROOT / "requirements.lock").read_text()
    wanted = {_canonical(r) for r in (direct if direct is not None else project()["dependencies"])}
    blocks = {_canonical(b): b for b in re.split(r"\n(?=[A-Za-z0-9])", text) if re.match(r"[A-Za-z0-9]", b)}
    if missing := wanted - blocks.keys():
        raise SystemExit(f"images: requirements.lock lacks {', '.join(sorted(missing))}; run `make lock`")
    askers = {
        name: {
            _canonical(line)
            for line in re.findall(r"^ +# +(?:via +)?([A-Za-z0-9][^\s]*)", block, re.MULTILINE)
            if line != "via"
        }
        for name, block in blocks.items()
    }
    while more := {name for name, by in askers.items() if name not in wanted and by & wanted}:
        wanted |= more
    return "\n".join(blocks[name].rstrip() for name in sorted(wanted)) + "\n"


def _package(folder: Path, prefix: str, *, deep: bool) -> dict[str, Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    return {
        f"{prefix}/{p.relative_to(folder).as_posix()}": p
        for p in found
        if p.is_file() and "__pycache__" not in p.parts and p.suffix not in {".pyc", ".md"}
    }


def product_sources() -> tuple[dict[str, Path | bytes], frozenset[str]]:
    """The package domicile as setuptools maps it, its distribution's metadata and its command."""
    tool = _pyproject()["tool"]["setuptools"]
    places = {name: Path(place) for name, place in tool["package-dir"].items()}
    files: dict[str, Path | bytes] = {}
    for package in tool["packages"]:
        nearest = max((p for p in places if package == p or package.startswith(f"{p}.")), key=len)
        place = ROOT / places[nearest] / package[len(nearest) + 1 :].replace(".", "/")
        files.update(_package(place, f"{SITE}/{package.replace('.', '/')}", deep=False))
    if not any(name.endswith("/cli/main.py") for name in files):
        raise SystemExit("images: operator/cli/main.py is missing")
    meta = project()
    files[f"{SITE}/domicile-{meta['version']}.dist-info/METADATA"] = (
        f"Metadata-Version: 2.4\nName: domicile\nVersion: {meta['version']}\n".encode()
    )
    files = compiled(files)
    files["usr/local/bin/domicile"] = _ENTRY.encode()
    return files, frozenset({"usr/local/bin/domicile"})


def example_sources() -> tuple[str, dict[str, Path | bytes]]:
    """The reference assistant: its pinned requirements and its package."""
    place = ROOT / "examples" / "assistant"
    if not place.is_dir():
        raise SystemExit("images: examples/assistant is missing")
    files: dict[str, Path | bytes] = dict(_package(place, f"{SITE}/assistant", deep=True))
    del files[f"{SITE}/assistant/requirements.txt"]
    return (place / "requirements.txt").read_text(), compiled(files)


def provider_sources() -> tuple[str, dict[str, Path | bytes]]:
    """The testbed's model provider: its pinned requirements and its package."""
    place = ROOT / "tests" / "testbed" / "provider"
    if not place.is_dir():
        raise SystemExit("images: tests/testbed/provider is missing")
    return lock_subset(direct=["aiohttp"]), compiled(dict(_package(place, f"{SITE}/provider", deep=True)))


def _supervisors(*names: str) -> dict[str, Path | bytes]:
    modules = ("__init__", "mounts", "probe", "supervisor", *names)
    return compiled({f"{SITE}/domicile/gateway/{name}.py": ROOT / "gateway" / f"{name}.py" for name in modules})


def door_sources() -> dict[str, Path | bytes]:
    """The supervisors of front door and gate, and the door's ways out of its pod, which need nothing but Python."""
    modules = ("credentials", "forwarding", "api/__init__", "api/spiffe")
    shared = compiled({f"{SITE}/domicile/{name}.py": ROOT / "operator" / f"{name}.py" for name in modules})
    return {**_supervisors("door", "error_log", "gate", "httpd", "stunnel", "tunnel"), **shared}


def sessions_sources() -> dict[str, Path | bytes]:
    """The session store's supervisor and its config; who may do what in it comes as a mounted Secret."""
    return {**_supervisors("session_store"), "usr/local/etc/redis.conf": ROOT / "images" / "sessions.conf"}


def database_sources() -> dict[str, Path | bytes]:
    """The supervisor of the identity server's PostgreSQL."""
    return _supervisors("database")


def egress_sources() -> dict[str, Path | bytes]:
    """The supervisors of squid and of the stunnel before it, and squid's helper."""
    modules = compiled(dict(_package(ROOT / "gateway" / "egress", f"{SITE}/domicile/gateway/egress", deep=False)))
    return {**_supervisors("stunnel"), **modules}
