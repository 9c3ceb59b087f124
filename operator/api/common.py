"""What every resource of the API group shares: the model base, kinds, labels, annotations and name patterns."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "domicile.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "domicile"
FINALIZER = f"{GROUP}/tenant"
FINALIZER_RESTORE = f"{GROUP}/restore"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_TENANT = f"{GROUP}/tenant"
LABEL_TENANT_ID = f"{GROUP}/tenant-id"
LABEL_ZONE = f"{GROUP}/zone"
LABEL_JURISDICTION = f"{GROUP}/jurisdiction"
LABEL_REGION = "topology.kubernetes.io/region"
LABEL_TOPOLOGY_ZONE = "topology.kubernetes.io/zone"
MANAGED_BY = "domicile"

ANNOTATION_RECONCILE = f"reconcile.{GROUP}/requested-at"
ANNOTATION_REPLICATE = f"replicate.{GROUP}/requested-at"
ANNOTATION_END_SESSIONS = f"sso.{GROUP}/end-sessions-requested-at"
ANNOTATION_ACCEPT_CHANGE = f"replicate.{GROUP}/accept-change"


class Model(BaseModel):
    """Immutable, camelCase on the wire, unknown fields refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True
    )

    def to_wire(self) -> dict[str, Any]:
        """The object as the API server stores it: camelCase, absent where None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Dated(Model):
    """A person's word, which counts from one day on and until before another."""

    if TYPE_CHECKING:
        attested_on: date
        expires_on: date

    def counts(self, today: date) -> bool:
        """Whether it does on this day (UTC)."""
        return self.attested_on <= today < self.expires_on


# 40 characters leave room for the suffixes of child names within the 63 of a DNS label.
DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]
BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$", min_length=3, max_length=63)]
Region = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)+$", min_length=3, max_length=40)]

# Pattern of a port that may follow a host: from 1 to 65535.
PORT = "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"


def cel(rule: str, message: str) -> dict[str, str]:
    """One ``x-kubernetes-validations`` entry."""
    return {"rule": rule, "message": message}


def validations(*rules: dict[str, str], **extra: Any) -> dict[str, Any]:
    """``json_schema_extra`` that carries CEL rules and other ``x-kubernetes-*`` keys into the CRD."""
    return {"x-kubernetes-validations": list(rules), **extra}


def list_map(*keys: str) -> dict[str, Any]:
    """``json_schema_extra`` of a list whose entries merge by key under server-side apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


CERTIFICATES = r"^(-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----[ \r\n]*)+$"
"""Pattern of certificates as PEM, and nothing else."""
LIST_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
LIST_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
IMMUTABLE = cel("self == oldSelf", "is immutable; create a new object instead")

_OWN_SECRETS = ("store-credentials", "front-door", "gateway", "egress", "way-out", "door-way-out")
_OWN_SUFFIX = "-pods-tls"
_OURS = f"({{0}} in {list(_OWN_SECRETS)} || {{0}}.endsWith('{_OWN_SUFFIX}'))"
_OURS_TOLD = f"{', '.join(_OWN_SECRETS)} and *{_OWN_SUFFIX} are the operator's own Secrets, of one site"
NOT_OURS = cel(f"!{_OURS.format('self')}", _OURS_TOLD)
NONE_OF_OURS = cel(f"!self.exists(s, {_OURS.format('s')})", _OURS_TOLD)


def is_own_secret(name: str) -> bool:
    """Whether a Secret of that name in a tenant's namespace is the operator's own."""
    return name in _OWN_SECRETS or name.endswith(_OWN_SUFFIX)
