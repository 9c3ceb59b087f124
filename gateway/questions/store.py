"""The way to the site's redis: TLS with the pod's certificate, an account from mounted files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool, Connection
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from domicile.credentials import Credentials
from domicile.gateway.questions.refusal import RefusedError

_CONNECTIONS: Final = 32
_SECONDS: Final = 2.0


class _Account(CredentialProvider):
    """The files ``user`` and ``password`` of a folder, as they are when a connection is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_credentials(self) -> tuple[str, str]:
        """User and password. Raises OSError."""
        return (self._folder / "user").read_text().strip(), (self._folder / "password").read_text().strip()


class _Sealed(Connection):
    """A connection by certificates."""

    def __init__(self, *, credentials: Credentials, **kwargs: Any) -> None:
        self._credentials = credentials
        super().__init__(**kwargs)

    def _connection_arguments(self) -> Mapping[str, Any]:
        context = self._credentials.context()
        if context is None:
            raise OSError("there is no certificate to connect with")
        return {**super()._connection_arguments(), "ssl": context}


def connect(address: str, credentials: Credentials, account: Path) -> Redis:
    """A client; nothing is connected yet. ``address``: host:port, ``account``: folder of ``user`` and ``password``."""
    host, _, port = address.rpartition(":")
    pool = BlockingConnectionPool(
        connection_class=_Sealed,
        max_connections=_CONNECTIONS,
        timeout=_SECONDS,
        host=host,
        port=int(port),
        credentials=credentials,
        credential_provider=_Account(account),
        socket_timeout=_SECONDS,
        socket_connect_timeout=_SECONDS,
        # Nothing is sent beyond what is asked for: accounts may do no more.
        protocol=2,
        driver_info=None,
    )
    return Redis.from_pool(pool)


@contextmanager
def asking() -> Iterator[None]:
    """Raises RefusedError (503) where redis does not do what it is asked within."""
    try:
        yield
    except (RedisError, OSError, TimeoutError):
        raise RefusedError(
            503, "store_unavailable", "The store that the request needs does not answer.", retry_after=2
        ) from None
