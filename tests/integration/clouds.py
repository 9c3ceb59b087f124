"""The clouds' KMS and STS under their real host names: an HTTPS proxy that leads them to servers of this machine.

So the product is tested as it runs, with its own endpoints and TLS, and the proxy knows every host that it asked for.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.gkms_standin import CloudKms, Server
from tests.google_identity_standin import GoogleIdentity
from tests.integration.stores_fixture import free_port
from tests.testbed.pki import Authority

GCP_REGION, AWS_REGION = "europe-west3", "eu-central-1"
GCP_HOST = f"cloudkms.{GCP_REGION}.rep.googleapis.com"
GOOGLE_IDENTITY_HOSTS = tuple(
    f"{service}.{host}"
    for service in ("sts", "iamcredentials")
    for host in (f"{GCP_REGION}.rep.googleapis.com", "googleapis.com")
)
AWS_HOSTS = (f"kms.{AWS_REGION}.amazonaws.com", f"sts.{AWS_REGION}.amazonaws.com", f"iam.{AWS_REGION}.amazonaws.com")


class Proxy(socketserver.ThreadingTCPServer):
    """A forward proxy for HTTPS (CONNECT); hosts without a route answer 502. ``asked`` lists the hosts in order."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.routes: dict[str, int] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Proxy)
        host = self.rfile.readline().split()[1].decode().rsplit(":", 1)[0]
        while self.rfile.readline().strip():
            pass
        server.asked.append(host)
        if host not in server.routes:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with closing(socket.create_connection(("127.0.0.1", server.routes[host]))) as upstream:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _pump(self.connection, upstream)


def _pump(one: socket.socket, two: socket.socket) -> None:
    with selectors.DefaultSelector() as ready:
        for source, target in ((one, two), (two, one)):
            ready.register(source, selectors.EVENT_READ, target)
        while True:
            for key, _ in ready.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                try:
                    data = source.recv(65536)
                    if not data:
                        return
                    key.data.sendall(data)
                except OSError:
                    return


@dataclass
class Clouds:
    """Running stand-ins: moto for AWS, ours for Google's KMS and tokens."""

    proxy: Proxy
    gcp: CloudKms
    google: GoogleIdentity
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def _moto(certificate: Path, key: Path) -> Iterator[int]:
    port = free_port()
    executable = shutil.which("moto_server", path=str(Path(sys.executable).parent))
    assert executable, "moto_server is missing: install the dev dependencies"
    command = [executable, "-H", "127.0.0.1", "-p", str(port), "-c", str(certificate), "-k", str(key)]
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise RuntimeError("moto_server did not start")
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def shared_clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouds]:
    """The servers, started once."""
    authority = Authority(tmp_path_factory.mktemp("pki"))
    certificate, key = authority.issue(
        "clouds", "clouds", hosts=("127.0.0.1", GCP_HOST, *GOOGLE_IDENTITY_HOSTS, *AWS_HOSTS)
    )
    gcp, google, proxy = CloudKms(GCP_REGION), GoogleIdentity(), Proxy()
    with ExitStack() as stack:
        stack.enter_context(proxy)
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        stack.callback(proxy.shutdown)
        proxy.routes[GCP_HOST] = stack.enter_context(Server(gcp, certificate, key)).port
        identity = stack.enter_context(Server(google, certificate, key)).port
        proxy.routes |= dict.fromkeys(GOOGLE_IDENTITY_HOSTS, identity)
        proxy.routes |= dict.fromkeys(AWS_HOSTS, stack.enter_context(_moto(certificate, key)))
        trusted = dict.fromkeys(("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"), str(authority.certificate))
        yield Clouds(proxy, gcp, google, {"HTTPS_PROXY": proxy.url, **trusted})


@pytest.fixture
def clouds(shared_clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> Clouds:
    """The servers, reached by the real names from this process, which has no identity of its own."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "GOOGLE_")) or n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in shared_clouds.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    shared_clouds.proxy.asked.clear()
    shared_clouds.gcp.calls.clear()
    shared_clouds.gcp.seen_aad.clear()
    shared_clouds.gcp.tamper = lambda status, body: (status, body)
    vars(shared_clouds.google).update(vars(GoogleIdentity()))
    return shared_clouds
