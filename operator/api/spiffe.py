"""Names of the pods' accounts in certificates: SPIFFE IDs.

Source: SPIFFE-ID (trust domain and path) and X509-SVID (one URI among the subject alternative names), spiffe.io.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

TRUST_DOMAIN = "domicile"
_LABEL = "[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_ID = re.compile(rf"spiffe://{TRUST_DOMAIN}/ns/({_LABEL})/sa/({_LABEL})", re.ASCII)


class Account(NamedTuple):
    """A service account of a cluster."""

    namespace: str
    name: str


def spiffe_id(namespace: str, account: str) -> str:
    """The ID of a service account."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}"


def account_of(spiffe: str) -> Account | None:
    """The service account that an ID names; None for any other text."""
    found = _ID.fullmatch(spiffe)
    return Account(*found.groups()) if found else None


def id_in(certificate: Mapping[str, Any]) -> str | None:
    """The ID in a certificate as ``ssl`` decodes one; None unless there is exactly one URI (X509-SVID, section 2)."""
    found = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return found[0] if len(found) == 1 else None
