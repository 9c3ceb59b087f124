"""The site's way out as it runs in a pod: our image's files, in a network of its own without a way to anywhere.

That network has names of its own (a small DNS server), and origins with TLS at any address that a test gives to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domicile.controllers.egress.accounts import Account, Destination, digest, render
from domicile.controllers.pki.authority import Authority
from domicile.controllers.pki.leaf import Holder
from tests.authorities import SERVER, write
from tests.authorities import Authority as Web
from tests.integration.door_server import Volume, contained, end, family, until
from tests.integration.session_server import Server
from tests.pods import DOOR, authority, calling, certificates

EGRESS = Holder("domicile-system", "domicile-egress", "", ("localhost",), calls=False)
ALICE, BOB = "a" * 32, "b" * 32
PASSWORDS = {ALICE: "alice-knows-this", BOB: "bob-knows-that"}
PORT = 3129
HERE = "93.184.215.14"
"""A public address that, in this network, is an origin's."""
_CLONE_NEWNET = 0x40000000
_START_SECONDS = 60
_PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        libc.setns(before, _CLONE_NEWNET)
        os.close(before)


def give(address: str) -> None:
    """Let the network have an address."""
    length = 128 if ":" in address else 32
    subprocess.run(["ip", "address", "replace", f"{address}/{length}", "dev", "lo"], check=True)


class Names:
    """A DNS server; a name's answers come in turn, each with its time to live (seconds)."""

    ADDRESS = "127.0.0.53"

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], list[str]]] = {}
        self.ttl: dict[str, int] = {}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.ADDRESS, 53))
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, name: str, *addresses: str, ttl: int = 3600) -> None:
        """A name has these addresses."""
        self.answers[name], self.ttl[name] = lambda: list(addresses), ttl

    def close(self) -> None:
        self._socket.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, sender = self._socket.recvfrom(2000)
                self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
            at += query[at] + 1
        (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
        name = ".".join(labels)
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        known = name in self.answers
        found = [a for a in (self.answers[name]() if known and family else []) if (":" in a) == (kind == 28)]
        if kind == 1:
            self.asked.append(name)
        head = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, len(found), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self.ttl[name], len(raw)) + raw
            for raw in (socket.inet_pton(family, a) for a in found if family)
        )
        return head + query[12 : at + 5] + records


class Origin:
    """A TLS server at every address of the network: it says back what it hears, and to HTTP hello."""

    def __init__(self, port: int, web: Web, folder: Path) -> None:
        self.seen: list[str] = []
        """Names that were asked for in TLS."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.sni_callback = self._named
        self._context.load_cert_chain(
            *write(folder, "origin", web.issue("origin", use=SERVER, hosts=("*.example.com",)))
        )
        self._socket = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        threading.Thread(target=self._run, daemon=True).start()

    def _named(self, _: Any, name: str | None, __: Any) -> None:
        self.seen.append(name or "")

    def close(self) -> None:
        self._socket.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                way, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(way,), daemon=True).start()

    def _serve(self, way: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(way, server_side=True) as stream:
            while said := stream.recv(1000):
                stream.sendall(_PAGE if said.startswith(b"GET ") else said)


@dataclass
class Answer:
    """What a client got: the proxy's status and page, then what the tunnel did (``reply``; None: it ended)."""

    status: int
    page: str = ""
    reply: bytes | None = None
    certificate: bytes = b""


class Tunnel:
    """A connection to the way out, as a tenant's gateway opens one: TLS, CONNECT, and TLS through it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to_proxy(cls, context: ssl.SSLContext) -> Tunnel:
        """Raises ssl.SSLError and OSError where it isn't let in."""
        return cls(*await asyncio.open_connection("127.0.0.1", PORT, ssl=context, server_hostname="localhost"))

    async def ask(self, *lines: str) -> Answer:
        """Send a request's lines; the answer's status and page."""
        self.writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        status = int(head.split(b" ")[1])
        return Answer(
            status, "" if status == 200 else (await asyncio.wait_for(self.reader.readline(), 5)).decode().strip()
        )

    async def say(self, text: bytes) -> bytes:
        """What comes back; empty where the other end has hung up."""
        try:
            self.writer.write(text)
            return await asyncio.wait_for(self.reader.read(1000), 5)
        except (ConnectionError, ssl.SSLError):
            return b""

    async def start_tls(self, context: ssl.SSLContext, name: str | None) -> bool:
        """Whether TLS came about through the tunnel."""
        try:
            await asyncio.wait_for(self.writer.start_tls(context, server_hostname=name), 5)
        except (ConnectionError, ssl.SSLError, TypeError):
            # TypeError: Python 3.11 stumbles where TLS within TLS ends during its handshake.
            return False
        return True

    def close(self) -> None:
        """At once."""
        self.writer.transport.abort()


def basic(account: str, password: str) -> str:
    """The header by which an account proves itself."""
    return f"Proxy-Authorization: Basic {base64.b64encode(f'{account}:{password}'.encode()).decode()}"


