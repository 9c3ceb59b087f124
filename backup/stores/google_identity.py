"""Google's tokens for a projected token of the cluster's, by exchange alone: no metadata server, no other file.

Sources: AIP-4117; RFC 8693; Security Token Service API v1 (token), IAM Service Account Credentials API v1
(generateAccessToken). google-auth's own class asks a global host for regional access boundaries beside each request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import requests
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError, TransportError
from google.auth.transport.requests import Request

from domicile.backup.stores import way_out
from domicile.backup.stores.accounts import Account
from domicile.backup.stores.deadlines import Deadlines

_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
_EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": _ACCESS_TOKEN,
}
DEFAULT_SECONDS = 3600


class Federated(Credentials):
    """Credentials of google-auth for a checked external account (``accounts.load``)."""

    def __init__(self, account: Account, scopes: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._account = account
        self._scopes = tuple(scopes)

    def refresh(self, request: Any) -> None:
        """Exchange the projected token. Raises RefreshError, TransportError."""
        url = self._account.get("service_account_impersonation_url")
        if url is None:
            token, end = exchanged(self._account, self._scopes, request)
        else:
            token, end = impersonated(self._account, url, self._scopes, DEFAULT_SECONDS, request)
        # google-auth counts in UTC without saying so.
        self.token, self.expiry = token, end.replace(tzinfo=None)


class Given(Credentials):
    """A token that somebody else renews, by another file."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = token

    def refresh(self, request: Any) -> None:  # noqa: ARG002 - google-auth's
        """Raises RefreshError."""
        raise RefreshError("the token is not taken any more, and the next one comes by file")


def asking(deadlines: Deadlines) -> Any:
    """What sends google-auth's requests for tokens: short deadlines, no retries of its own, no redirects."""
    session = requests.Session()
    way_out.equip(session)
    return partial(Request(session), timeout=deadlines.read, allow_redirects=False)


def exchanged(account: Account, scopes: Sequence[str], request: Any) -> tuple[str, datetime]:
    """A token of the workload itself, and its end (UTC). Raises RefreshError, TransportError."""
    form = {
        **_EXCHANGE,
        "audience": account["audience"],
        "scope": " ".join(scopes),
        "subject_token": _projected(account),
        "subject_token_type": account["subject_token_type"],
    }
    now = datetime.now(UTC)
    answer = _post(request, account["token_url"], _form(form), {"Content-Type": "application/x-www-form-urlencoded"})
    try:
        return str(answer["access_token"]), now + timedelta(seconds=int(answer["expires_in"]))
    except (KeyError, TypeError, ValueError):
        raise RefreshError("Google's STS answered without a token") from None


def impersonated(account: Account, url: str, scopes: Sequence[str], seconds: int, request: Any) -> tuple[str, datetime]:
    """A service account's token, and its end (UTC). Raises RefreshError, TransportError."""
    own, _ = exchanged(account, [_PLATFORM], request)
    body = json.dumps({"scope": list(scopes), "lifetime": f"{seconds}s"}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {own}"}
    answer = _post(request, url, body, headers)
    try:
        return str(answer["accessToken"]), datetime.fromisoformat(answer["expireTime"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        raise RefreshError("Google's IAM answered without a token") from None


def downscoped(account: Account, token: str, boundary: dict[str, Any], request: Any) -> str:
    """The token with a Credential Access Boundary; it ends when ``token`` does. Raises RefreshError, TransportError."""
    form = {
        **_EXCHANGE,
        "subject_token": token,
        "subject_token_type": _ACCESS_TOKEN,
        # Encoded by themselves, as google-auth sends them.
        "options": quote(json.dumps(boundary)),
    }
    answer = _post(request, account["token_url"], _form(form), {"Content-Type": "application/x-www-form-urlencoded"})
    try:
        return str(answer["access_token"])
    except KeyError:
        raise RefreshError("Google's STS answered without a token") from None


def _projected(account: Account) -> str:
    try:
        return Path(account["credential_source"]["file"]).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise RefreshError("the projected token can't be read") from None


def _form(fields: dict[str, str]) -> bytes:
    return urlencode(fields).encode()


def _post(request: Any, url: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    response = request(url=url, method="POST", headers=headers, body=body)
    if response.status != 200:
        told = f"{urlsplit(url).hostname} answered HTTP {response.status}"
        raise (TransportError if response.status in {408, 429} or response.status >= 500 else RefusedError)(told)
    try:
        answer = json.loads(response.data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise TransportError(f"{urlsplit(url).hostname} answered with no JSON object")
    return answer


class RefusedError(RefreshError):
    """The exchange was refused: the same again changes nothing."""
