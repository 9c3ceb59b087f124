"""Service accounts of the stand-in, what they may do, and the tokens that they get for their keys.

Source: IAM permissions for Cloud Storage; OAuth 2.0 for server-to-server applications (also self-signed JWTs).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from tests.gcs_standin.protocol import Call, operation
from tests.gcs_standin.refusal import Answer, RefusedError

if TYPE_CHECKING:
    from tests.gcs_standin.state import State

READ = frozenset({"storage.objects.get", "storage.objects.list"})
CREATE = frozenset({"storage.objects.create"})
DELETE = frozenset({"storage.objects.delete"})
DESCRIBE = frozenset({"storage.buckets.get"})
ADMIN = frozenset(
    {f"storage.objects.{verb}" for verb in ("get", "list", "create", "delete", "update", "restore")}
    | {
        f"storage.buckets.{verb}"
        for verb in ("get", "list", "create", "delete", "update", "getIamPolicy", "setIamPolicy", "relocate")
    }
    | {"storage.bucketOperations.list"}
)
ROLES = {"roles/storage.objectUser": READ | CREATE | DELETE | {"storage.objects.update", "storage.objects.restore"}}


@dataclass
class Accounts:
    """Who may do what. Without any account everybody may do everything that ``denied`` does not name."""

    state: State
    grants: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    denied: set[tuple[str, str]] = field(default_factory=set)
    lifetime: timedelta = timedelta(hours=1)
    _keys: dict[str, str] = field(default_factory=dict)
    _tokens: dict[str, tuple[str, datetime]] = field(default_factory=dict)

    def add(self, email: str, grants: Mapping[str, Iterable[str]]) -> dict[str, str]:
        """Let an account have permissions per bucket (``*``: all); returns the content of its key file."""
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._keys[email] = (
            private.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
        self.grants[email] = {bucket: frozenset(permissions) for bucket, permissions in grants.items()}
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "standin",
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": f"{self.state.url}/token",
        }

    def admit(self, token: str, email: str, end: datetime, boundary: Mapping[str, Any] | None = None) -> None:
        """Take a token that was issued elsewhere, within a Credential Access Boundary's one rule."""
        if boundary is not None:
            bucket = boundary["availableResource"].removeprefix("//storage.googleapis.com/projects/_/buckets/")
            roles = (ROLES[name.removeprefix("inRole:")] for name in boundary["availablePermissions"])
            within = frozenset(permission for role in roles for permission in role)
            own = self.grants.get(email, {})
            email = f"{email} within {bucket}"
            self.grants[email] = {bucket: (own.get(bucket, frozenset()) | own.get("*", frozenset())) & within}
        self._tokens[token] = (email, end)

    def deny(self, bucket: str, *permissions: str) -> None:
        """Take permissions on a bucket from everybody."""
        self.denied |= {(bucket, permission) for permission in permissions}

    def expire(self) -> None:
        """Let every token that was given out end now."""
        self._tokens.clear()

    def exchange(self, assertion: str) -> str:
        """A token for a signed assertion. Raises RefusedError (400)."""
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._tokens[token] = (self._signer(assertion), self.state.now() + self.lifetime)
        return token

    def caller(self, authorization: str | None) -> str | None:
        """The account behind an Authorization header; None: anonymous. Raises RefusedError (401)."""
        token = (authorization or "").removeprefix("Bearer").strip()
        if not token:
            return None
        if not self.grants:
            return None
        if token.count(".") == 2:
            try:
                return self._signer(token)
            except RefusedError:
                raise RefusedError(401, "authError", "Invalid Credentials") from None
        email, end = self._tokens.get(token, ("", self.state.now()))
        if not email or end <= self.state.now():
            raise RefusedError(401, "authError", "Invalid Credentials")
        return email

    def allowed(self, caller: str | None, bucket: str, permission: str) -> bool:
        """Whether the caller has a permission on a bucket."""
        if (bucket, permission) in self.denied:
            return False
        if not self.grants:
            return True
        granted = self.grants.get(caller or "", {})
        return permission in granted.get(bucket, frozenset()) | granted.get("*", frozenset())

    def require(self, caller: str | None, bucket: str, permission: str, what: str) -> None:
        """Raise RefusedError (401, 403) unless the caller has the permission."""
        if self.allowed(caller, bucket, permission):
            return
        who = caller or "Anonymous caller"
        message = f"{who} does not have {permission} access to the Google Cloud Storage {what}."
        message += f" Permission '{permission}' denied on resource (or it may not exist)."
        if self.grants and caller is None:
            raise RefusedError(401, "required", message, {"WWW-Authenticate": 'Bearer realm="standin"'})
        raise RefusedError(403, "forbidden", message)

    def _signer(self, assertion: str) -> str:
        try:
            email = str(jwt.decode(assertion, verify=False)["iss"])
            jwt.decode(assertion, certs=self._keys[email])
        except (ValueError, KeyError):
            raise RefusedError(400, "invalid_grant", "Invalid JWT: unknown account, signature or time") from None
        return email


@operation("oauth2.token", "POST", "/token", None)
def token(call: Call) -> Answer:
    form = parse_qs(call.body.decode())
    if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"] or len(form.get("assertion", [])) != 1:
        raise RefusedError(400, "unsupported_grant_type", "The stand-in takes one signed JWT as a grant")
    access = call.state.accounts.exchange(form["assertion"][0])
    lifetime = int(call.state.accounts.lifetime.total_seconds())
    return call.json({"access_token": access, "expires_in": lifetime, "token_type": "Bearer"})
