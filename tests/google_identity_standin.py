"""A stand-in for Google's token exchange and service-account impersonation: strict, in memory, opaque tokens.

Written from the discovery documents of the Security Token Service API v1 and the IAM Service Account Credentials API
v1.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

PROVIDER = "//iam.googleapis.com/projects/1234567/locations/global/workloadIdentityPools/clusters/providers/cluster-one"
_GENERATE = re.compile(r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken")
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


class RefusedError(Exception):
    """An answer with an error."""


@dataclass
class Issued:
    """One token: whose, until when, and the one boundary it may have."""

    principal: str
    end: datetime
    boundary: dict[str, Any] | None = None


@dataclass
class GoogleIdentity:
    """``workloads``: projected tokens and their subjects; ``accounts``: what accounts each subject may become."""

    workloads: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, set[str]] = field(default_factory=dict)
    most_seconds: int = 3600
    tokens: dict[str, Issued] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    issued: Callable[[str, Issued], None] = lambda *_: None
    status: int = 0

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """HTTP status and JSON of one POST; ``status`` other than 0 is what everybody gets."""
        if self.status:
            return self.status, {"location": "https://elsewhere.example/", "error": "asked for"}
        try:
            if path == "/v1/token":
                form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
                self.asked.append((path, form))
                return 200, self._token(form)
            if match := _GENERATE.fullmatch(path):
                self.asked.append((path, json.loads(body)))
                return 200, self._generate(match[1], authorization.removeprefix("Bearer "), json.loads(body))
        except RefusedError as error:
            return 400, {"error": "invalid_request", "error_description": str(error)}
        return 404, {"error": "not_found"}

    def _token(self, form: dict[str, str]) -> dict[str, Any]:
        if form["grant_type"] != _EXCHANGE or form["requested_token_type"] != _ACCESS_TOKEN:
            raise RefusedError("grant or requested token")
        if form["subject_token_type"] == _ACCESS_TOKEN:
            return {"access_token": self._bounded(form["subject_token"], json.loads(unquote(form["options"])))}
        if form["audience"] != PROVIDER or form["subject_token"] not in self.workloads or not form["scope"]:
            raise RefusedError(f"no such audience, token or scope: {form['subject_token']}")
        end = datetime.now(UTC) + timedelta(hours=1)
        return {
            "access_token": self._issue(Issued(self.workloads[form["subject_token"]], end)),
            "issued_token_type": _ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": 3600,
        }

    def _bounded(self, token: str, options: dict[str, Any]) -> str:
        source = self._known(token)
        if source.boundary is not None:
            raise RefusedError("the token has a boundary already")
        [rule] = options["accessBoundary"]["accessBoundaryRules"]
        return self._issue(Issued(source.principal, source.end, rule))

    def _generate(self, email: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        source, seconds = self._known(token), int(body["lifetime"].removesuffix("s"))
        if email not in self.accounts.get(source.principal, set()) or not body["scope"]:
            raise RefusedError("the caller may not become that account")
        if seconds > self.most_seconds:
            raise RefusedError("lifetime")
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        return {"accessToken": self._issue(Issued(email, end)), "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def _known(self, token: str) -> Issued:
        if token not in self.tokens:
            raise RefusedError("no such token")
        return self.tokens[token]

    def _issue(self, made: Issued) -> str:
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self.tokens[token] = made
        self.issued(token, made)
        return token
