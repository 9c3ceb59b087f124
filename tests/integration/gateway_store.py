"""The session store with a gateway's account, and what a gateway needs for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.gateway_estate import GATEWAY, TENANT, Estate
from tests.integration.session_server import STORE, Store, session_store
from tests.pods import PODS, certificates

_USER, _PASSWORD = "gateway-bank", "a-password-of-one-gateway"
_COMMANDS = ("auth", "ping", "hlen", "hmget", "hsetnx", "expire", "get", "incrby")


def _users(store: Store) -> bytes:
    """The store's accounts, and the gateway's with its own keys and no more commands than it needs."""
    digest = hashlib.sha256(_PASSWORD.encode()).hexdigest()
    allowed = " ".join(f"+{command}" for command in _COMMANDS)
    keys = f"~vault:{TENANT}:* ~budget:{TENANT}:*"
    doors = hashlib.sha256(store.password.encode()).hexdigest()
    return (
        f"user default off\nuser doors on #{doors} resetchannels ~* -@all +@all\n"
        f"user {_USER} on #{digest} resetchannels {keys} -@all {allowed}\n"
    ).encode()


@contextmanager
def gateway_store(folder: Path) -> Iterator[Store]:
    """The store; it and the gateway believe each other's authority."""
    with session_store(folder) as made:
        made.mount(made.users, {"users.acl": _users(made)})
        made.mount(made.tls, certificates(STORE, made.authority, made.authority, PODS))
        yield made


def prepare(house: Estate, store: Store, **config: Any) -> None:
    """Mount what a gateway needs for the store."""
    for name, content in certificates(GATEWAY, PODS, PODS, store.authority).items():
        (house.folder / "tls" / name).write_bytes(content)
    (house.folder / "vault" / "user").write_text(_USER)
    (house.folder / "vault" / "password").write_text(_PASSWORD + "\n")
    house.write(redis=f"localhost:{store.port}", **config)
