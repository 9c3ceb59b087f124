"""What the site's way out is told: its accounts, as the file that ``domicile.gateway.egress.accounts`` reads. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label has a letter in it: what has none may be read as an address, in one of its many spellings.
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+(?=[a-z0-9-]*[a-z])(?!0x){_LABEL}", re.ASCII)
OWN = "installation"
"""The account of the installation itself."""
LOGINS = "logins"
"""That of the operator alone, for who logs people in."""
_STORE, _DOOR = "store", "door"
_ID = re.compile(f"({_STORE}|{_DOOR})?[0-9a-f]{{32}}|{OWN}|{LOGINS}", re.ASCII)
# What clouds tell secrets by, in networks that may be somebody's own. As in ``domicile.gateway.egress.squid_conf``.
_METADATA = tuple(
    ipaddress.ip_network(n)
    for n in (
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
    )
)
# This pod and its node, and several at once.
_NEVER = tuple(
    ipaddress.ip_network(n)
    for n in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/96",
        "::ffff:0:0/96",
        "fe80::/10",
        "ff00::/8",
    )
)


@dataclass(frozen=True, order=True)
class Destination:
    """A host by its exact name, and one port of it. Raises ValueError for what is none.

    ``cidrs``: networks that its every address must lie in, which may be private; none: it has public addresses only.
    """

    host: str
    port: int = 443
    cidrs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise ValueError("a destination must be a full name in lower case, such as api.example.com")
        if isinstance(self.port, bool) or not 0 < self.port < 2**16:
            raise ValueError("a destination's port must be from 1 to 65535")
        for cidr in self.cidrs:
            network = ipaddress.ip_network(cidr)
            if network in _METADATA or any(network.version == n.version and network.overlaps(n) for n in _NEVER):
                raise ValueError(f"{cidr} holds addresses of the pod, its node or many, where no destination may be")


def destination(host: str, port: int, cidrs: Iterable[str]) -> Destination | str:
    """The destination, or why there can be none."""
    try:
        return Destination(host, port, tuple(sorted(cidrs)))
    except ValueError as error:
        return str(error)


@dataclass(frozen=True)
class Account:
    """Who reaches what: a tenant's gateway by the tenant's id, its assistants and doors (``of_tenant``), OWN, LOGINS.

    ``digest``: of the password. Raises ValueError for an odd id, or a destination that is there twice.
    """

    id: str
    digest: str
    destinations: tuple[Destination, ...]

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(
                f"an account's id must be a tenant's, 32 hex digits, {_STORE} or {_DOOR} and one, {OWN} or {LOGINS}"
            )
        places = [(d.host, d.port) for d in self.destinations]
        if len(set(places)) < len(places):
            raise ValueError("an account has a destination twice, with other networks")


def of_assistants(tenant_id: str) -> str:
    """Id of the account by which a tenant's assistants reach their store."""
    return f"{_STORE}{tenant_id}"


def of_doors(tenant_id: str) -> str:
    """Id of the account by which a tenant's front doors reach who logs people in."""
    return f"{_DOOR}{tenant_id}"


def of_tenant(tenant_id: str) -> tuple[str, str, str]:
    """All ids of a tenant's."""
    return tenant_id, of_assistants(tenant_id), of_doors(tenant_id)


def digest(password: str) -> str:
    """What is kept of a password, which is random and long: its SHA-256, in hex."""
    return hashlib.sha256(password.encode()).hexdigest()


def render(accounts: Iterable[Account]) -> str:
    """The file ``accounts.json``; the same accounts give the same text."""
    entries = [
        {
            "id": account.id,
            "digest": account.digest,
            "destinations": [
                {"host": d.host, "port": d.port, "cidrs": sorted(d.cidrs)} for d in sorted(set(account.destinations))
            ],
        }
        for account in sorted(accounts, key=lambda a: a.id)
    ]
    # Without a space: a Secret has room for a mebibyte.
    return json.dumps({"accounts": entries}, separators=(",", ":")) + "\n"
