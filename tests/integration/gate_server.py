"""A gate as it runs in a pod, before a real Keycloak that knows of it, and administrators with certificates."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from domicile.controllers.door.gate import Gate, render
from tests.authorities import Authority as Clients
from tests.authorities import write
from tests.integration import identity_server
from tests.integration.apiserver import Authority, free_port
from tests.integration.door_server import Volume, contained, end, events, healthy, until
from tests.testbed.keycloak import BOOTSTRAP, KeycloakServer

# Administrators come from here, everybody else from another address.
LISTED = "127.0.0.2"
_START_SECONDS = 60
Pair = tuple[bytes, bytes]


@dataclass
class GateServer:
    """A running gate."""

    gate: Gate
    folder: Path
    volumes: dict[str, Volume]
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log.out").read_text() + (self.folder / "log.err").read_text()

    def put(self, volume: str, files: dict[str, str | bytes]) -> None:
        """Mount something else, and wait until it is taken."""
        before = len(events(self.log, "reloaded"))
        self.volumes[volume].put(files)
        until("the reload", lambda: len(events(self.log, "reloaded")) > before)


def plan(upstream: str) -> Gate:
    """A gate on ports of its own, by which this machine reaches ``upstream``."""
    https, admin = free_port(), free_port()
    return Gate(
        host=f"localhost:{https}",
        admin_host=f"localhost:{admin}",
        upstream=upstream,
        networks=(f"{LISTED}/32", "2001:db8::/32"),
        https_port=https,
        admin_port=admin,
        health_port=free_port(),
    )


@contextmanager
def running(folder: Path, gate: Gate, authority: Authority, clients: bytes) -> Iterator[GateServer]:
    """The gate in its image's files, with a certificate of ``authority``, which it trusts behind it, too."""
    folder.mkdir()
    folder.chmod(0o755)
    mounts = folder / "mounts"
    mounts.mkdir()
    authority.issue(folder.name, "localhost")
    volumes = {each: Volume(mounts / each) for each in ("config", "tls", "trust", "clients")}
    volumes["config"].put({"httpd.conf": render(gate)})
    volumes["tls"].put({f"tls.{k}": (authority.folder / f"{folder.name}.{k}").read_bytes() for k in ("crt", "key")})
    volumes["trust"].put({"ca.crt": (authority.folder / "ca.crt").read_bytes()})
    volumes["clients"].put({"ca.crt": clients})
    command = ("python3", "-P", "-m", "domicile.gateway.gate")
    process = contained("frontdoor", mounts, "/etc/domicile/gate", command, folder / "log")
    made = GateServer(gate, folder, volumes, process)
    try:

        def up() -> bool:
            assert process.poll() is None, f"the gate ended with {process.returncode}:\n{made.log}"
            return healthy(gate.health_port)

        until("the gate serves", up, _START_SECONDS)
        yield made
    finally:
        end(process)


@dataclass
class Gated:
    """A Keycloak and the gate before it."""

    keycloak: KeycloakServer
    gate: GateServer
    authority: Authority
    clients: Clients
    folder: Path

    @property
    def public(self) -> KeycloakServer:
        """Keycloak as everybody reaches it."""
        return replace(self.keycloak, port=self.gate.gate.https_port)

    @property
    def admin(self) -> KeycloakServer:
        """Keycloak as its administrators reach it."""
        return replace(self.keycloak, port=self.gate.gate.admin_port)

    def browser(self, pair: Pair | None, source: str = LISTED, strength: int = 2) -> httpx.Client:
        """A browser with a certificate, or without, that goes to the administrators' port from ``source``."""
        context = ssl.create_default_context(cafile=str(self.keycloak.authority))
        # What a client is willing to do says nothing: the gate has to refuse.
        context.set_ciphers(f"ALL:@SECLEVEL={strength}")
        if pair is not None:
            context.load_cert_chain(*write(self.folder, "client", pair))
        transport = httpx.HTTPTransport(verify=context, local_address=source)
        return httpx.Client(base_url=self.admin.url, transport=transport, timeout=30)

    def administrator(self) -> httpx.Client:
        """The browser of an administrator."""
        return self.browser(self.clients.issue("administrator"))


def bootstrap(web: httpx.Client, keycloak: KeycloakServer) -> None:
    """Let ``web`` be the first administrator. Raises httpx.HTTPError."""
    grant = {"grant_type": "client_credentials", "client_id": BOOTSTRAP, "client_secret": keycloak.admin_secret}
    answer = web.post("/realms/master/protocol/openid-connect/token", data=grant)
    web.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"


@contextmanager
def gated(folder: Path) -> Iterator[Gated]:
    """All of it, as docs/identity.md has it."""
    clients = Clients("administrators")
    gate = plan("localhost:9")
    public, admin = (f"https://{name}" for name in (gate.host, gate.admin_host))
    options = (f"--hostname-admin={admin}", "--proxy-headers=xforwarded")
    with identity_server.running(folder, public, *options, console=admin) as keycloak:
        authority = Authority(folder)
        gate = replace(gate, upstream=f"localhost:{keycloak.port}")
        with running(folder / "gate", gate, authority, clients.pem) as server:
            yield Gated(keycloak, server, authority, clients, folder)
