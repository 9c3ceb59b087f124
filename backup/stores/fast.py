"""Reading objects at a tenth of the clouds' clients' cost, by obstore (Rust's object_store).

Optimistic: it serves what it does exactly and answers None to everything else, and the caller asks the cloud's own
client, which retries, translates errors and knows every name. obstore would look for ``dir/`` and ``/lead`` under other
names and can't address ``a//b`` (object_store's ``Path``), so only plain names come this way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import obstore
from google.auth.transport.requests import Request
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import GCSStore, S3Store

from domicile.backup.stores.base import ChangedError
from domicile.backup.stores.deadlines import Deadlines

_SEGMENT = r"(?!\.\.?(?:/|$))[A-Za-z0-9_.=-]+"
_PLAIN = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
# One try: what fails is tried again by the careful client, under the caller's own deadlines and jitter.
# google-auth and botocore renew what runs out within less than that.
_ASK_AGAIN = timedelta(minutes=2)
_ONCE: Any = {"max_retries": 0}


def _client(deadlines: Deadlines, endpoint: str) -> Any:
    return {
        "connect_timeout": timedelta(seconds=deadlines.connect),
        "timeout": timedelta(seconds=deadlines.connect + deadlines.read),
        "allow_http": endpoint.startswith("http://"),
        "http1_only": True,
    }


def is_plain(name: str) -> bool:
    """Whether every client and URL library keeps the name as it is."""
    return _PLAIN.fullmatch(name) is not None


class FastBucket:
    """Plain names of one bucket. Thread-safe."""

    def __init__(self, name: str, store: S3Store | GCSStore, pin: str) -> None:
        self._name = name
        self._store = store
        self._pin = pin

    def read(self, name: str, version: str | None, start: int, length: int | None) -> bytes | None:
        """The bytes, or None where the careful client has to be asked. Raises ChangedError."""
        if not is_plain(name) or length == 0 or (length is None and start):
            return None
        options: dict[str, Any] = {}
        if version is not None:
            options[self._pin] = f'"{version}"' if self._pin == "if_match" else version
        if length is not None:
            options["range"] = (start, start + length)
        try:
            found = obstore.get(self._store, name, options=cast(Any, options))
            served = found.meta["version"] if self._pin == "version" else found.meta["e_tag"]
            if version is not None and (served or "").strip('"') != version:
                return None
            return found.bytes().to_bytes()
        except PreconditionError:
            raise ChangedError(f"bucket {self._name}: an object has changed") from None
        except (BaseError, OSError):
            return None


def s3(bucket: str, endpoint: str, region: str, keys: Any, deadlines: Deadlines, *, path_style: bool) -> FastBucket:
    """A bucket of an S3 store; ``keys`` are botocore's credentials, which renew themselves."""

    def credentials() -> Mapping[str, Any]:
        found = keys.get_frozen_credentials()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            # botocore renews what runs out; it only has to be asked again.
            "expires_at": datetime.now(UTC) + _ASK_AGAIN if found.token else None,
        }

    store = S3Store(
        bucket,
        endpoint=endpoint,
        region=region,
        virtual_hosted_style_request=not path_style,
        credential_provider=cast(Any, credentials),
        client_options=_client(deadlines, endpoint),
        retry_config=_ONCE,
    )
    return FastBucket(bucket, store, "if_match")


def gcs(bucket: str, endpoint: str, keys: Any, deadlines: Deadlines) -> FastBucket:
    """A bucket of Cloud Storage; ``keys`` are google-auth's credentials, which renew themselves, or None: anonymous."""

    def token() -> Mapping[str, Any]:
        if not keys.valid:
            keys.refresh(Request())
        return {"token": keys.token, "expires_at": datetime.now(UTC) + _ASK_AGAIN}

    store = GCSStore(
        bucket,
        base_url=endpoint,
        credential_provider=cast(Any, token) if keys else None,
        skip_signature=keys is None,
        client_options=_client(deadlines, endpoint),
        retry_config=_ONCE,
    )
    return FastBucket(bucket, store, "version")
