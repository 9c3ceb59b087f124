"""The four well-known vendors: a provider of each as a tenant's spec has it, and the discovery document it publishes.

The documents are written after the vendors' documentation; the modules of the profiles name the pages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from domicile.api.sso import IdentityProvider

Object = dict[str, Any]

TENANT = "11111111-2222-3333-4444-555555555555"
_CLIENT = {"clientId": "c", "clientSecret": "login"}
_LOCAL = {"mode": "local"}
PROVIDERS: dict[str, Object] = {
    "google": {"google": {**_CLIENT, "hostedDomain": "bank.example"}, "mfa": _LOCAL},
    "entra": {
        "entra": {**_CLIENT, "tenantId": TENANT},
        "mfa": {"mode": "upstream", "claim": "acrs", "values": ["c2", "c1"]},
    },
    "okta": {
        "okta": {**_CLIENT, "domain": "bank.okta.com"},
        "mfa": {"mode": "upstream", "claim": "amr", "values": ["mfa"]},
    },
    "okta-custom": {"okta": {**_CLIENT, "domain": "bank.okta.com", "authorizationServer": "default"}, "mfa": _LOCAL},
    "onelogin": {"oneLogin": {**_CLIENT, "subdomain": "bank"}, "mfa": _LOCAL},
}


def provider(vendor: str, **changes: Any) -> IdentityProvider:
    """One of PROVIDERS, with changes."""
    return IdentityProvider.model_validate({"name": vendor, **PROVIDERS[vendor], **changes})


def document(vendor: str) -> Object:
    """Its discovery document."""
    read: Object = json.loads((Path(__file__).parent / "discovery" / f"{vendor}.json").read_text())
    return read
