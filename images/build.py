"""Build container images as docker-archive tars, once per set of inputs and machine.

    python -m images.build [NAME ...]     # default: all

An image lands in ``<cache>/images/<name>-<key>.tar``, its layers beside it, so that an edit of a source costs seconds.
No registry is asked and no container engine needed: ``ctr --namespace k8s.io images import TAR``.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from images import keycloak
from images.archive import FORMAT, Config, write_image, write_layer
from images.layers import base, cached, debian, digest, distributions, folder
from images.sources import (
    ROOT,
    database_sources,
    door_sources,
    egress_sources,
    example_sources,
    lock_subset,
    product_sources,
    project,
    provider_sources,
    sessions_sources,
)
from tests.testbed import build as tools

REGISTRY = "domicile.dev"
_KEPT = 4
_IN_USE_SECONDS = 3600.0
# The first process of a container gets only signals that it blocks or handles.
_SLEEP = "import signal as s; s.pthread_sigmask(s.SIG_BLOCK, {s.SIGTERM}); s.sigwait({s.SIGTERM})"
_PYTHON_ENV = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"}  # noqa: S108

# What the gateway needs beside its own extra: nothing of the clouds or of Kubernetes.
_SERVING = ("aiohttp", "cryptography", "prometheus-client", "pydantic", "pydantic-settings")

# By package, the oldest version without known holes that matter here (security updates of Debian 12).
_DOOR_PACKAGES = {
    "apache2-bin": "2.4.71-1~deb12u1",
    "libapache2-mod-auth-openidc": "2.4.12.3-2+deb12u5",
    "libapache2-mod-security2": "2.9.7-1+deb12u2",
    "modsecurity-crs": "3.3.4-1+deb12u3",
    "libapache2-mod-qos": "11.63-1",
    "stunnel4": "3:5.68-2+deb12u1",
}
_DOOR_MORE = ("python3", "ca-certificates", "usr-is-merged")
# Helpers of Apache that nobody calls are all that need Perl: a third of the layer.
_NO_PERL = "rm -rf usr/share/perl usr/share/perl5 usr/lib/*/perl usr/lib/*/perl5"
_DATABASE_PACKAGES = {"postgresql-15": "15.20-0+deb12u1"}
# The cluster that the package makes belongs to nobody here.
_NO_CLUSTER = f"rm -rf var/lib/postgresql etc/postgresql && {_NO_PERL}"
_KEYCLOAK_PACKAGES = {"openjdk-17-jre-headless": "17.0.21.1+2-1~deb12u1"}
# Java's package wants to link a page of a manual into a folder that no image has.
_MANUALS = "mkdir -p usr/share/man/man1"
_SESSIONS_PACKAGES = {"redis-server": "5:7.0.15-1~deb12u10"}
_EGRESS_PACKAGES = {"squid-openssl": "5.7-2+deb12u6", "stunnel4": "3:5.68-2+deb12u1"}
# openssl makes the key that squid wants at its start. Helpers that nobody calls are all that need Perl.
_EGRESS_MORE = ("python3", "openssl", "ca-certificates", "usr-is-merged")
_NO_HELPERS = (
    f"find usr/lib/squid -type f ! -name unlinkd -delete && rm -rf etc/squid usr/share/squid-langpack && {_NO_PERL}"
)


@dataclass(frozen=True)
class Image:
    """What makes an image: its version, its layers (built when called) and its config."""

    version: str
    layers: Callable[[], list[Path]]
    config: Config


def _version() -> str:
    return str(project()["version"])


def _files_layer(name: str, files: dict[str, Path | bytes], executable: frozenset[str] = frozenset()) -> Path:
    """A layer of files, cached by their names and content."""
    parts: list[str | bytes] = [*sorted(executable)]
    for path, content in sorted(files.items()):
        parts += [path, content.read_bytes() if isinstance(content, Path) else content]
    return cached(
        folder() / "layers" / f"{name}-{digest(FORMAT, *parts)}.tar",
        f"layer {name}",
        1,
        lambda path: write_layer(path, files, executable),
    )


def _pause() -> list[Path]:
    source = ROOT / "images" / "pause.c"

    def make(path: Path) -> None:
        binary = path.with_suffix(".bin")
        try:
            subprocess.run(
                ["gcc", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o", binary, source], check=True
            )
        except FileNotFoundError:
            raise SystemExit(
                "images: gcc is missing; run `make setup` as root, or `apt-get install gcc libc6-dev`"
            ) from None
        write_layer(path, {"pause": binary}, frozenset({"pause"}))

    return [cached(folder() / "layers" / f"pause-{digest(source.read_bytes())}.tar", "layer pause", 1, make)]


def _coredns() -> list[Path]:
    return [_files_layer("coredns", {"coredns": tools.build("coredns")}, frozenset({"coredns"}))]


def _domicile() -> list[Path]:
    packages = distributions("domicile", lock_subset())
    files, executable = product_sources()
    return [base(), packages, _files_layer("domicile", files, executable)]


def gateway_requirements() -> str:
    """The pinned requirements of the gateway's image."""
    return lock_subset(direct=[*project()["optional-dependencies"]["gateway"], *_SERVING])


def _gateway() -> list[Path]:
    packages = distributions("gateway", gateway_requirements())
    files, executable = product_sources()
    return [base(), packages, _files_layer("domicile", files, executable)]


def _assistant() -> list[Path]:
    requirements, files = example_sources()
    return [base(), distributions("assistant", requirements), _files_layer("assistant", files)]


