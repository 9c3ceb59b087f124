"""Notice and consents as objects of the cluster: what the guards of a tenant's assistants are told. Pure."""

from __future__ import annotations

from domicile.api import live_credentials
from domicile.api.guard import GuardConsents
from domicile.controllers.tenant.parts import Object, labels_of, named
from domicile.controllers.tenant.view import TenantView

NAME = "consents"
_FILE = "consents.json"
_MOUNT = "/etc/domicile/consents"
_STORE = "/etc/domicile/store"
MEMORY = "256Mi"
"""Of a guard that has a store's client."""


def config_map(view: TenantView) -> Object | None:
    """What the guards are told; None where the tenant asks for no consent."""
    if view.spec.consent is None or view.zone is None or view.live_bucket is None:
        return None
    told = GuardConsents(consent=view.spec.consent, site=view.zone.own, bucket=view.live_bucket)
    text = told.model_dump_json(by_alias=True, exclude_none=True, indent=1)
    return named("v1", "ConfigMap", view.name, NAME, labels_of(view)) | {"data": {_FILE: text}}


def env(view: TenantView) -> dict[str, str]:
    """The guard's variables; none where the tenant asks for no consent."""
    if view.spec.consent is None:
        return {}
    return {"DOMICILE_CONSENTS": f"{_MOUNT}/{_FILE}", "DOMICILE_STORE": _STORE}


def mounts(view: TenantView) -> list[Object]:
    """What is mounted into the guard."""
    return [
        {"name": volume["name"], "mountPath": _STORE if "secret" in volume else _MOUNT, "readOnly": True}
        for volume in volumes(view, "")
    ]


def volumes(view: TenantView, store_secret: str) -> list[Object]:
    """The file, and the live bucket's credentials, by the site's name; without them the guard lets nobody through."""
    if view.spec.consent is None or view.zone is None:
        return []
    items = [{"key": _FILE, "path": _FILE}]
    found: list[Object] = [
        {"name": NAME, "configMap": {"name": NAME, "items": items, "defaultMode": 0o444, "optional": False}}
    ]
    if view.has_store_secret:
        keys = [{"key": live_credentials.FILE, "path": f"{view.zone.site}.json"}]
        source = {"secretName": store_secret, "items": keys, "defaultMode": 0o440, "optional": True}
        found.append({"name": "consents-store", "secret": source})
    return found
