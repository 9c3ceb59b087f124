"""A key of Google Cloud KMS, by its REST API at the regional endpoint of the key's own region.

Source: Cloud KMS REST reference v1, cryptoKeys.encrypt and cryptoKeys.decrypt (checksums included); Google Cloud's list
of regional service endpoints. A ciphertext is what encrypt returns; its additional authenticated data is the canonical
JSON of the context.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import google_crc32c
import requests
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from domicile.backup.errors import WrongKeyError
from domicile.backup.kek.base import Context, KeyUnavailableError, associated, digest_of
from domicile.backup.stores import google_identity, way_out
from domicile.backup.stores.accounts import Account
from domicile.backup.stores.base import UnavailableError
from domicile.backup.stores.deadlines import Deadlines

_SCOPES = ["https://www.googleapis.com/auth/cloudkms"]


def endpoint(region: str) -> str:
    """URL of KMS in a region, whose TLS ends in that region."""
    return f"https://cloudkms.{region}.rep.googleapis.com"


def region_of(name: str) -> str:
    """The region of a key by its resource name, which the API's schema has checked."""
    return name.split("/")[3]


def session(account: Account | None, deadlines: Deadlines) -> AuthorizedSession:
    """A thread-safe HTTP session; ``account`` as ``accounts.load`` gives it.

    A service-account key signs its own tokens; an external account exchanges the projected token.
    Raises ValueError for a missing or malformed account.
    """
    if account is None:
        raise ValueError("there is no account")
    if account.get("type") == "external_account":
        credentials = google_identity.Federated(account, _SCOPES)
    else:
        known = service_account.Credentials.from_service_account_info(account, scopes=_SCOPES)
        credentials = known.with_always_use_jwt_access(True)
    renew = google_identity.asking(deadlines)
    made = AuthorizedSession(credentials, refresh_timeout=deadlines.read, auth_request=renew)
    way_out.equip(made)
    return made


class GcpKmsKey:
    """A symmetric key of Cloud KMS, by its resource name without a version."""

    def __init__(self, name: str, http: AuthorizedSession, deadlines: Deadlines) -> None:
        self._name = name
        self._http = http
        self._deadlines = deadlines

    @property
    def digest(self) -> str:
        """16 hex digits that tell this key from others."""
        return digest_of("gcp", self._name)

    def encrypt(self, plaintext: bytes, context: Context) -> bytes:
        """Ciphertext by KMS, by the key's primary version. Raises KeyUnavailableError."""
        answer = self._call("encrypt", plaintext=plaintext, additionalAuthenticatedData=associated(context))
        if not str(answer.get("name", "")).startswith(f"{self._name}/cryptoKeyVersions/"):
            raise KeyUnavailableError(f"{self._where} answered for another key than it was asked for")
        return self._checked(answer, "ciphertext")

    def decrypt(self, ciphertext: bytes, context: Context) -> bytes:
        """Plaintext by KMS, under this key and no other. Raises KeyUnavailableError, WrongKeyError."""
        answer = self._call("decrypt", ciphertext=ciphertext, additionalAuthenticatedData=associated(context))
        return self._checked(answer, "plaintext")

    @property
    def _where(self) -> str:
        return f"Cloud KMS in {region_of(self._name)}"

    def _call(self, operation: str, **fields: bytes) -> dict[str, Any]:
        # int64 is a string in Google's JSON (protobuf's JSON mapping).
        body = {name: base64.b64encode(data).decode() for name, data in fields.items()}
        body |= {f"{name}Crc32c": str(google_crc32c.value(data)) for name, data in fields.items()}

        def once() -> dict[str, Any]:
            answer = self._post(operation, body)
            # Only encrypt repeats that the checksums arrived; decrypt authenticates what it was given.
            verified = (answer.get(f"verified{name[0].upper()}{name[1:]}Crc32c") for name in fields)
            if operation == "encrypt" and not all(v is True for v in verified):
                raise UnavailableError(f"{self._where} did not confirm the checksum of the request")
            return answer

        try:
            return self._deadlines.run(once)
        except UnavailableError as error:
            raise KeyUnavailableError(str(error)) from None

    def _post(self, operation: str, body: dict[str, str]) -> dict[str, Any]:
        url = f"{endpoint(region_of(self._name))}/v1/{self._name}:{operation}"
        timeout: Any = (self._deadlines.connect, self._deadlines.read)
        try:
            response = self._http.request("POST", url, json=body, timeout=timeout, allow_redirects=False)
        except (requests.RequestException, TransportError) as error:
            raise UnavailableError(f"{self._where}: no answer ({type(error).__name__})") from None
        except GoogleAuthError as error:
            raise KeyUnavailableError(f"{self._where}: no usable credentials ({type(error).__name__})") from None
        if response.status_code != 200:
            self._refuse(operation, response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UnavailableError(f"{self._where}: the answer is no JSON object")
        return answer

    def _refuse(self, operation: str, response: requests.Response) -> None:
        # The message of KMS may quote the request; its status says enough.
        try:
            status = str(response.json()["error"]["status"])
        except (ValueError, KeyError, TypeError):
            status = ""
        where, code = self._where, response.status_code
        if code >= 500 or code in {408, 429}:
            raise UnavailableError(f"{where}: no outcome (HTTP {code} {status})")
        if operation == "decrypt" and status == "INVALID_ARGUMENT":
            raise WrongKeyError(
                f"{where} does not open this wrap: it was made with another key, for another tenant or zone, or is"
                " damaged"
            )
        raise KeyUnavailableError(
            f"{where} refuses to {operation} (HTTP {code} {status}); check that the key exists and is enabled, and that"
            f" this identity has cloudkms.cryptoKeyVersions.useTo{operation.capitalize()} on it"
        )

    def _checked(self, answer: dict[str, Any], field: str) -> bytes:
        """Bytes of a field that match the checksum beside them. Raises KeyUnavailableError."""
        try:
            data = base64.b64decode(answer[field], validate=True)
            if int(answer[f"{field}Crc32c"]) == google_crc32c.value(data):
                return data
        except (KeyError, TypeError, ValueError, binascii.Error):
            pass
        raise KeyUnavailableError(f"{self._where}: the {field} in its answer does not match its checksum; try again")
