"""The benchmark of the front door: what it adds to a request, what it takes, and what it costs.

    python -m tests.bench.frontdoor [--quick] [--realms N] [--loaded] [--out FILE]

A chat question is posted by a person who has logged in on a real Keycloak: through a door, as it runs in a pod, and
straight to the same upstream, in turns. docs/frontdoor.md says what the figures mean. The last line holds them. Exit
codes: 0 done, 1 something failed, 3 the machine is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from domicile.api.sso import Sso
from domicile.controllers.door.door import Assistant, Limits, PathRule
from domicile.controllers.realm.desired import Subject, build
from domicile.controllers.realm.repair import ensure
from domicile.controllers.realm.server import Account, IdentityError, IdentityServer
from tests.bench.memory import pss_mib
from tests.integration import identity_server
from tests.integration.apiserver import free_port
from tests.integration.door_realm import Estate, Visitor, estate
from tests.integration.door_server import contained, end, until
from tests.pods import GUARD, mounted
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer
from tests.testbed.rootfs import rootfs

_OUT = Path("bench/results/frontdoor.json")
_QUESTIONS = Path("tests/integration/data/questions.txt")
_MANY_CLIENTS = 16
_QUIET_LOAD = 0.5
# A realm that took longer than anybody waits is still being made, and until then its name is taken.
_PATIENCE_SECONDS = 5
_UNLIMITED = Limits(seconds=1, client_requests=30000, tenant_requests=1000000)
_UPSTREAM = """
Listen 127.0.0.1:{port}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
ServerName upstream
PidFile /tmp/upstream.pid
Mutex file:/tmp default
ErrorLog /dev/stderr
MaxKeepAliveRequests 0
RewriteEngine On
RewriteRule ^ - [R=200,L]
ErrorDocument 200 "an answer"
Listen 127.0.0.1:{tls_port}
<VirtualHost 127.0.0.1:{tls_port}>
SSLEngine On
SSLProtocol -all +TLSv1.3
SSLCertificateFile /etc/domicile/door/tls.crt
SSLCertificateKeyFile /etc/domicile/door/tls.key
SSLCACertificateFile /etc/domicile/door/ca.crt
SSLVerifyClient require
RewriteEngine On
RewriteRule ^ - [R=200,L]
</VirtualHost>
"""
_SCRIPT = """
wrk.method = "POST"
wrk.body = '{"message": "How many vacation days do I have left if I started in May?", "stream": false}'
wrk.headers["Content-Type"] = "application/json"
"""


@contextmanager
def _upstream(folder: Path) -> Iterator[tuple[str, str]]:
    """A web server that answers at once; its addresses without TLS, and with it as a guard has it."""
    port, tls_port = free_port(), free_port()
    (mounted(folder, GUARD) / "httpd.conf").write_text(_UPSTREAM.format(port=port, tls_port=tls_port))
    config = "/etc/domicile/door/httpd.conf"
    command = ("apache2", "-D", "FOREGROUND", "-d", "/tmp", "-f", config)
    process = contained("frontdoor", folder, "/etc/domicile/door", command, folder / "log")

    def up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until("the upstream serves", up)
        yield f"127.0.0.1:{port}", f"localhost:{tls_port}"
    finally:
        end(process)


def _load(url: str, connections: int, seconds: int, *headers: str) -> dict[str, float]:
    """What wrk saw: requests a second, and milliseconds at the 50th and 99th percentile. Raises SystemExit."""
    root = rootfs("wrk")
    (root / "tmp" / "post.lua").write_text(_SCRIPT)
    options = [word for header in headers for word in ("-H", header)]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", "/tmp/post.lua", *options, url]
    done = subprocess.run(["chroot", root, *command], capture_output=True, text=True, check=False)
    found = {
        "rps": re.search(r"Requests/sec: +([0-9.]+)()", done.stdout),
        "p50": re.search(r"50% +([0-9.]+)(us|ms|s)", done.stdout),
        "p99": re.search(r"99% +([0-9.]+)(us|ms|s)", done.stdout),
    }
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout or None in found.values():
        raise SystemExit(f"bench: requests to {url} failed:\n{done.stdout}{done.stderr}")
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0, "": 1.0}
    return {name: float(each[1]) * scale[each[2]] for name, each in found.items() if each}


def _false_positives(site: Estate, person: Visitor) -> float:
    """Per cent of the held-out questions that do not reach the assistant."""
    questions = _QUESTIONS.read_text().splitlines()
    url = f"{site.door.url}/helpdesk/api/chat"
    refused = [q for q in questions if person.web.post(url, json={"message": q}).status_code != 200]
    for question in refused:
        print(f"bench: refused: {question}", flush=True)
    return 100 * len(refused) / len(questions)


def _requests(keycloak: KeycloakServer, folder: Path, rounds: int, seconds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        direct, upstream = stack.enter_context(_upstream(folder / "upstream"))
        site = stack.enter_context(estate(keycloak, folder, PathRule("/open", None), limits=_UNLIMITED))
        site.door.configure(replace(site.door.door, assistants=(Assistant("helpdesk", upstream),)))
        name = f"bench{secrets.token_hex(3)}"
        site.realm.user(name, "member")
        person = site.visitor(name)
        if person.visit(f"{site.door.url}/helpdesk/").status_code != 200:
            raise SystemExit("bench: the login failed")
        through = (
            f"https://127.0.0.1:{site.door.door.https_port}/helpdesk/api/chat",
            f"Host: {site.door.door.host}",
            f"Cookie: __Host-door={person.session}",
        )
        url, *headers = through
        _load(url, 1, 1, *headers)
        runs: dict[str, list[dict[str, float]]] = {"direct": [], "door": [], "busy": []}
        for _ in range(rounds):
            runs["direct"].append(_load(f"http://{direct}/api/chat", 1, seconds))
            runs["door"].append(_load(url, 1, seconds, *headers))
            runs["busy"].append(_load(url, _MANY_CLIENTS, seconds, *headers))
        return {
            "runs": runs,
            "pss_mib": pss_mib(site.door.process.pid),
            "false_positive_pct": _false_positives(site, person),
        }


async def _realms(keycloak: KeycloakServer, count: int) -> dict[str, float]:
    """Make realms, and look at them again when nothing is to be mended: realms a minute, for both."""
    account = Account(client_id=ADMIN_ID, client_secret=keycloak.admin_secret)
    server = IdentityServer(keycloak.url, account, str(keycloak.authority))
    run = secrets.token_hex(3)
    wanted = [
        build(
            Subject(
                f"bench{run}-{n}", secrets.token_hex(16), ("helpdesk",), "bench.example", secrets.token_hex(16), {}
            ),
            Sso(local_users=True),
        )
        for n in range(count)
    ]

    async def one(number: int) -> None:
        # As the operator: a server that does not answer in time is asked again.
        for _ in range(20):
            try:
                async with server.realm(wanted[number].name) as admin:
                    await ensure(admin, wanted[number], {}, changed=False)
                return
            except IdentityError as error:
                print(f"bench: asked again: {error}", flush=True)
                await asyncio.sleep(_PATIENCE_SECONDS)
        raise SystemExit(f"bench: realm {wanted[number].name} could not be made")

    found = {}
    try:
        for what in ("made", "looked_at"):
            begun = time.monotonic()
            await asyncio.gather(*(one(n) for n in range(count)))
            found[what] = 60 * count / (time.monotonic() - begun)
    finally:
        await server.close()
    return found


def line(found: dict[str, Any]) -> str:
    """The closing line."""
    runs = {kind: {k: median(r[k] for r in each) for k in each[0]} for kind, each in found["requests"]["runs"].items()}
    return (
        f"added_p50_ms={runs['door']['p50'] - runs['direct']['p50']:.2f}"
        f" added_p99_ms={runs['door']['p99'] - runs['direct']['p99']:.2f}"
        f" rps={runs['busy']['rps']:.0f} rss_mib={found['requests']['pss_mib']:.0f}"
        f" realms_per_min={found['realms']['made']:.1f}"
        f" false_positive_pct={found['requests']['false_positive_pct']:.1f}"
    )


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.frontdoor", description="What a front door costs.")
    parser.add_argument("--quick", action="store_true", help="one short round and 4 realms, kept out of bench/results")
    parser.add_argument("--realms", type=int, help="how many realms to make (default: 50; 4 with --quick)")
    parser.add_argument("--loaded", action="store_true", help="measure on a busy machine, which marks the results")
    parser.add_argument("--out", type=Path, help=f"where the results go (default: {_OUT})")
    arguments = parser.parse_args()
    rounds, seconds, realms = (1, 2, 4) if arguments.quick else (5, 5, 50)
    out = arguments.out or (Path("build/frontdoor-quick.json") if arguments.quick else _OUT)
    load = os.getloadavg()[0]
    if load > _QUIET_LOAD and not (arguments.loaded or arguments.quick):
        print(
            f"bench: the machine is busy (load {load:.2f}); stop what runs, or measure with --loaded", file=sys.stderr
        )
        return 3
    with tempfile.TemporaryDirectory(prefix="frontdoor-") as scratch:
        folder = Path(scratch)
        (folder / "keycloak").mkdir()
        with identity_server.running(folder / "keycloak") as keycloak:
            (folder / "door").mkdir()
            print(f"bench: requests (load {load:.2f})", flush=True)
            found: dict[str, Any] = {
                "measured": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": round(load, 2)},
                "loaded": arguments.loaded,
                "requests": _requests(keycloak, folder / "door", rounds, seconds),
                "realms": asyncio.run(_realms(keycloak, arguments.realms or realms)),
            }
    found["line"] = line(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(found["line"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