def _provider() -> list[Path]:
    requirements, files = provider_sources()
    return [base(), distributions("model-provider", requirements), _files_layer("model-provider", files)]


def _frontdoor() -> list[Path]:
    system = debian("frontdoor-debian", (*_DOOR_PACKAGES, *_DOOR_MORE), _DOOR_PACKAGES, _NO_PERL)
    return [system, _files_layer("frontdoor", door_sources())]


def _sessions() -> list[Path]:
    return [
        debian("sessions-debian", (*_SESSIONS_PACKAGES, "python3", "usr-is-merged"), _SESSIONS_PACKAGES),
        _files_layer("sessions", sessions_sources()),
    ]


def _egress() -> list[Path]:
    system = debian("egress-debian", (*_EGRESS_PACKAGES, *_EGRESS_MORE), _EGRESS_PACKAGES, _NO_HELPERS)
    return [system, _files_layer("egress", egress_sources())]


def _database() -> list[Path]:
    system = debian(
        "database-debian", (*_DATABASE_PACKAGES, "python3", "usr-is-merged"), _DATABASE_PACKAGES, _NO_CLUSTER
    )
    return [system, _files_layer("database", database_sources())]


def _keycloak() -> list[Path]:
    packages = (*_KEYCLOAK_PACKAGES, "ca-certificates", "usr-is-merged")
    system = debian("keycloak-debian", packages, _KEYCLOAK_PACKAGES, "rm -rf usr/share/man", _MANUALS)
    home = keycloak.home(keycloak.ON_POSTGRESQL)

    def make(path: Path) -> None:
        files: dict[str, Path | bytes] = {
            f"opt/keycloak/{file.relative_to(home)}": file for file in home.rglob("*") if file.is_file()
        }
        write_layer(path, files, frozenset({"opt/keycloak/bin/kc.sh"}))

    return [
        system,
        cached(folder() / "layers" / f"keycloak-{digest(FORMAT, home.name)}.tar", "layer keycloak", 5, make),
    ]


IMAGES = {
    "pause": Image("1", _pause, Config(("/pause",))),
    "coredns": Image("1", _coredns, Config(("/coredns",))),
    "client": Image(
        "1",
        lambda: [base()],
        Config(("python3", "-c", _SLEEP), (), _PYTHON_ENV),
    ),
    "domicile": Image(_version(), _domicile, Config(("/usr/local/bin/domicile",), ("--help",), _PYTHON_ENV)),
    "gateway": Image(_version(), _gateway, Config(("/usr/local/bin/domicile",), ("gateway",), _PYTHON_ENV)),
    "assistant": Image(_version(), _assistant, Config(("python3", "-P", "-m", "assistant"), (), _PYTHON_ENV)),
    "frontdoor": Image(
        _version(), _frontdoor, Config(("python3", "-P", "-m", "domicile.gateway.door"), (), _PYTHON_ENV)
    ),
    "sessions": Image(
        _version(), _sessions, Config(("python3", "-P", "-m", "domicile.gateway.session_store"), (), _PYTHON_ENV)
    ),
    "egress": Image(
        _version(), _egress, Config(("python3", "-P", "-m", "domicile.gateway.egress.squid"), (), _PYTHON_ENV)
    ),
    "database": Image(
        _version(), _database, Config(("python3", "-P", "-m", "domicile.gateway.database"), (), _PYTHON_ENV)
    ),
    "keycloak": Image(
        _version(),
        _keycloak,
        Config(("/opt/keycloak/bin/kc.sh", "start", "--optimized"), (), {"HOME": _PYTHON_ENV["HOME"]}),
    ),
    "model-provider": Image(_version(), _provider, Config(("python3", "-P", "-m", "provider"), (), _PYTHON_ENV)),
}


def _forget_old(name: str) -> None:
    """Keep an image's last archives, for each edit makes one of some 200 MB, and those that may be in use."""
    digits = "[0-9a-f]" * 16
    for pattern in (f"{name}-{digits}.tar", f"layers/{name}-{digits}.tar", f"layers/{name}-packages-{digits}.tar"):
        used = sorted(((p.stat().st_mtime, p) for p in folder().glob(pattern)), reverse=True)
        for moment, old in used[_KEPT:]:
            if time.time() - moment > _IN_USE_SECONDS:
                old.unlink(missing_ok=True)


def image(name: str) -> tuple[Path, str]:
    """The docker-archive of an image and its reference. Raises SystemExit with what failed and what to do."""
    if name not in IMAGES:
        raise SystemExit(f"images: no image {name!r}; there are {', '.join(IMAGES)}")
    recipe = IMAGES[name]
    reference = f"{REGISTRY}/{name}:{recipe.version}"
    layers = recipe.layers()
    key = digest(FORMAT, reference, repr(recipe.config), *(p.name for p in layers))
    path = cached(
        folder() / f"{name}-{key}.tar",
        f"image {reference}",
        3,
        lambda path: write_image(path, reference, layers, recipe.config),
    )
    _forget_old(name)
    return path, reference


def main() -> None:
    """Build the named images, or all, and print where each lies."""
    parser = argparse.ArgumentParser(
        prog="python -m images.build", description="Build container images without a registry."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(IMAGES)}; default: all")
    for name in parser.parse_args().names or IMAGES:
        path, reference = image(name)
        print(f"images: {reference} {path}", flush=True)


if __name__ == "__main__":
    main()
