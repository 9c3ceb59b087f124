"""The front door's certificate where cert-manager is to get it: what is asked of it, and what it says. Pure.

Only the site that serves asks: two that do would use up an authority's limits, and those at the standby get the Secret
by the mirror. Kinds and conditions are those of cert-manager.io/v1 (https://cert-manager.io/docs/usage/certificate/).
"""

from __future__ import annotations

from typing import Final

from domicile.api.access import Issuer
from domicile.api.common import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_TENANT_ID
from domicile.api.tenant import Role
from domicile.controllers.tenant.parts import Object, labels_of, named
from domicile.controllers.tenant.view import Issuance, TenantView

API: Final = "cert-manager.io/v1"
KIND: Final = "Certificate"
CRD: Final = "certificates.cert-manager.io"
NAME: Final = "front-door"
# Of its life, whatever that is, a certificate has so much left when it is renewed (percent): ahead of
# certificate.py's warning.
_RENEWED_AT: Final = 40


def issuer(view: TenantView) -> Issuer | None:
    """Who is to issue the certificate, None where somebody else sees to the Secret."""
    return view.spec.access.tls.issuer if view.spec.access.tls else None


def wanted(view: TenantView) -> bool:
    """Whether there is to be a Certificate here and now."""
    return issuer(view) is not None and view.role is Role.ACTIVE and view.tenant_id is not None


def certificate(view: TenantView) -> Object:
    """The Certificate, P-256 and a new key each time. Raises ValueError where none is wanted."""
    access, by = view.spec.access, issuer(view)
    if not wanted(view) or access.tls is None or access.host is None or by is None:
        raise ValueError("a Certificate needs a host, an issuer and a site that serves")
    return named(API, KIND, view.name, NAME, labels_of(view)) | {
        "spec": {
            "secretName": access.tls.secret_name,
            # By it a later tenant of the name takes nothing of this one's, and the standby follows the mirror.
            "secretTemplate": {"labels": {LABEL_TENANT_ID: view.tenant_id}},
            "dnsNames": [access.host.partition(":")[0]],
            "issuerRef": {"name": by.name, "kind": by.kind, "group": by.group},
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["digital signature", "server auth"],
            "renewBeforePercentage": _RENEWED_AT,
            "revisionHistoryLimit": 1,
        }
    }


def of_copy(view: TenantView, secret: str) -> tuple[str, dict[str, str]]:
    """Type and annotations of a mirrored Secret: by them cert-manager goes on with a copy, and orders no other."""
    access, by = view.spec.access, issuer(view)
    if by is None or access.tls is None or access.tls.secret_name != secret:
        return "Opaque", {}
    annotations = {"issuer-name": by.name, "issuer-kind": by.kind, "issuer-group": by.group, "certificate-name": NAME}
    return "kubernetes.io/tls", {f"cert-manager.io/{key}": value for key, value in annotations.items()}


def look_at(certificate: Object | None, *, installed: bool) -> Issuance:
    """How far cert-manager is, by its conditions Ready and Issuing. ``installed``: the cluster knows the kind."""
    conditions = {c["type"]: c for c in (certificate or {}).get("status", {}).get("conditions", [])}
    issuing, ready = conditions.get("Issuing", {}), conditions.get("Ready", {})
    # Issuing says why an order failed, Ready only that there is no certificate yet.
    shown = next((c for c in (issuing, ready) if c.get("status") == "False" and c.get("reason") != "Issued"), None)
    words = f"{shown.get('reason')}: {shown.get('message')}" if shown else ""
    return Issuance(installed, ours(certificate), words)


def ours(certificate: Object | None) -> bool:
    """Whether it is there, and made by us: a person may have one of the name."""
    labels = (certificate or {}).get("metadata", {}).get("labels") or {}
    return labels.get(LABEL_MANAGED_BY) == FIELD_MANAGER
