"""AssistantTenant: one customer's assistants, kept at home in a zone."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from domicile.api.access import Access, PathRule
from domicile.api.common import IMMUTABLE, LIST_SET, NONE_OF_OURS, DnsLabel, Model, cel, list_map, validations
from domicile.api.conditions import Conditions
from domicile.api.consent import Consent
from domicile.api.egress import Network
from domicile.api.intents import Intent, Mode
from domicile.api.privacy import PrivacyPolicy
from domicile.api.providers import Need


class Role(StrEnum):
    """What this cluster is to the tenant."""

    ACTIVE = "Active"
    STANDBY = "Standby"


class Assistant(Model):
    """One assistant of the tenant: a Deployment behind a guard."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "(has(self.mode) && self.mode == 'free') != has(self.intents)",
                "mode structured, the default, needs intents; mode free has none",
            )
        )
    )

    name: Annotated[
        DnsLabel,
        Field(
            description="Name of the assistant; people open it as https://<access.host>/<name>/.",
            json_schema_extra=validations(
                cel(
                    "!(self in ['front-door', 'gateway', 'oauth2', 'reach-check'])",
                    "front-door, gateway, oauth2 and reach-check are the operator's own names",
                )
            ),
        ),
    ]
    image: Annotated[
        str,
        Field(
            description="Image under the assistant contract (docs/assistant-contract.md).", min_length=1, max_length=512
        ),
    ]
    mode: Annotated[
        Mode,
        Field(description="structured: people may ask what intents declare, and nothing else; free: anything."),
    ] = Mode.STRUCTURED
    intents: Annotated[
        list[Intent] | None,
        Field(
            description="What people may ask in mode structured.",
            min_length=1,
            max_length=64,
            json_schema_extra=list_map("name"),
        ),
    ] = None
    replicas: Annotated[int, Field(description="Pods at the active site; the standby has none.", ge=1, le=100)] = 2
    env_secrets: Annotated[
        list[DnsLabel],
        Field(
            description="Secrets in the tenant's namespace whose keys become environment variables; mirrored sealed"
            " to the peer.",
            max_length=16,
            json_schema_extra=LIST_SET | validations(NONE_OF_OURS),
        ),
    ] = []
    paths: Annotated[
        list[PathRule],
        Field(
            description="Paths that need other roles than the assistant's own, or none.",
            max_length=32,
            json_schema_extra=list_map("prefix"),
        ),
    ] = []
    pod_template: Annotated[
        dict[str, Any],
        Field(
            description="A pod template (metadata, spec) merged into ours. Region, guard, security context and"
            " service account always win.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = {}


class ProviderShare(Model):
    """One provider of the tenant's pool."""

    name: Annotated[DnsLabel, Field(description="Name of a provider in the zone's modelProviders.")]
    weight: Annotated[
        int, Field(description="Its share of the questions; 0: only where the others fail.", ge=0, le=100)
    ] = 1


class Budget(Model):
    """What the tenant may ask for in a day (UTC)."""

    requests_per_day: Annotated[int | None, Field(description="Questions.", ge=1)] = None
    tokens_per_day: Annotated[int | None, Field(description="Tokens, as the providers count them.", ge=1)] = None


class ModelChoice(Model):
    """Which model answers, and who runs it."""

    model: Annotated[str, Field(description="Model id, one of each provider's.", min_length=1, max_length=128)]
    providers: Annotated[
        list[ProviderShare],
        Field(
            description="Who may be asked: by weight, and where one fails the next.",
            min_length=1,
            max_length=8,
            json_schema_extra=list_map("name")
            | validations(
                cel(
                    "self.exists(p, !has(p.weight) || p.weight > 0)",
                    "one provider at least needs a weight above 0",
                )
            ),
        ),
    ]
    budget: Annotated[Budget, Field(description="What may be asked for in a day.")] = Budget()


class SnapshotRetention(Model):
    """Which snapshots are kept; the newest one always is."""

    hourly: Annotated[
        int, Field(description="Of so many hours that have a snapshot the newest one is kept.", ge=0, le=336)
    ] = 48
    daily: Annotated[
        int, Field(description="Of so many days (UTC) that have a snapshot the newest one is kept.", ge=0, le=366)
    ] = 30
    monthly: Annotated[
        int, Field(description="Of so many months (UTC) that have a snapshot the newest one is kept.", ge=0, le=120)
    ] = 12
    longest_days: Annotated[
        int | None,
        Field(
            description="The retention class of the data: no snapshot but the newest is kept for more days.",
            ge=1,
            le=36500,
        ),
    ] = None


class Replication(Model):
    """How old the copy at the peer may be, and which of its snapshots are kept."""

    max_age_seconds: Annotated[
        int,
        Field(
            description="ReplicationHealthy turns False when the newest snapshot is older (seconds).", ge=60, le=604800
        ),
    ] = 7200
    retention: Annotated[SnapshotRetention, Field(description="Which snapshots are kept.")] = SnapshotRetention()


class AssistantTenantSpec(Model):
    """Desired state of a tenant."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.homeSite) == has(oldSelf.homeSite)"
                " && (!has(self.homeSite) || self.homeSite == oldSelf.homeSite)",
                "homeSite is immutable: use a Failover to move the tenant",
            )
        ),
    )

    zone: Annotated[
        DnsLabel, Field(description="The tenant's ResidencyZone.", json_schema_extra=validations(IMMUTABLE))
    ]
    home_site: Annotated[
        DnsLabel | None, Field(description="Site where the tenant starts. Default: the zone's first site.")
    ] = None
    assistants: Annotated[
        list[Assistant],
        Field(description="The tenant's assistants.", min_length=1, max_length=16, json_schema_extra=list_map("name")),
    ]
    model: Annotated[ModelChoice, Field(description="The model that the assistants ask.")]
    privacy: Annotated[PrivacyPolicy, Field(description="How questions are anonymised.")] = PrivacyPolicy()
    compliance: Annotated[
        list[Need],
        Field(
            description="What every provider of the pool must offer; one elsewhere that doesn't is not asked.",
            max_length=8,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    consent: Annotated[
        Consent | None,
        Field(
            description="What people are told before their first question, and asked to agree to; {} for the platform's"
            " own notice. Without it nobody is asked, and no consent is told of."
        ),
    ] = None
    access: Annotated[Access, Field(description="Who reaches the assistants.")] = Access()
    network: Annotated[Network, Field(description="Where the tenant's data may go.")] = Network()
    replication: Annotated[Replication, Field(description="Copy at the peer site.")] = Replication()
    suspend: Annotated[bool, Field(description="Stop reconciling: what runs goes on, nothing is changed.")] = False

    @property
    def workload_secrets(self) -> tuple[str, ...]:
        """Secrets of the tenant's namespace that the assistants' pods need."""
        return tuple(sorted({s for a in self.assistants for s in a.env_secrets}))

    @property
    def named_secrets(self) -> tuple[str, ...]:
        """Every Secret of the tenant's namespace that the spec names; the peer needs them, too."""
        return tuple(sorted({*self.workload_secrets, *self.access.named_secrets}))


class LiveStorage(Model):
    """The tenant's live bucket at this site."""

    bucket: Annotated[str, Field(description="Name of the live bucket.")]


class ClaimStatus(Model):
    """The highest claim that this cluster has seen."""

    number: Annotated[int, Field(description="Number (epoch) of the claim.")]
    holder: Annotated[str, Field(description="Site that may write.")]


class CommitStatus(Model):
    """The newest verified snapshot at the site that holds the replica."""

    seq: Annotated[int, Field(description="Number of the commit slot.")]
    epoch: Annotated[int, Field(description="Number of the claim under which it was written.")]
    cut_time: Annotated[
        datetime, Field(description="Start of the listing that the snapshot was cut from (RFC 3339, UTC).")
    ]
    target: Annotated[str, Field(description="Site that holds the snapshot.")]


class AssistantTenantStatus(Model):
    """Observed state of a tenant."""

    observed_generation: Annotated[int, Field(description="Generation of the spec that was last looked at.")] = 0
    tenant_id: Annotated[str | None, Field(description="Random opaque id; names the tenant in every store.")] = None
    role: Annotated[Role | None, Field(description="What this cluster is to the tenant.")] = None
    site: Annotated[str | None, Field(description="The zone's site that this cluster serves.")] = None
    active_site: Annotated[str | None, Field(description="Site that holds the claim.")] = None
    storage: Annotated[LiveStorage | None, Field(description="The live bucket at this site.")] = None
    claim: Annotated[ClaimStatus | None, Field(description="The highest claim seen.")] = None
    last_commit: Annotated[CommitStatus | None, Field(description="The newest verified snapshot.")] = None
    last_handled_reconcile_at: Annotated[
        str | None, Field(description="Last value of reconcile.domicile.dev/requested-at that was acted on.")
    ] = None
    last_handled_replicate_at: Annotated[
        str | None, Field(description="Last value of replicate.domicile.dev/requested-at that was acted on.")
    ] = None
    last_handled_end_sessions_at: Annotated[
        str | None, Field(description="Last value of sso.domicile.dev/end-sessions-requested-at that was acted on.")
    ] = None
    realm: Annotated[
        str | None,
        Field(
            description="The tenant's realm on its zone's identity server, from before it is made until it is closed."
        ),
    ] = None
    restore: Annotated[
        str | None, Field(description="Restore that writes to the live bucket; nothing of the tenant runs meanwhile.")
    ] = None
    conditions: Conditions = []
