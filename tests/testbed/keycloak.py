"""Keycloak from Maven Central, unpacked and optimised once per machine.

It lands in ``<cache>/keycloak/<version>-<key>``, where ``key`` digests the options of its build.
"""

from __future__ import annotations

import fcntl
import hashlib
import ssl
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.testbed.build import cache_dir

VERSION = "26.5.6"
# The operator's account, and that of the first administrator, who makes it.
ADMIN_ID = "operator"
BOOTSTRAP = "bootstrap"
_SHA256 = "490189d9dff05272432d51f71a069462eeca97f2920a694d539a1e6c26a5a347"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
# In memory: each server starts empty and leaves nothing.
_OPTIONS = ("--db=dev-mem", "--health-enabled=true", "--features-disabled=kerberos,ciba,device-flow")


@cache
def home() -> Path:
    """Folder of a Keycloak that starts with ``--optimized``. Raises SystemExit with what failed."""
    key = hashlib.sha256("|".join((_SHA256, *_OPTIONS)).encode()).hexdigest()[:16]
    folder = cache_dir() / "keycloak" / f"{VERSION}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            print("build: keycloak (about 60 s on two cores)", flush=True)
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                _make(Path(scratch)).rename(folder)
            print(f"build: keycloak done in {time.monotonic() - begun:.0f} s", flush=True)
    return folder


def _make(scratch: Path) -> Path:
    name = f"keycloak-quarkus-dist-{VERSION}.zip"
    artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
    _run("mvn", "--quiet", "--batch-mode", f"{_PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}")
    found = hashlib.sha256((scratch / name).read_bytes()).hexdigest()
    if found != _SHA256:
        raise SystemExit(f"build: {name} has digest {found}, not {_SHA256}")
    # Java's own tool keeps no file modes; unzip may be missing.
    _run("python3", "-m", "zipfile", "-e", str(scratch / name), str(scratch))
    place = scratch / f"keycloak-{VERSION}"
    (place / "bin" / "kc.sh").chmod(0o755)
    _run(str(place / "bin" / "kc.sh"), "build", *_OPTIONS)
    return place


def _run(*args: str) -> None:
    done = subprocess.run(args, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"build: {Path(args[0]).name} failed with exit code {done.returncode}:\n{done.stdout[-4000:]}")


def command(address: str, port: int, management: int, folder: Path) -> list[str]:
    """Start it for one address or name: TLS on ``port`` with server.crt, server.key and ca.crt of ``folder``.

    ``/health/ready`` is served without TLS on the port ``management``.
    """
    return [
        str(home() / "bin" / "kc.sh"),
        "start",
        "--optimized",
        f"--hostname=https://{address}:{port}",
        f"--https-port={port}",
        f"--https-certificate-file={folder / 'server.crt'}",
        f"--https-certificate-key-file={folder / 'server.key'}",
        f"--truststore-paths={folder / 'ca.crt'}",
        f"--http-management-port={management}",
        "--http-management-scheme=http",
        f"--http-host={address}",
        f"--http-management-host={address}",
        "--cache=local",
    ]


def environment(client: str, secret: str) -> dict[str, str]:
    """Its environment, with the service account of its first administrator."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx640m",
        "KC_BOOTSTRAP_ADMIN_CLIENT_ID": client,
        "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": secret,
    }


@dataclass(frozen=True)
class KeycloakServer:
    """A running Keycloak."""

    port: int
    authority: Path
    admin_secret: str
    log: Path
    address: str = "localhost"

    @property
    def url(self) -> str:
        """Base URL."""
        return f"https://{self.address}:{self.port}"

    def answers(self) -> bool:
        """Whether people can log in; its health is told on another port, which listens earlier."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/realms/master",
                timeout=2,
                context=ssl.create_default_context(cafile=str(self.authority)),
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def admit_operator(server: KeycloakServer) -> None:
    """The operator's account, with what docs/identity.md asks for and no more."""
    with httpx.Client(base_url=server.url, verify=str(server.authority), timeout=30) as web:

        def done(answer: httpx.Response) -> Any:
            assert answer.is_success, f"{answer.request.url}: {answer.text}"
            return answer.json() if answer.content else answer.headers.get("location")

        grant = {"grant_type": "client_credentials", "client_id": BOOTSTRAP, "client_secret": server.admin_secret}
        token = done(web.post("/realms/master/protocol/openid-connect/token", data=grant))["access_token"]
        web.headers["Authorization"] = f"Bearer {token}"
        account = {
            "clientId": ADMIN_ID,
            "secret": server.admin_secret,
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "attributes": {"client.use.lightweight.access.token.enabled": "true"},
        }
        made = done(web.post("/admin/realms/master/clients", json=account))
        user = done(web.get(f"{made}/service-account-user"))["id"]
        role = done(web.get("/admin/realms/master/roles/create-realm"))
        done(web.post(f"/admin/realms/master/users/{user}/role-mappings/realm", json=[role]))


if __name__ == "__main__":
    home()
