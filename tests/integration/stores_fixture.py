"""Object-store servers on loopback, started for a test session and stopped after it, and sites that point at them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from domicile.api.zone import Site
from domicile.backup.stores import accounts as identities
from domicile.backup.stores import gcs
from tests import gcs_standin
from tests.gcs_standin import accounts
from tests.testbed.build import build

_ACCESS = {"accessKeyId": "test", "secretAccessKey": "test-secret"}


@dataclass(frozen=True)
class Server:
    """A store: its process, its URL and the directory in which it keeps objects."""

    url: str
    root: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str], port: int, root: Path) -> Server:
    with (root / "log").open("wb") as log:
        return serving(command, port, root, log)


def serving(command: list[str], port: int, root: Path, log: BinaryIO) -> Server:
    """Start a server and wait until it listens. Raises RuntimeError with the end of its log."""
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Server(f"http://127.0.0.1:{port}", root, process)
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"{command[0]} did not listen on port {port}:\n{Path(log.name).read_text()[-2000:]}")


@contextmanager
def stopped(server: Server) -> Iterator[Server]:
    """Stop it in the end and remove what it kept."""
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(10)
        shutil.rmtree(server.root, ignore_errors=True)


@contextmanager
def versitygw(region: str, *, versioning: bool = True) -> Iterator[Server]:
    """An S3 gateway over a directory, with the given region."""
    # Not below pytest's tmp_path: the directory of a session's server must not be rotated away, and needs xattrs.
    root = Path(tempfile.mkdtemp(prefix="versitygw-"))
    for name in ("data", "versions"):
        (root / name).mkdir()
    port = free_port()
    command = [
        str(build("versitygw")),
        *("--access", _ACCESS["accessKeyId"], "--secret", _ACCESS["secretAccessKey"]),
        *("--port", f"127.0.0.1:{port}", "--region", region, "--quiet", "--keep-alive", "posix"),
        *(("--versioning-dir", str(root / "versions")) if versioning else ()),
        str(root / "data"),
    ]
    with stopped(_run(command, port, root)) as server:
        yield server


@contextmanager
def fake_gcs(location: str) -> Iterator[Server]:
    """A Cloud Storage stand-in over a directory, with the given location."""
    root = Path(tempfile.mkdtemp(prefix="fake-gcs-"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(build("fake-gcs-server")),
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-external-url", url),
        *("-backend", "filesystem", "-filesystem-root", str(root / "data"), "-location", location),
        *("-log-level", "error"),
    ]
    with stopped(_run(command, port, root)) as server:
        yield server


@contextmanager
def moto() -> Iterator[Server]:
    """moto's server: S3 with its configuration APIs, KMS and STS, of all regions, in memory."""
    root = Path(tempfile.mkdtemp(prefix="moto-"))
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with stopped(_run(command, port, root)) as server:
        yield server


def make_site(name: str, cloud: str, region: str, endpoint: str | None, **stores: Any) -> Site:
    """A site of profile compatible (without an endpoint: cloud), whose buckets are called after their roles."""
    return Site.model_validate(
        {
            "name": name,
            "cloud": cloud,
            "region": region,
            "key": {"name": name},
            "stores": {
                "profile": "compatible" if endpoint else "cloud",
                "replica": f"{name}-replica",
                "keys": f"{name}-keys",
                "control": f"{name}-control",
                "live": {"createPrefix": f"{name}-live"},
            }
            | ({"endpoint": endpoint} if endpoint else {})
            | stores,
        }
    )


def trusting(site: Site, authorities: bytes) -> Site:
    """The site, with these authorities (PEM) for its store."""
    return site.model_copy(update={"store_ca_bundle": authorities.decode()})


@dataclass(frozen=True)
class StoreSites:
    """Two sites with a running store each, and the directory of their credentials."""

    aws: Site
    gcp: Site
    credentials: Path
    aws_server: Server
    gcp_server: Server


@dataclass(frozen=True)
class StandinSite:
    """A site whose store is our stand-in for Cloud Storage, what the stand-in holds, and the site's credentials."""

    site: Site
    state: gcs_standin.State
    credentials: Path


@pytest.fixture(scope="session")
def standin_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandinSite]:
    """gcp-frankfurt of profile compatible at a stand-in that lets everybody in."""
    with gcs_standin.running() as state:
        site = make_site("gcp-frankfurt", "gcp", "europe-west3", state.url)
        yield StandinSite(site, state, tmp_path_factory.mktemp("no-credentials"))


@pytest.fixture
def cloud_standin_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandinSite]:
    """gcp-frankfurt of profile cloud, with a service account: all that the stand-in replaces are URLs."""
    with gcs_standin.running() as state:
        key = state.accounts.add("site@standin.iam.gserviceaccount.com", {"*": accounts.ADMIN})
        (tmp_path / "gcp-frankfurt.json").write_text(json.dumps(key))
        monkeypatch.setattr(gcs, "endpoint", lambda _: state.url)
        monkeypatch.setattr(identities, "KEY_TOKEN_URLS", {key["token_uri"]})
        yield StandinSite(make_site("gcp-frankfurt", "gcp", "europe-west3", None), state, tmp_path)


@pytest.fixture(scope="session")
def store_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSites]:
    """aws-frankfurt (versitygw, eu-central-1) and gcp-frankfurt (fake-gcs-server, europe-west3)."""
    with ExitStack() as stack:
        aws, gcp = stack.enter_context(versitygw("eu-central-1")), stack.enter_context(fake_gcs("EUROPE-WEST3"))
        credentials = tmp_path_factory.mktemp("credentials")
        (credentials / "aws-frankfurt.json").write_text(json.dumps(_ACCESS))
        yield StoreSites(
            make_site("aws-frankfurt", "aws", "eu-central-1", aws.url),
            make_site("gcp-frankfurt", "gcp", "europe-west3", gcp.url),
            credentials,
            aws,
            gcp,
        )
