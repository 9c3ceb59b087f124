"""A listener over real TLS: who gets in, who doesn't, and what happens when files change."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from domicile.credentials import Credentials
from domicile.listener import listed, serving
from tests.authorities import SERVER, Authority, rsa_key, write

LOOPBACK = ("127.0.0.0/8",)
REQUEST = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
Pair = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def servers() -> Authority:
    return Authority("servers")


@pytest.fixture(scope="module")
def clients() -> Authority:
    return Authority("clients")


@pytest.fixture
def folder(tmp_path: Path, servers: Authority, clients: Authority) -> Path:
    """What is mounted: the port's own certificate, and the authority of its clients."""
    mounted = tmp_path / "mounted"
    write(mounted, "tls", servers.issue("port", use=SERVER, hosts=("port.example",)))
    (mounted / "clients.crt").write_bytes(clients.pem)
    return mounted


@asynccontextmanager
async def listening(folder: Path, networks: tuple[str, ...] = LOOPBACK) -> AsyncIterator[int]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="the page")

    app = web.Application()
    app.add_routes([web.get("/page", page)])
    async with serving(app, 0, Credentials(folder, "clients.crt"), [ip_network(n) for n in networks]) as port:
        yield port


class Client:
    """Asks for the page as curl would."""

    def __init__(self, tmp_path: Path, servers: Authority, pair: Pair | None, newest: ssl.TLSVersion | None = None):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.load_verify_locations(cadata=servers.pem.decode())
        # What a client is willing to do says nothing: the server has to refuse.
        self._context.set_ciphers("ALL:@SECLEVEL=0")
        if newest is not None:
            self._context.maximum_version = newest
        if pair is not None:
            self._context.load_cert_chain(*write(tmp_path, "client", pair))

    async def get(self, port: int, source: str = "127.0.0.1") -> str:
        """The whole answer. Raises OSError (ssl.SSLError is one) where the server refuses."""
        reader, writer = await asyncio.open_connection(
            source, port, ssl=self._context, server_hostname="port.example", local_addr=(source, 0)
        )
        self.serial = x509.load_der_x509_certificate(
            writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        ).serial_number
        try:
            writer.write(REQUEST)
            async with asyncio.timeout(10):
                answer = (await reader.read()).decode()
            if not answer:
                raise ConnectionResetError("closed without an answer")
            return answer
        finally:
            writer.transport.abort()


@pytest.fixture
def client(tmp_path: Path, servers: Authority) -> Callable[..., Client]:
    return lambda pair, newest=None: Client(tmp_path, servers, pair, newest)


