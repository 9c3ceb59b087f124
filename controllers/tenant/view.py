"""What a reconcile knows: everything that was gathered, as plain values. Policies and builders see nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from domicile.api.sites import ServedZone
from domicile.api.sso import ExternalIssuer
from domicile.api.tenant import AssistantTenantSpec, AssistantTenantStatus, CommitStatus, Role
from domicile.api.zone import ApprovedIssuer
from domicile.controllers.issuer.state import IssuerState
from domicile.controllers.realm.state import RealmState


class Ownership(StrEnum):
    """Whose the tenant's namespace is."""

    ABSENT = "absent"
    OURS = "ours"
    FOREIGN = "foreign"


class Standing(StrEnum):
    """Result of the residency checks of the stores involved."""

    COMPLIANT = "compliant"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Platform:
    """The operator's own surroundings, as far as tenants' objects name them."""

    namespace: str
    image: str
    image_pull_policy: str
    sites: tuple[str, ...]
    door_image: str
    gateway_image: str
    outside: tuple[tuple[str, int], ...] = ()
    """Hosts and ports that no tenant's pods may reach, to try it."""
    goes_out: bool = False
    """Whether stores are reached through the site's way out."""

    @property
    def lease_url(self) -> str:
        """Base URL of the site's lease agent."""
        return f"https://domicile-lease.{self.namespace}.svc"


@dataclass(frozen=True)
class Residency:
    """Verdict on the stores of the tenant's sites, with one sentence for each thing that isn't verified."""

    standing: Standing
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimView:
    """The highest claim. ``opened``: its holder marked itself ready; ``everywhere``: every control bucket has it."""

    number: int
    holder: str | None
    stands: bool
    opened: bool
    everywhere: bool


@dataclass(frozen=True)
class Workload:
    """One assistant's Deployment as observed; ``trouble`` is the first pod's waiting reason and message, if any."""

    ready: int
    updated: bool
    trouble: tuple[str, str] | None = None


@dataclass(frozen=True)
class Run:
    """One run of a check of what pods reach: when it ended, the names of what was reached, and when it began.

    ``finished``: None while it is under way. ``reached``: None where it didn't say.
    """

    finished: datetime | None = None
    reached: frozenset[str] | None = None
    started: datetime | None = None


@dataclass(frozen=True)
class Proof:
    """What the peer last showed of the tenant's key: until when that counts (None: nothing yet), or what is wrong."""

    until: datetime | None = None
    fault: str | None = None


@dataclass(frozen=True)
class DoorSecrets:
    """What only the tenant's front door at this site and the identity server know."""

    client_secret: str
    passphrase: str


@dataclass(frozen=True)
class Certificate:
    """The front door's certificate: until when it counts, and what is wrong with it, as reason and in words.

    ``late``: it still counts, and should have been renewed by now.
    """

    until: datetime | None
    fault: tuple[str, str] | None = None
    late: bool = False


@dataclass(frozen=True)
class Issuance:
    """What cert-manager says of the front door's certificate: ``words`` where it is not as wanted, else empty.

    ``installed``: the cluster knows its kinds. ``asked``: there is a Certificate of ours.
    """

    installed: bool
    asked: bool = False
    words: str = ""


@dataclass(frozen=True)
class LiveAccess:
    """Credentials of the live bucket that end: the file, when they were minted and end; ``fault``: why no newer ones.

    ``content`` is None where there are none that still count.
    """

    content: bytes | None = field(default=None, repr=False)
    issued: datetime | None = None
    end: datetime | None = None
    fault: str | None = None


@dataclass(frozen=True)
class TenantView:
    """One tenant at one moment, as this site sees it."""

    name: str
    generation: int
    spec: AssistantTenantSpec
    status: AssistantTenantStatus
    platform: Platform
    now: datetime
    created: datetime
    known_zones: tuple[str, ...] = ()
    zone: ServedZone | None = None
    zone_sites: tuple[str, ...] = ()
    namespace: Ownership = Ownership.ABSENT
    missing_secrets: tuple[str, ...] = ()
    copied_secrets: tuple[str, ...] = ()
    mirrored_secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nodes_in_region: int = 0
    residency: Residency = Residency(Standing.UNKNOWN)
    tenant_id: str | None = None
    claim: ClaimView | None = None
    storage_error: str | None = None
    peer_error: str | None = None
    live_bucket: str | None = None
    live_credentials: bytes | None = field(default=None, repr=False)
    live_access: LiveAccess | None = None
    key_error: str | None = None
    key_id: str | None = None
    lease_refusal: str | None = None
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    policies_missing: tuple[str, ...] = ()
    policies_foreign: tuple[str, ...] = ()
    by_name: tuple[str, ...] | None = None
    """The tenant's own Cilium policies that are there; None where the cluster doesn't know the kind."""
    refusal: str | None = None
    last_commit: CommitStatus | None = None
    replica_error: tuple[str, str] | None = None
    replication_failure: tuple[str, str] | None = None
    volumes: tuple[str, ...] = ()
    restoring: str | None = None
    peer_proof: Proof | None = None
    door: DoorSecrets | None = None
    certificate: Certificate | None = None
    issuance: Issuance | None = None
    sessions_password: str | None = None
    identity_authorities: str = ""
    provider_secrets: Mapping[str, str | None] = field(default_factory=dict)
    secret_versions: Mapping[str, str] = field(default_factory=dict)
    realm: RealmState | None = None
    issuer: IssuerState | None = None
    model_keys: Mapping[str, str | None] = field(default_factory=dict)
    service_keys: Mapping[str, str | None] = field(default_factory=dict)
    vault_key: bytes | None = None
    vault_password: str | None = None
    runs: Mapping[str, Run] = field(default_factory=dict)
    check_refusal: str | None = None
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of Services, by their names in the cluster, as far as ``names`` asks for them."""

    @property
    def external(self) -> ExternalIssuer | None:
        """The issuer of somebody else's that people log in at, if it is one."""
        return self.spec.access.sso.external if self.spec.access.sso else None

    @property
    def approved_issuer(self) -> ApprovedIssuer | None:
        """What the zone says of that issuer, if it says anything."""
        known = self.zone.spec.external_issuers if self.zone and self.external else []
        return next((i for i in known if self.external and i.issuer == self.external.issuer), None)

    @property
    def live_identity(self) -> str | None:
        """What the credentials of the live bucket are minted from, if they are."""
        return self.zone.own.live_identity if self.zone else None

    @property
    def has_store_secret(self) -> bool:
        """Whether pods mount what opens the live bucket; it may be empty for a while where it is minted."""
        return self.live_credentials is not None or self.live_identity is not None

    @property
    def home_site(self) -> str | None:
        """Site where the tenant starts."""
        if self.zone is None:
            return None
        return self.spec.home_site or self.zone.spec.sites[0].name

    @property
    def role(self) -> Role:
        """Active where this site holds a standing claim that it opened, else Standby."""
        ours = self.zone is not None and self.claim is not None and self.claim.holder == self.zone.site
        return Role.ACTIVE if ours and self.claim and self.claim.stands and self.claim.opened else Role.STANDBY
