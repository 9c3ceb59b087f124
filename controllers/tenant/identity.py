"""Whose word an assistant takes for who asks: keys of the tenant's realm or issuer (docs/assistant-contract.md). Pure.

The assistants get them as a file, so that their pods need no way to the identity server.
"""

from __future__ import annotations

import json
from typing import Any

from domicile.api.common import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_TENANT, LABEL_ZONE
from domicile.api.sso import ExternalIssuer
from domicile.api.tenant import Assistant
from domicile.controllers.realm.desired import CLIENT
from domicile.controllers.realm.flows import MFA
from domicile.controllers.realm.providers import grant
from domicile.controllers.tenant.view import TenantView

Object = dict[str, Any]

CONFIG = "identity"
_FILE = "identity.json"
_MOUNT = "/etc/assistant-identity"
ENV = {"ASSISTANT_IDENTITY": f"{_MOUNT}/{_FILE}"}
MOUNT: Object = {"name": CONFIG, "mountPath": _MOUNT, "readOnly": True}


def volume(assistant: Assistant) -> Object:
    """The assistant's own file. Without it no pod starts: an assistant that knows no keys could only refuse."""
    items = [{"key": f"{assistant.name}.json", "path": _FILE}]
    return {"name": CONFIG, "configMap": {"name": CONFIG, "items": items, "defaultMode": 0o444, "optional": False}}


def config_map(view: TenantView) -> Object | None:
    """The ConfigMap with the issuer's keys, a file for each assistant.

    None while they are not known, and then the one that is there stays.
    """
    document = _of_issuer(view, view.external) if view.external else _of_realm(view)
    if view.spec.access.sso is None or document is None:
        return None
    labels = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: view.name, LABEL_ZONE: view.spec.zone}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG, "namespace": view.name, "labels": labels},
        "data": {f"{a.name}.json": _text(document, a) for a in view.spec.assistants},
    }


def _text(document: Object, assistant: Assistant) -> str:
    public = sorted(f"{rule.prefix}/" for rule in assistant.paths if rule.public)
    return json.dumps(document | {"public": public}, indent=1, sort_keys=True)


def _of_realm(view: TenantView) -> Object | None:
    if view.realm is None or not view.realm.keys:
        return None
    return {
        "issuer": view.realm.issuer,
        "audience": CLIENT,
        "acr": MFA,
        "jwks": {"keys": [dict(key) for key in view.realm.keys]},
    }


def _of_issuer(view: TenantView, external: ExternalIssuer) -> Object | None:
    if view.issuer is None or not view.issuer.keys:
        return None
    return {
        "issuer": external.issuer,
        "audience": external.client_id,
        # Without acr an assistant that knows nothing of mfa and roles lets nobody in.
        "mfa": {"claim": external.mfa.claim, "values": sorted(external.mfa.values)},
        "roles": {"claim": external.groups_claim, "of": roles_of(external)},
        "jwks": {"keys": [dict(key) for key in view.issuer.keys]},
    }


def roles_of(external: ExternalIssuer) -> dict[str, list[str]]:
    """The roles that each value of the issuer's claim means, as a realm would write them into its tokens."""
    found: dict[str, set[str]] = {}
    for mapping in external.role_mappings:
        found.setdefault(mapping.group, set()).update((mapping.role.value, *(grant(a) for a in mapping.assistants)))
    return {group: sorted(roles) for group, roles in sorted(found.items())}
