"""Stores through the site's way out: two with TLS, and names that nobody but squid can resolve."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domicile import forwarding
from domicile.api.sites import SiteFile
from domicile.backup.stores import Deadlines, open_bucket, way_out
from domicile.backup.stores.base import UnavailableError
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.pki import holders
from domicile.credentials import Credentials
from examples.assistant.settings import StoreUrl
from examples.assistant.store import StoreError as AssistantStoreError
from examples.assistant.store import open_store
from tests.authorities import SERVER, write
from tests.integration import egress_server
from tests.integration.consents_estate import accepted, asking, browser
from tests.integration.door_server import until
from tests.integration.egress_server import ALICE, BOB, HERE, PASSWORDS, PORT, WayOut, own_network
from tests.integration.stores_fixture import Server, StoreSites, free_port, make_site, serving, stopped, trusting
from tests.integration.test_takeover import CONTENT, Pair
from tests.pods import mounted
from tests.testbed.build import build

S3, GCS, UNLISTED = "s3.example.com", "gcs.example.com", "other.example.com"
S3_PORT, GCS_PORT = 9443, 9444
LISTED = (Destination(S3, S3_PORT), Destination(GCS, GCS_PORT))
BIG = 20 << 20
"""Above what is one request."""


@contextmanager
def _s3(certificate: Path, key: Path) -> Iterator[Server]:
    root = Path(tempfile.mkdtemp(prefix="versitygw-"))
    for name in ("data", "versions"):
        (root / name).mkdir()
    command = [
        str(build("versitygw")),
        *("--access", "test", "--secret", "test-secret", "--cert", str(certificate), "--key", str(key)),
        *("--port", f":{S3_PORT}", "--region", "eu-central-1", "--quiet", "--keep-alive", "posix"),
        *("--versioning-dir", str(root / "versions"), str(root / "data")),
    ]
    with (root / "log").open("wb") as log, stopped(serving(command, S3_PORT, root, log)) as server:
        yield server


@contextmanager
def _gcs(certificate: Path, key: Path) -> Iterator[Server]:
    root = Path(tempfile.mkdtemp(prefix="fake-gcs-"))
    url = f"https://{GCS}:{GCS_PORT}"
    command = [
        str(build("fake-gcs-server")),
        *("-scheme", "https", "-host", "0.0.0.0", "-port", str(GCS_PORT), "-external-url", url),
        *("-public-host", f"{GCS}:{GCS_PORT}"),
        *("-cert-location", str(certificate), "-private-key-location", str(key)),
        *("-backend", "filesystem", "-filesystem-root", str(root / "data"), "-location", "EUROPE-WEST3"),
        *("-log-level", "error"),
    ]
    with (root / "log").open("wb") as log, stopped(serving(command, GCS_PORT, root, log)) as server:
        yield server


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WayOut]:
    with own_network(), egress_server.way_out(tmp_path_factory.mktemp("egress"), alice=LISTED) as made:
        for host in (S3, GCS, UNLISTED):
            made.names.put(host, HERE)
        yield made


@pytest.fixture(scope="module")
def folder(way: WayOut, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The pod's files of the way out; this process' calls of clouds go through it, and through it alone."""
    made = mounted(tmp_path_factory.mktemp("mount") / "way-out", holders.outwards("domicile-system"), way.authority)
    (made / forwarding.ACCOUNT).write_text(f"{ALICE}:{PASSWORDS[ALICE]}")
    settings = {"DOMICILE_WAY_OUT": f"localhost:{PORT}", "DOMICILE_WAY_OUT_DIR": str(made)}
    way_out.use(forwarding.start(settings), by_path=True)
    yield made
    way_out.use(None)


