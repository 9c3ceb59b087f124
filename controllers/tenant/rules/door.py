"""The way in for people: the condition FrontDoorReady."""

from __future__ import annotations

from typing import Final

from domicile.api.access import Issuer
from domicile.api.conditions import ConditionType
from domicile.controllers.tenant import issuance
from domicile.controllers.tenant.front_door import NAME
from domicile.controllers.tenant.rules import pods
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView

NO_DOOR = "NotAskedFor"
# Of a condition's message (characters); cert-manager's words may be longer.
_LONGEST: Final = 1024


def no_door(view: TenantView) -> Verdict | None:
    """Without single sign-on there is none."""
    if view.spec.access.sso is not None:
        return None
    return Verdict(ConditionType.FRONT_DOOR_READY, "True", NO_DOOR, "The tenant has no front door.")


def certificate_present(view: TenantView) -> Verdict | None:
    """The door serves by TLS only."""
    tls = view.spec.access.tls
    if tls is None or view.certificate is not None:
        return None
    if tls.issuer is not None:
        return _not_issued(view, tls.issuer)
    return no(
        ConditionType.FRONT_DOOR_READY,
        "CertificateMissing",
        f"Secret {tls.secret} with tls.crt and tls.key for {view.spec.access.host} is missing in namespace {view.name}:"
        " create it, or name an issuer of cert-manager that does.",
    )


def _not_issued(view: TenantView, issuer: Issuer) -> Verdict:
    said = view.issuance
    if said is None or not issuance.wanted(view):
        return no(
            ConditionType.FRONT_DOOR_READY,
            "CertificateAwaited",
            f"The site that serves has not handed on the certificate for {view.spec.access.host} yet.",
        )
    if not said.installed:
        return no(
            ConditionType.FRONT_DOOR_READY,
            "CertManagerMissing",
            f"spec.access.tls names {issuer.kind} {issuer.name}, and this cluster does not know cert-manager's kinds:"
            " install cert-manager, or name a Secret.",
        )
    told = said.words or "it has not said anything yet; look whether it runs."
    return no(
        ConditionType.FRONT_DOOR_READY,
        "CertificateNotIssued",
        f"cert-manager has no certificate for {view.spec.access.host} yet (Certificate {issuance.NAME} in namespace"
        f" {view.name}). {told}"[:_LONGEST],
    )


def certificate_good(view: TenantView) -> Verdict | None:
    """Browsers must take the certificate."""
    if view.certificate is None or view.certificate.fault is None:
        return None
    reason, told = view.certificate.fault
    return no(ConditionType.FRONT_DOOR_READY, reason, f"Secret {_secret(view)}: {told}. {_renew(view)}"[:_LONGEST])


def _secret(view: TenantView) -> str:
    return view.spec.access.tls.secret_name if view.spec.access.tls else ""


def _renew(view: TenantView) -> str:
    """What to do about a certificate that nobody has renewed."""
    if not issuance.wanted(view) or view.issuance is None:
        return "Renew it, or look at what should have."
    if not view.issuance.installed:
        return "cert-manager is gone: install it, or name a Secret."
    return f"cert-manager should have renewed it: look at Certificate {issuance.NAME}. {view.issuance.words}".rstrip()


def door_rests(view: TenantView) -> Verdict | None:
    """At the standby there are no pods."""
    return pods.rest(view, ConditionType.FRONT_DOOR_READY, "front door")


def door_serves(view: TenantView) -> Verdict | None:
    """Its pods must be there."""
    return pods.serve(view, ConditionType.FRONT_DOOR_READY, NAME, "front door")


def certificate_renewed(view: TenantView) -> Verdict | None:
    """Who renews certificates does so in time."""
    if view.certificate is None or not view.certificate.late:
        return None
    return Verdict(
        ConditionType.FRONT_DOOR_READY,
        "True",
        "CertificateExpiresSoon",
        f"Secret {_secret(view)}: tls.crt expires soon. {_renew(view)}"[:_LONGEST],
    )


def door_fine(view: TenantView) -> Verdict:
    """People get in."""
    return Verdict(ConditionType.FRONT_DOOR_READY, "True", "Serving", f"People open https://{view.spec.access.host}.")


RULES: tuple[Rule, ...] = (
    no_door,
    certificate_present,
    certificate_good,
    door_rests,
    door_serves,
    certificate_renewed,
    door_fine,
)