@dataclass
class WayOut:
    """The two containers of a pod, the names and the origins of its network."""

    squid: Server
    tls: Server
    names: Names
    web: Web
    authority: Authority
    lists: Volume
    certificates: Volume
    origins: dict[int, Origin]

    def context(self, holder: Holder = DOOR, signer: Authority | None = None) -> ssl.SSLContext:
        """What a pod connects by."""
        return calling(holder, signer or self.authority, self.authority)

    def trust(self) -> ssl.SSLContext:
        """What a client believes of origins."""
        return ssl.create_default_context(cadata=self.web.pem.decode())

    async def connect(
        self,
        host: str,
        port: int = 443,
        *,
        account: str = ALICE,
        password: str | None = None,
        header: str | None = None,
    ) -> tuple[Tunnel, Answer]:
        """CONNECT as an account; ``header`` in place of its credential."""
        tunnel = await Tunnel.to_proxy(self.context())
        proof = basic(account, password or PASSWORDS[account]) if header is None else header
        lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}", *([proof] if proof else [])]
        return tunnel, await tunnel.ask(*lines)

    async def visit(self, host: str, port: int = 443, *, sni: str | None = "", **how: Any) -> Answer:
        """All of it: CONNECT, TLS by the name ``sni`` (default: the host; None: without one), a word and its echo."""
        tunnel, answer = await self.connect(host, port, **how)
        try:
            if answer.status != 200:
                return answer
            context = self.trust()
            if sni is None or sni:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            name = host if sni == "" else sni
            if await tunnel.start_tls(context, name):
                answer.reply = await tunnel.say(b"hello")
            return answer
        finally:
            tunnel.close()

    def decisions(self, **wanted: object) -> list[dict[str, Any]]:
        """Lines of the log with these fields."""
        found = [line for event in ("opened", "closed", "refused") for line in self.squid.events(event)]
        return [line for line in found if "host" in line and wanted.items() <= line.items()]

    async def told(self, **wanted: object) -> dict[str, Any]:
        """The newest of them, as soon as there is one."""
        await soon(f"a decision {wanted}", lambda: bool(self.decisions(**wanted)))
        return max(self.decisions(**wanted), key=lambda line: str(line["time"]))

    def list(self, **accounts: tuple[Destination, ...]) -> None:
        """Give accounts these destinations, and wait until the list is taken."""
        self.squid.mount(self.lists, {"accounts.json": accounts_file(accounts)})


async def soon(what: str, holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to hold, while connections go on. Raises AssertionError."""
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last, f"after {seconds} s still not: {what}"
        await asyncio.sleep(0.02)


def accounts_file(lists: dict[str, tuple[Destination, ...]]) -> bytes:
    """The operator's file."""
    known = {"alice": ALICE, "bob": BOB}
    return render(Account(known[n], digest(PASSWORDS[known[n]]), d) for n, d in lists.items()).encode()


@contextmanager
def way_out(folder: Path, **lists: tuple[Destination, ...]) -> Iterator[WayOut]:
    """A way out with these lists, in the network of this thread. Raises AssertionError where it doesn't start."""
    folder.chmod(0o755)
    web, signer, names = Web("web"), authority(), Names()
    with ExitStack() as stack:
        stack.callback(names.close)
        mounts = folder / "mounts"
        mounts.mkdir()
        volumes = {name: Volume(mounts / name) for name in ("egress", "tls")}
        volumes["egress"].put({"accounts.json": accounts_file(lists)})
        volumes["tls"].put(certificates(EGRESS, signer))
        origins = {port: Origin(port, web, folder) for port in (443, 8443)}
        for origin in origins.values():
            stack.callback(origin.close)
        give(HERE)
        squid = start(folder, "squid", 8081, ("DOMICILE_NAMESERVERS=127.0.0.53",))
        stack.callback(lambda: end(squid.process))
        tls = start(folder, "tls", 8082, ("DOMICILE_ADDRESSES=127.0.0.1,::1",))
        stack.callback(lambda: end(tls.process))
        yield WayOut(squid, tls, names, web, signer, volumes["egress"], volumes["tls"], origins)


def start(folder: Path, name: str, health: int, environment: tuple[str, ...] = ()) -> Server:
    """One of the containers."""
    place = folder / name
    place.mkdir()
    place.chmod(0o755)
    command = (
        "env",
        f"DOMICILE_HEALTH_PORT={health}",
        *environment,
        "python3",
        "-P",
        "-m",
        f"domicile.gateway.egress.{name}",
    )
    process = contained("egress", folder / "mounts", "/etc/domicile", command, place / "log")
    server = Server(place, process, health)
    until(f"{name} is up", lambda: server.health() == 200 or process.poll() is not None, _START_SECONDS)
    assert process.poll() is None, server.out + server.err
    return server


def squid_and_helpers(server: Server) -> tuple[int, list[int]]:
    """Process ids of squid and of its helpers."""
    words = {p: Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0") for p in family(server.process.pid)}
    # A helper is a squid, too, until it has become what it is to be.
    squid = next(p for p, w in words.items() if w[0] == b"/usr/sbin/squid")
    return squid, [p for p, w in words.items() if b"domicile.gateway.egress.helper" in w]


def client_hello(name: bytes) -> bytes:
    """The first message of TLS 1.2, which asks for a server by name (RFC 5246, RFC 6066)."""
    entry = b"\0" + struct.pack(">H", len(name)) + name
    names = struct.pack(">H", len(entry)) + entry
    extensions = struct.pack(">HH", 0, len(names)) + names
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\xc0\x2f" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    message = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack(">H", len(message)) + message
