"""Who may reach what through the site's way out: the one file that the operator writes and squid's helpers read.

Written by ``domicile.controllers.egress.accounts``. What this doesn't understand it refuses as a whole.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PUBLIC = "public"
"""The route of destinations whose addresses are public ones."""
_ID = re.compile("[a-z0-9]{1,64}", re.ASCII)
_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label has a letter in it: what has none may be read as an address, in one of its many spellings.
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+(?=[a-z0-9-]*[a-z])(?!0x){_LABEL}", re.ASCII)


class UnknownError(Exception):
    """The file is not as it should be; the text says where and quotes nothing of it."""


class Account(NamedTuple):
    """A tenant, as far as the way out knows it."""

    id: str
    digest: bytes
    """SHA-256 of its password."""
    routes: Mapping[tuple[str, int], str]
    """By host and port, the route."""


class Book(NamedTuple):
    """All accounts, and what addresses the routes allow."""

    accounts: Mapping[str, Account]
    routes: Mapping[str, tuple[str, ...]]
    """By route other than PUBLIC, the networks that a destination's every address must lie in."""


class Decision(NamedTuple):
    """What becomes of a CONNECT: ``route`` None refuses it; ``account`` None: nobody proved to be one."""

    account: str | None
    route: str | None
    reason: str


def host_of(text: str) -> str:
    """A name as the lists have it: lower case, without the dot at its end."""
    return text.lower().removesuffix(".")


def parse(content: bytes) -> Book:
    """The file's accounts. Raises UnknownError."""
    try:
        document = json.loads(content)
        entries = document["accounts"]
        if set(document) != {"accounts"} or not isinstance(entries, list):
            raise UnknownError("accounts.json must have a list of accounts and nothing else")
    except (ValueError, KeyError, TypeError):
        raise UnknownError("accounts.json must be a JSON object with a list of accounts") from None
    accounts: dict[str, Account] = {}
    routes: dict[str, tuple[str, ...]] = {}
    for position, entry in enumerate(entries):
        account = _account(entry, f"account {position} of accounts.json", routes)
        if account.id in accounts:
            raise UnknownError(f"account {position} of accounts.json has the id of one before it")
        accounts[account.id] = account
    return Book(accounts, routes)


def _account(entry: object, what: str, routes: dict[str, tuple[str, ...]]) -> Account:
    if not isinstance(entry, dict) or set(entry) != {"id", "digest", "destinations"}:
        raise UnknownError(f"{what} must have id, digest and destinations")
    name, digest, destinations = entry["id"], entry["digest"], entry["destinations"]
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise UnknownError(f"{what} must have an id of lower-case letters and digits")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(destinations, list):
        raise UnknownError(f"{what} must have a SHA-256 in hex and a list of destinations")
    found: dict[tuple[str, int], str] = {}
    for each in destinations:
        host, port, networks = _destination(each, what)
        route = _route(networks)
        if networks:
            routes[route] = networks
        if found.setdefault((host, port), route) != route:
            raise UnknownError(f"{what} has a destination twice, with other addresses")
    return Account(name, bytes.fromhex(digest), found)


def _destination(entry: object, what: str) -> tuple[str, int, tuple[str, ...]]:
    if not isinstance(entry, dict) or not {"host", "port"} <= set(entry) <= {"host", "port", "cidrs"}:
        raise UnknownError(f"{what} has a destination without host and port, or with more than cidrs beside them")
    host, port, cidrs = entry["host"], entry["port"], entry.get("cidrs", [])
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise UnknownError(f"{what} has a destination whose host is no full name in lower case")
    if type(port) is not int or not 0 < port < 2**16:
        raise UnknownError(f"{what} has a destination whose port is none")
    try:
        if not isinstance(cidrs, list) or not all(isinstance(c, str) for c in cidrs):
            raise ValueError
        networks = tuple(sorted(str(ipaddress.ip_network(c)) for c in cidrs))
    except ValueError:
        raise UnknownError(f"{what} has a destination whose cidrs are no networks") from None
    return host, port, networks


def _route(networks: Sequence[str]) -> str:
    """Its name follows from its addresses: an old config of squid never takes one route for another."""
    return f"r{hashlib.sha256(' '.join(networks).encode()).hexdigest()[:16]}" if networks else PUBLIC


def decide(book: Book, credential: str, host: str, port: str) -> Decision:
    """What becomes of a CONNECT to ``host``:``port`` with the header Proxy-Authorization ``credential``."""
    return _look(_known(book, credential), host, port)


def again(book: Book, account: str, host: str, port: str) -> Decision:
    """As ``decide``, for an account that has proved to be one before, on the same connection."""
    return _look(book.accounts.get(account), host, port)


def _look(account: Account | None, host: str, port: str) -> Decision:
    if account is None:
        return Decision(None, None, "credential")
    name = host_of(host)
    # int() knows more spellings of a number than one.
    wanted = int(port) if re.fullmatch("[1-9][0-9]{0,4}", port, re.ASCII) else 0
    route = account.routes.get((name, wanted))
    if route is not None:
        return Decision(account.id, route, "allowed")
    listed = any(name == known for known, _ in account.routes)
    return Decision(account.id, None, "port" if listed else "not-listed")


def _known(book: Book, credential: str) -> Account | None:
    scheme, _, encoded = credential.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        return None
    account = book.accounts.get(name)
    digest = hashlib.sha256(password.encode()).digest()
    return account if account is not None and hmac.compare_digest(digest, account.digest) else None
