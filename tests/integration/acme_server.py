"""A real ACME server, the DNS that it looks challenges up in, and cert-manager's controllers between them.

pebble (RFC 8555) refuses names below ``refused.example``; Knot serves the zones and takes updates (RFC 2136) that are
signed with a key (RFC 8945). All of it listens on loopback.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.authorities import SERVER, Authority, write
from tests.integration.apiserver import ApiServer, free_port
from tests.testbed.build import TOOLS_DIR, build

ISSUER = "pebble"
ZONES = ("bank.example", "refused.example")
_NAMESPACE = "cert-manager"
_KEY = "cert-manager"
_SECONDS = 60


@cache
def crds() -> list[Path]:
    """cert-manager's CRDs, of the version that is built."""
    found = subprocess.run(
        ["go", "mod", "download", "-json", "github.com/cert-manager/cert-manager"],
        cwd=TOOLS_DIR / "certmanager",
        env={**os.environ, "GOWORK": "off"},
        check=True,
        capture_output=True,
    )
    return sorted((Path(json.loads(found.stdout)["Dir"]) / "deploy" / "crds").glob("*.yaml"))


@contextmanager
def _running(command: Sequence[str | Path], log: Path, **env: str) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **env}, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _until(what: Callable[[], bool], log: Path) -> None:
    last = time.monotonic() + _SECONDS
    while not what():
        assert time.monotonic() < last, f"not up after {_SECONDS} s: {log.read_text()[-2000:]}"
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _dns(folder: Path, key: str) -> Iterator[int]:
    port = free_port()
    for zone in ZONES:
        records = "@ 60 SOA ns hostmaster 1 60 60 60 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n"
        (folder / zone).write_text(f"$ORIGIN {zone}.\n{records}")
    zones = "".join(
        f"  - domain: {z}.\n    file: {folder / z}\n    acl: updates\n    zonefile-sync: -1\n" for z in ZONES
    )
    config = folder / "knot.conf"
    config.write_text(
        f"server:\n    rundir: {folder}\n    listen: 127.0.0.1@{port}\n    user: root\n"
        "log:\n  - target: stderr\n    any: info\n"
        f"database:\n    storage: {folder}\n"
        f"key:\n  - id: {_KEY}.\n    algorithm: hmac-sha256\n    secret: {key}\n"
        f"acl:\n  - id: updates\n    key: {_KEY}.\n    action: update\n"
        f"zone:\n{zones}"
    )
    log = folder / "knot.log"
    with _running(["knotd", "--config", str(config)], log):
        _until(lambda: _listens(port), log)
        yield port


@contextmanager
def _pebble(folder: Path, dns: int) -> Iterator[tuple[str, bytes]]:
    port = free_port()
    authority = Authority("acme")
    certificate, key = write(folder, "pebble", authority.issue("pebble", use=SERVER, hosts=("127.0.0.1",)))
    config = folder / "pebble.json"
    settings = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{free_port()}",
        "certificate": str(certificate),
        "privateKey": str(key),
        "httpPort": free_port(),
        "tlsPort": free_port(),
        "retryAfter": {"authz": 1, "order": 1},
        "domainBlocklist": ["refused.example"],
    }
    config.write_text(json.dumps({"pebble": settings}))
    url, log = f"https://127.0.0.1:{port}/dir", folder / "pebble.log"
    context = ssl.create_default_context(cadata=authority.pem.decode())

    def answers() -> bool:
        return _listens(port) and urllib.request.urlopen(url, context=context, timeout=5).status == 200

    command = [str(build("pebble")), "-config", str(config), "-dnsserver", f"127.0.0.1:{dns}"]
    with _running(command, log, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0"):
        _until(answers, log)
        yield url, authority.pem


def _issuer(url: str, authority: bytes, dns: int) -> dict[str, Any]:
    solver = {
        "nameserver": f"127.0.0.1:{dns}",
        "tsigKeyName": _KEY,
        "tsigAlgorithm": "HMACSHA256",
        "tsigSecretSecretRef": {"name": "tsig", "key": "key"},
    }
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "ClusterIssuer",
        "metadata": {"name": ISSUER},
        "spec": {
            "acme": {
                "server": url,
                "caBundle": base64.b64encode(authority).decode(),
                "privateKeySecretRef": {"name": "account"},
                "solvers": [{"dns01": {"rfc2136": solver}}],
            }
        },
    }


@contextmanager
def issuing(apiserver: ApiServer, folder: Path) -> Iterator[None]:
    """cert-manager in a cluster, with a ClusterIssuer ``pebble``; its kinds are gone afterwards."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    with ExitStack() as stack:
        dns = stack.enter_context(_dns(folder, key))
        url, authority = stack.enter_context(_pebble(folder, dns))
        files = [f"--filename={path}" for path in crds()]
        apiserver.kubectl("apply", "--server-side", *files)
        stack.callback(apiserver.kubectl, "delete", "--wait=false", *files)
        names = [f"crd/{path.stem.partition('_')[2]}.{path.stem.partition('_')[0]}" for path in crds()]
        apiserver.kubectl("wait", "--for=condition=Established", *names, "--timeout=60s")
        apiserver.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "tsig", "namespace": _NAMESPACE},
                # Its text is what is decoded once more.
                "stringData": {"key": key},
            },
            _issuer(url, authority, dns),
        )
        command = [str(build("cert-manager")), str(apiserver.kubeconfig), f"127.0.0.1:{dns}"]
        stack.enter_context(_running(command, folder / "cert-manager.log"))
        apiserver.kubectl("wait", "--for=condition=Ready", f"clusterissuer/{ISSUER}", f"--timeout={_SECONDS}s")
        yield