@pytest.mark.parametrize(
    "key",
    [rsa_key(2048), ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["RSA 2048", "P-256", "Ed25519"],
)
async def test_strong_certificates_of_the_named_authority_are_let_in(
    folder: Path, clients: Authority, client: Callable[..., Client], key: rsa_key
) -> None:
    async with listening(folder) as port:
        answer = await client(clients.issue("scraper", key=key)).get(port)
    assert answer.startswith("HTTP/1.1 200 OK")
    assert answer.endswith("the page")
    # The next request shows its certificate anew.
    assert "Connection: close" in answer


REFUSED: dict[str, tuple[str, Callable[[Authority, Path], Pair | None]]] = {
    "no certificate": ("peer did not return a certificate", lambda *_: None),
    "another authority": ("unable to get local issuer", lambda *_: Authority("others").issue("scraper")),
    "another authority of the name": ("signature failure", lambda *_: Authority("clients").issue("scraper")),
    "ended": ("has expired", lambda a, _: a.issue("scraper", days=(-2, -1))),
    "not begun": ("not yet valid", lambda a, _: a.issue("scraper", days=(1, 2))),
    "a server's": ("unsuitable certificate purpose", lambda a, _: a.issue("scraper", use=SERVER)),
    "RSA 1024": ("key too weak", lambda a, _: a.issue("scraper", key=rsa_key(1024))),
    # TLS 1.3 has no way to show it.
    "P-224": (
        "peer did not return a certificate",
        lambda a, _: a.issue("scraper", key=ec.generate_private_key(ec.SECP224R1())),
    ),
    "signed with SHA-1": ("digest algorithm too weak", lambda a, folder: a.issue_by_sha1(folder, "scraper")),
}


@pytest.mark.parametrize(("why", "make"), REFUSED.values(), ids=REFUSED)
async def test_others_are_refused_and_the_log_says_why(
    tmp_path: Path,
    folder: Path,
    clients: Authority,
    client: Callable[..., Client],
    caplog: pytest.LogCaptureFixture,
    why: str,
    make: Callable[[Authority, Path], Pair | None],
) -> None:
    async with listening(folder) as port:
        with pytest.raises(OSError):  # noqa: PT011
            await client(make(clients, tmp_path)).get(port)
        assert "200 OK" in await client(clients.issue("scraper")).get(port)
    assert re.search(f"a client was refused: .*{why}", caplog.text)


async def test_older_tls_is_refused(
    folder: Path, clients: Authority, client: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(folder) as port:
        with pytest.raises(OSError):  # noqa: PT011
            await client(clients.issue("scraper"), ssl.TLSVersion.TLSv1_2).get(port)
    assert "unsupported protocol" in caplog.text


async def test_an_authority_may_be_named_without_the_root_above_it(
    folder: Path, clients: Authority, client: Callable[..., Client]
) -> None:
    below = Authority("scrapers", above=clients)
    (folder / "clients.crt").write_bytes(below.pem)
    async with listening(folder) as port:
        assert "200 OK" in await client(below.issue("scraper")).get(port)
        with pytest.raises(OSError):  # noqa: PT011
            await client(clients.issue("the root's own")).get(port)


async def test_other_networks_hear_nothing_whatever_they_show(
    folder: Path, clients: Authority, client: Callable[..., Client]
) -> None:
    good = client(clients.issue("scraper"))
    async with listening(folder, ("127.0.0.2/32", "::1/128")) as port:
        assert "200 OK" in await good.get(port, "127.0.0.2")
        assert "200 OK" in await good.get(port, "::1")
        with pytest.raises(OSError):  # noqa: PT011
            await good.get(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("10.8.0.9", True),
        ("::ffff:10.8.0.9", True),
        ("10.8.1.9", False),
        ("::ffff:10.8.1.9", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
        # An IPv4-compatible address is another machine's.
        ("::10.8.0.9", False),
    ],
)
def test_networks_are_compared_by_the_address_itself(address: str, found: bool) -> None:
    assert listed(address, [ip_network("10.8.0.0/24"), ip_network("2001:db8::/32")]) is found


async def test_changed_files_count_from_the_next_connection_on(
    folder: Path,
    servers: Authority,
    clients: Authority,
    client: Callable[..., Client],
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = client(clients.issue("scraper"))
    async with listening(folder) as port:
        await old.get(port)
        first = old.serial
        write(folder, "tls", servers.issue("port", use=SERVER, hosts=("port.example",)))
        await old.get(port)
        assert old.serial != first

        successor = Authority("clients")
        (folder / "clients.crt").write_bytes(successor.pem)
        with pytest.raises(OSError):  # noqa: PT011
            await old.get(port)
        new = client(successor.issue("scraper"))
        assert "200 OK" in await new.get(port)

        caplog.clear()
        (folder / "tls.key").write_bytes(Authority("other").issue("x")[1])
        assert "200 OK" in await new.get(port)
        assert "those before stay in use" in caplog.text
        assert str(folder) in caplog.text
        assert "PRIVATE" not in caplog.text


async def test_without_files_nobody_is_let_in_until_they_come(
    folder: Path, clients: Authority, client: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    mounted = {name: (folder / name).read_bytes() for name in ("tls.crt", "tls.key", "clients.crt")}
    for name in mounted:
        (folder / name).unlink()
    good = client(clients.issue("scraper"))
    async with listening(folder) as port:
        with pytest.raises(OSError):  # noqa: PT011
            await good.get(port)
        assert "no connection is made" in caplog.text
        for name, data in mounted.items():
            (folder / name).write_bytes(data)
        assert "200 OK" in await good.get(port)


async def test_sessions_are_not_resumed(tmp_path: Path, folder: Path, servers: Authority, clients: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=servers.pem.decode())
    context.load_cert_chain(*write(tmp_path, "client", clients.issue("scraper")))

    def ask(port: int) -> bool:
        raw = socket.create_connection(("127.0.0.1", port), 10)
        with context.wrap_socket(raw, server_hostname="port.example") as connection:
            connection.sendall(REQUEST)
            while connection.recv(4096):
                pass
            # A ticket comes with the answer, if at all.
            return bool(connection.session and connection.session.has_ticket)

    async with listening(folder) as port:
        assert not await asyncio.to_thread(ask, port)


async def test_those_who_say_nothing_keep_nobody_out(
    folder: Path, clients: Authority, client: Callable[..., Client]
) -> None:
    async with listening(folder) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        assert "200 OK" in await client(clients.issue("scraper")).get(port)
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
