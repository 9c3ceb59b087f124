"""Whether people with an account of the tenant's own can show that their address is theirs: EmailVerifiable."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView

_OTHERS = "Until then only accounts log in whose address an administrator of the realm has marked as verified."


def no_own_accounts(view: TenantView) -> Verdict | None:
    """Addresses of other people are the matter of those who vouch for them."""
    if view.spec.access.sso is not None and view.spec.access.sso.local_users:
        return None
    return Verdict(ConditionType.EMAIL_VERIFIABLE, "True", "NotAskedFor", "The tenant has no accounts of its own.")


def mail_server_named(view: TenantView) -> Verdict | None:
    """The identity server hands in its mail somewhere."""
    identity = view.zone.spec.identity if view.zone else None
    if identity is not None and identity.mail is not None:
        return None
    return no(
        ConditionType.EMAIL_VERIFIABLE,
        "NoMailServer",
        f"Zone {view.spec.zone} names no mail server: add spec.identity.mail to the ResidencyZone. {_OTHERS}",
    )


def realm_asked(view: TenantView) -> Verdict | None:
    """What the realm does not know yet it can't use."""
    if view.realm is not None and view.realm.error is None:
        return None
    why = "Not known while SSOConfigured is not True."
    return Verdict(ConditionType.EMAIL_VERIFIABLE, "Unknown", "AwaitingRealm", why)


def mail_taken(view: TenantView) -> Verdict | None:
    """The mail server takes mail from the zone's sender."""
    if view.realm is None or view.realm.mail is None:
        return None
    reason, told = view.realm.mail
    return no(ConditionType.EMAIL_VERIFIABLE, reason, f"{told} {_OTHERS}")


def mail_fine(_: TenantView) -> Verdict:
    """Links can be sent."""
    return Verdict(
        ConditionType.EMAIL_VERIFIABLE, "True", "Verifiable", "The mail server took the operator's login and sender."
    )


RULES: tuple[Rule, ...] = (no_own_accounts, mail_server_named, realm_asked, mail_taken, mail_fine)
