"""Failover: one take-over of tenants by a site, ordered by a person."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from domicile.api.common import LIST_SET, DnsLabel, Model, cel, list_map, validations
from domicile.api.conditions import Conditions


class Mode(StrEnum):
    """Emergency: the source can't be asked any more."""

    EMERGENCY = "emergency"


class Phase(StrEnum):
    """Steps of a take-over, in this order. Failed ends one at any step."""

    PENDING = "Pending"
    CLAIMED = "Claimed"
    FENCED = "Fenced"
    RESTORED = "Restored"
    OPENED = "Opened"
    FAILED = "Failed"
    REHEARSED = "Rehearsed"


class TenantSelector(Model):
    """Which of the zone's tenants move."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.names) != has(self.matchLabels)", "set exactly one of names and matchLabels")
        ),
    )

    names: Annotated[
        list[DnsLabel] | None,
        Field(description="Names of tenants.", min_length=1, max_length=1000, json_schema_extra=LIST_SET),
    ] = None
    match_labels: Annotated[
        dict[str, str] | None,
        Field(description="Labels that a tenant must carry; an empty map selects every tenant of the zone."),
    ] = None


class FailoverSpec(Model):
    """Desired state of a take-over; immutable."""

    model_config = ConfigDict(
        json_schema_extra=validations(cel("self == oldSelf", "a Failover is immutable: create another one")),
    )

    zone: Annotated[DnsLabel, Field(description="ResidencyZone of the tenants.")]
    target_site: Annotated[DnsLabel, Field(description="Site that takes over; it must be served by this cluster.")]
    tenants: Annotated[TenantSelector, Field(description="Tenants that move.")]
    mode: Annotated[Mode, Field(description="emergency: the source is down.")] = Mode.EMERGENCY
    accepted_data_loss_seconds: Annotated[
        int,
        Field(description="Refuse a tenant whose newest snapshot is older than this (seconds).", ge=0),
    ]
    source_is_down: Annotated[
        str,
        Field(
            description="How you know that the source no longer serves. Without a witness this word replaces its"
            " store's.",
            min_length=10,
            max_length=512,
        ),
    ]
    dry_run: Annotated[bool, Field(description="Report what would happen; write nothing to any store.")] = False
    requested_by: Annotated[
        str, Field(description="Role or ticket behind the order, no person's name.", max_length=128)
    ] = ""


class PhaseTime(Model):
    """How long a step took."""

    phase: Annotated[Phase, Field(description="The step that was reached.")]
    seconds: Annotated[float, Field(description="Seconds since the take-over of the tenant began.")]


class TenantTakeover(Model):
    """What became of one tenant."""

    tenant: Annotated[DnsLabel, Field(description="Name of the tenant.")]
    phase: Annotated[Phase, Field(description="The last step that was reached.")]
    started_at: Annotated[
        datetime | None, Field(description="When the take-over of the tenant began (RFC 3339, UTC).")
    ] = None
    claim: Annotated[int | None, Field(description="Number of the claim that was written.")] = None
    commit_seq: Annotated[int | None, Field(description="Commit slot of the snapshot that was restored.")] = None
    rpo_seconds: Annotated[
        float | None, Field(description="Age of the restored snapshot when the take-over began (seconds).")
    ] = None
    rto_seconds: Annotated[
        float | None, Field(description="From the creation of the Failover to the tenant opened (seconds).")
    ] = None
    message: Annotated[str, Field(description="What is so and what to do next.", max_length=1024)] = ""
    phases: Annotated[
        list[PhaseTime], Field(description="Time of each step.", json_schema_extra=list_map("phase"))
    ] = []


class FailoverStatus(Model):
    """Observed state of a take-over."""

    observed_generation: Annotated[int, Field(description="Generation of the spec that was last looked at.")] = 0
    tenants: Annotated[
        list[TenantTakeover],
        Field(description="One entry for each tenant that was selected.", json_schema_extra=list_map("tenant")),
    ] = []
    conditions: Conditions = []
