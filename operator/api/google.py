"""Keys of Google's that are no secret to send but one to get tokens by: a service account's, or a federated identity.

Formats: a service-account key, and the configuration of workload identity federation (AIP-4117).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

_AUDIENCE: Final = re.compile(
    r"//iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+",
    re.ASCII,
)


class ServiceAccount(NamedTuple):
    """Who signs for its own tokens."""

    email: str
    key_id: str
    private_key: str
    """PEM."""


class Federated(NamedTuple):
    """Who shows a token of the cluster's."""

    audience: str

    @property
    def subject_audience(self) -> str:
        """For whom the cluster's token is made out."""
        return f"https:{self.audience}"


def read(text: str) -> ServiceAccount | Federated:
    """The key. Raises ValueError saying what is wrong, and nothing of what it holds."""
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    match held:
        case {"type": "service_account", "client_email": str(email), "private_key": str(key)}:
            return ServiceAccount(email, str(held.get("private_key_id", "")), key)
        case {"type": "external_account"} if "service_account_impersonation_url" in held:
            raise ValueError("it acts as a service account: grant what is needed to the federated principal itself")
        case {"type": "external_account", "audience": str(audience)} if _AUDIENCE.fullmatch(audience):
            return Federated(audience)
        case {"type": "service_account" | "external_account"}:
            raise ValueError("it lacks client_email and private_key, or has no audience of a workload identity pool")
    raise ValueError("its type is neither service_account nor external_account")


def compact(text: str) -> str | None:
    """A key on one line; None where it is no JSON object."""
    try:
        held: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return json.dumps(held) if isinstance(held, dict) else None
