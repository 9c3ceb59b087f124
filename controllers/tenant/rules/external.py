"""People who log in at an issuer of somebody else's: what SSOConfigured says of it."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.api.sso import ExternalIssuer
from domicile.controllers.door.door import CALLBACK
from domicile.controllers.tenant.front_door import client_secret
from domicile.controllers.tenant.rules.grants import granted_assistants_exist
from domicile.controllers.tenant.rules.verdict import Verdict, no
from domicile.controllers.tenant.view import TenantView

AWAITING = "AwaitingIssuer"


def issuer_used(view: TenantView) -> Verdict | None:
    """The whole judgement where there is an external issuer; the zone's identity server has no part in it then."""
    external = view.external
    if external is None:
        return None
    return (
        _realm_closed(view)
        or granted_assistants_exist(view)
        or _secret_usable(view, external)
        or _trusted(view)
        or _fine(view, external)
    )


def _realm_closed(view: TenantView) -> Verdict | None:
    """Before there was an issuer there may have been a realm, which must let in nobody any more."""
    error = view.realm.error if view.realm else None
    return None if error is None else no(ConditionType.SSO_CONFIGURED, *error)


def _secret_usable(view: TenantView, external: ExternalIssuer) -> Verdict | None:
    secret, key = external.secret
    if view.provider_secrets.get(external.name) is None:
        return no(
            ConditionType.SSO_CONFIGURED,
            "IssuerSecretMissing",
            f"Secret {secret} with the key {key} is missing in namespace {view.name}: create it, with what"
            f" {external.issuer} gave for client {external.client_id}.",
        )
    if client_secret(view) is None:
        return no(
            ConditionType.SSO_CONFIGURED,
            "IssuerSecretUnusable",
            f"Secret {secret}: {key} must consist of 16 to 512 letters, digits and . _ ~ + / = - only. Let the issuer"
            " make another.",
        )
    return None


def _trusted(view: TenantView) -> Verdict | None:
    if view.issuer is None:
        return Verdict(ConditionType.SSO_CONFIGURED, "Unknown", AWAITING, "The issuer was not looked at yet.")
    return None if view.issuer.error is None else no(ConditionType.SSO_CONFIGURED, *view.issuer.error)


def _fine(view: TenantView, external: ExternalIssuer) -> Verdict:
    home = f"https://{view.spec.access.host}"
    known = view.issuer.metadata if view.issuer else None
    logout = "; it offers no logout" if known and known.end_session is None else ""
    if known and known.back_channel:
        logout += f", its back-channel logout to {home}{CALLBACK}?logout=backchannel"
    return Verdict(
        ConditionType.SSO_CONFIGURED,
        "True",
        "IssuerTrusted",
        f"People log in at {external.issuer}. It redirects to {home}{CALLBACK}, after a logout to {home}/{logout}.",
    )
