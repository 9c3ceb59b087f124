"""What opens one tenant's live bucket, and nothing else: the file ``store.json`` of the Secret ``store-credentials``.

Written by the operator, read by whoever runs beside the tenant's data (docs/assistant-contract.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

FILE = "store.json"


@dataclass(frozen=True, slots=True)
class S3Keys:
    """Keys of S3. ``session_token`` and ``expires_at`` are there where they are short-lived."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class GoogleToken:
    """A bearer token of Cloud Storage."""

    access_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class GoogleKey:
    """A service account's key, for development."""

    info: dict[str, str] = field(repr=False)
    expires_at: None = None


LiveCredentials = S3Keys | GoogleToken | GoogleKey


def parse(content: bytes) -> LiveCredentials:
    """The file's meaning. Raises ValueError, which quotes nothing of it."""
    try:
        found = json.loads(content)
    except ValueError:
        raise ValueError("the store's credentials are no JSON") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) and value for value in found.values()):
        raise ValueError("the store's credentials are no object of texts")
    match found:
        case {"accessKeyId": key, "secretAccessKey": secret, "sessionToken": token, "expiresAt": end}:
            return S3Keys(key, secret, token, _time(end))
        case {"accessKeyId": key, "secretAccessKey": secret} if not found.keys() & {"sessionToken", "expiresAt"}:
            return S3Keys(key, secret)
        case {"accessToken": token, "expiresAt": end}:
            return GoogleToken(token, _time(end))
        case {"type": "service_account"}:
            return GoogleKey(found)
    raise ValueError("the store's credentials are of no known kind")


def render(credentials: S3Keys | GoogleToken) -> bytes:
    """The file of short-lived credentials."""
    if credentials.expires_at is None:
        raise ValueError("only credentials that end are written here")
    made: dict[str, Any] = {"expiresAt": credentials.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    if isinstance(credentials, S3Keys):
        made |= {
            "accessKeyId": credentials.access_key_id,
            "secretAccessKey": credentials.secret_access_key,
            "sessionToken": credentials.session_token,
        }
    else:
        made |= {"accessToken": credentials.access_token}
    return json.dumps(made, sort_keys=True).encode()


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expiresAt is no time of RFC 3339") from None
    if found.tzinfo is None:
        raise ValueError("expiresAt names no time zone")
    return found