@pytest.fixture(scope="module")
def sites(way: WayOut, folder: Path) -> Iterator[StoreSites]:
    """As everywhere, but with TLS and names, and an authority that no system knows."""
    with ExitStack() as stack:
        pair = write(folder, "store", way.web.issue("store", use=SERVER, hosts=(S3, GCS)))
        s3, gcs = stack.enter_context(_s3(*pair)), stack.enter_context(_gcs(*pair))
        credentials = folder / "credentials"
        credentials.mkdir()
        account = {"accessKeyId": "test", "secretAccessKey": "test-secret"}
        (credentials / "aws-frankfurt.json").write_text(json.dumps(account))
        yield StoreSites(
            trusting(make_site("aws-frankfurt", "aws", "eu-central-1", f"https://{S3}:{S3_PORT}"), way.web.pem),
            trusting(make_site("gcp-frankfurt", "gcp", "europe-west3", f"https://{GCS}:{GCS_PORT}"), way.web.pem),
            credentials,
            s3,
            gcs,
        )


def test_a_tenant_is_replicated_and_taken_over_through_it_alone(way: WayOut, sites: StoreSites, tmp_path: Path) -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(S3, S3_PORT)
    pair = Pair(sites, tmp_path)
    pair.provision()
    content = CONTENT | {"bigger": bytes(range(256)) * (BIG // 256)}
    pair.fill(content)
    assert pair.replicate() == 0
    pair.take_over()
    assert pair.live() == content
    opened = way.decisions(event="opened")
    assert {(line["host"], line["port"], line["sni"], line["account"]) for line in opened} == {
        (S3, S3_PORT, S3, ALICE),
        (GCS, GCS_PORT, GCS, ALICE),
    }
    assert not way.decisions(event="refused")


def test_what_is_not_listed_is_refused_and_told(
    way: WayOut, sites: StoreSites, caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site("aws-frankfurt", "aws", "eu-central-1", f"https://{UNLISTED}:{S3_PORT}")
    with pytest.raises(UnavailableError):
        open_bucket(site, "any-bucket", sites.credentials, Deadlines(2, 2, 0)).read("claims/x")
    until("it is in the log", lambda: bool(way.decisions(event="refused", host=UNLISTED, reason="not-listed")))
    assert "the way out does not lead to what was asked for: not-listed" in caplog.text
    # A name can say anything.
    assert UNLISTED not in caplog.text


def test_files_may_come_later_and_change(way: WayOut, folder: Path, sites: StoreSites) -> None:
    """As where the operator makes them after the pod has started, and renews them."""
    bucket = open_bucket(sites.aws, "files-change", sites.credentials, Deadlines(2, 2, 0))
    account = folder / forwarding.ACCOUNT
    kept = account.read_bytes()

    def ask() -> None:
        # A client of its own each time: a tunnel that is open stays so.
        fresh = Deadlines(2, 2 + datetime.now(UTC).microsecond / 1e7, 0)
        open_bucket(sites.aws, "files-change", sites.credentials, fresh).write("a", iter([b"1"]), 1)

    bucket.create_bucket()
    ask()
    account.unlink()
    with pytest.raises(UnavailableError):
        ask()
    account.write_text(f"{BOB}:{PASSWORDS[BOB]}")
    with pytest.raises(UnavailableError):
        ask()
    account.write_bytes(kept)
    ask()
    # What the pods' authority did not sign is let in nowhere.
    held = {name: (folder / name).read_bytes() for name in ("tls.crt", "tls.key")}
    mounted(folder, holders.outwards("domicile-system"), egress_server.authority(), way.authority)
    with pytest.raises(UnavailableError):
        ask()
    for name, content in held.items():
        (folder / name).write_bytes(content)
    ask()


async def test_assistants_and_guards_reach_their_bucket_by_the_guards_loopback(
    way: WayOut, sites: StoreSites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.list(alice=LISTED, bob=(Destination(S3, S3_PORT),))
    tls = mounted(tmp_path / "tls", holders.assistant("bank", "helpdesk"), way.authority)
    account, port = tmp_path / "egress", free_port()
    account.write_text(f"{BOB}:{PASSWORDS[BOB]}")
    env = {"DOMICILE_WAY_OUT": f"localhost:{PORT}", "DOMICILE_WAY_OUT_ACCOUNT": str(account)}
    env |= {"DOMICILE_WAY_OUT_PORT": str(port), "DOMICILE_TLS": str(tls)}
    async with asking(tmp_path, f"https://{S3}:{S3_PORT}", way.web.pem.decode(), **env) as (estate, kept):
        assert not way.decisions(account=BOB)
        async with browser() as web:
            await accepted(web, estate.url)
        assert kept.records()
        await way.told(event="opened", account=BOB, host=S3)
        seen = len(way.decisions(event="opened", account=BOB))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        ours = f"s3://{kept.bucket.name}?region=eu-central-1&endpoint=https://{S3}:{S3_PORT}"
        token = tmp_path / "token.json"
        token.write_text(json.dumps({"accessToken": "any", "expiresAt": "2099-01-01T00:00:00Z"}))
        other = f"gs://any-bucket?region=europe-west3&endpoint=https://{GCS}:{GCS_PORT}"

        def use() -> bytes:
            roots = way.web.pem.decode()
            store = open_store(StoreUrl.parse(ours), sites.credentials / "aws-frankfurt.json", roots)
            store.create("conversations/1.json", b"{}")
            return store.read("conversations/1.json")

        assert await asyncio.to_thread(use) == b"{}"
        assert len(way.decisions(event="opened", account=BOB)) > seen
        with pytest.raises(AssistantStoreError):
            await asyncio.to_thread(lambda: open_store(StoreUrl.parse(other), token).read("x"))
        await way.told(event="refused", account=BOB, host=GCS, reason="not-listed")


async def test_there_are_only_so_many_tunnels_and_each_counts_until_it_is_gone(
    way: WayOut, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "_SECONDS", 2)
    credentials = Credentials(folder, "ca.crt", connects=True)
    forwarder = forwarding.Forwarder(f"localhost:{PORT}", credentials, folder / forwarding.ACCOUNT, 3)
    before = len(asyncio.all_tasks())
    async with await forwarder.listen() as server:
        port = server.sockets[0].getsockname()[1]

        async def ask() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
            writer.write(f"CONNECT {S3}:{S3_PORT} HTTP/1.1\r\n\r\n".encode())
            return reader, writer, await reader.readexactly(12)

        opened = [await ask() for _ in range(3)]
        assert [answer for _, _, answer in opened] == [b"HTTP/1.1 200"] * 3
        assert (await ask())[2] == b"HTTP/1.1 503"
        assert "no more are opened" in caplog.text
        # Who has asked for nothing counts, too.
        opened.pop()[1].close()
        await egress_server.soon("one has gone", lambda: forwarder.clients == 2)
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        await egress_server.soon("it is seen", lambda: forwarder.clients == 3)
        assert (await ask())[2] == b"HTTP/1.1 503"
        # Who closes one half, and reads nothing of what comes.
        for _, writer, _ in opened:
            writer.write_eof()
        await egress_server.soon("all of them end", lambda: forwarder.clients == 0)
        silent.close()
        assert (await ask())[2] == b"HTTP/1.1 200"
    await egress_server.soon("nothing goes on", lambda: len(asyncio.all_tasks()) <= before + 1)


async def test_who_reads_nothing_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A far end that sends without end, and a client that half closes and doesn't read."""
    monkeypatch.setattr(forwarding, "_SECONDS", 1)
    forwarder = forwarding.Forwarder("localhost:1", Credentials(folder, "ca.crt", connects=True), folder / "none")

    async def sends(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()

    async with await asyncio.start_server(sends, "127.0.0.1", 0) as far:
        place = far.sockets[0].getsockname()[:2]
        monkeypatch.setattr(forwarder, "_open", lambda _: asyncio.open_connection(*place))
        async with await forwarder.listen() as server:
            port = server.sockets[0].getsockname()[1]
            clients = []
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
                writer.write(f"CONNECT {S3}:{S3_PORT} HTTP/1.1\r\n\r\n".encode())
                assert await reader.readexactly(12) == b"HTTP/1.1 200"
                writer.write_eof()
                clients.append((reader, writer))
            assert forwarder.clients
            await egress_server.soon("they are given up", lambda: forwarder.clients == 0)
            for _, writer in clients:
                writer.close()


async def test_what_answers_and_is_no_proxy_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for answer in (b"\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200", b"x" * (1 << 18)):

        async def answers(_: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer) -> None:
            writer.write(answer)
            writer.close()

        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(*_pair(folder.parent / "odd"))
        async with await asyncio.start_server(answers, "127.0.0.1", 0, ssl=serving) as far:
            port = far.sockets[0].getsockname()[1]
            files = mounted(folder.parent / "calls", holders.outwards("domicile-system"))
            (files / forwarding.ACCOUNT).write_text("a:b")
            credentials = Credentials(files, "ca.crt", connects=True)
            forwarder = forwarding.Forwarder(f"localhost:{port}", credentials, files / forwarding.ACCOUNT)
            async with await forwarder.listen() as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
                writer.write(f"CONNECT {S3}:{S3_PORT} HTTP/1.1\r\n\r\n".encode())
                assert (await reader.readline()).startswith(b"HTTP/1.1 502")
                writer.close()
    assert "can't be used" in caplog.text


def _pair(folder: Path) -> tuple[Path, Path]:
    """Certificate and key of a proxy that the pods' authority vouches for."""
    made = mounted(folder, egress_server.EGRESS)
    return made / "tls.crt", made / "tls.key"


def _client() -> closing[socket.socket]:
    """A connection to this process' own proxy."""
    place = way_out.place("https://any.example.com")
    assert place
    host, _, port = place.partition(":")
    return closing(socket.create_connection((host, int(port)), 10))


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET http://s3.example.com/ HTTP/1.1",
        b"CONNECT s3.example.com:9443 HTTP/1.1 \r\nx: y",
        b"CONNECT s3.example.com HTTP/1.1",
        b"CONNECT a b:1 HTTP/1.1",
        b"CONNECT \xff:1 HTTP/1.1",
    ],
)
@pytest.mark.usefixtures("folder")
def test_it_takes_nothing_but_tunnels(request_line: bytes) -> None:
    with _client() as client:
        client.sendall(request_line + b"\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 405 ")
        assert client.recv(100) == b""


@pytest.mark.usefixtures("sites")
def test_a_name_may_be_written_in_capitals(way: WayOut) -> None:
    with _client() as client:
        client.sendall(f"CONNECT {S3.upper()}:{S3_PORT} HTTP/1.1\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_the_command_uses_it(way: WayOut, folder: Path, sites: StoreSites, tmp_path: Path) -> None:
    """``domicile replicate`` as its pod starts it, with nothing but its environment and files."""
    pair = Pair(sites, tmp_path)
    pair.provision()
    pair.fill(CONTENT)
    before = len(way.decisions(event="opened"))
    file = tmp_path / "sites.json"
    file.write_text(SiteFile(zones=[pair.zone("gcp-frankfurt")]).model_dump_json(by_alias=True, exclude_none=True))
    done = _replicate(file, pair, sites, DOMICILE_WAY_OUT=f"localhost:{PORT}", DOMICILE_WAY_OUT_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    until("tunnels of its own", lambda: len(way.decisions(event="opened")) > before)
    done = _replicate(file, pair, sites)
    assert done.returncode == 1, "without it no name is known here"


def _replicate(file: Path, pair: Pair, sites: StoreSites, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("domicile")),
        "replicate",
        "--tenant",
        pair.tenant,
        "--sites",
        str(file),
    ]
    command += ["--credentials", str(sites.credentials), "--keys", str(pair.keys)]
    return subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False
    )
