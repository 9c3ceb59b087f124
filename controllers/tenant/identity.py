"""Whose word an assistant takes for who asks: the keys of the tenant's realm (docs/assistant-contract.md). Pure.

The assistants get them as a file, so that their pods need no way to the identity server.
"""

from __future__ import annotations

import json
from typing import Any

from domicile.api.common import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_TENANT, LABEL_ZONE
from domicile.controllers.realm.desired import CLIENT
from domicile.controllers.realm.flows import MFA
from domicile.controllers.tenant.view import TenantView

Object = dict[str, Any]

CONFIG = "identity"
_FILE = "identity.json"
_MOUNT = "/etc/assistant-identity"
ENV = {"ASSISTANT_IDENTITY": f"{_MOUNT}/{_FILE}"}
MOUNT: Object = {"name": CONFIG, "mountPath": _MOUNT, "readOnly": True}
# Without the file no pod starts: an assistant that knows no keys could only refuse.
VOLUME: Object = {"name": CONFIG, "configMap": {"name": CONFIG, "defaultMode": 0o444, "optional": False}}


def config_map(view: TenantView) -> Object | None:
    """The ConfigMap with the realm's keys; None while they are not known, and then the one that is there stays."""
    if view.spec.access.sso is None or view.realm is None or not view.realm.keys:
        return None
    document = {
        "issuer": view.realm.issuer,
        "audience": CLIENT,
        "acr": MFA,
        "jwks": {"keys": [dict(key) for key in view.realm.keys]},
        "public": [],
    }
    labels = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_TENANT: view.name, LABEL_ZONE: view.spec.zone}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG, "namespace": view.name, "labels": labels},
        "data": {_FILE: json.dumps(document, indent=1, sort_keys=True)},
    }
