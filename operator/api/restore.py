"""Restore: one snapshot of a tenant into its live bucket or beside it, ordered by a person."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from domicile.api.common import DnsLabel, Model, cel, validations
from domicile.api.conditions import Conditions


class Into(StrEnum):
    """Where a snapshot is restored to."""

    LIVE = "live"
    BESIDE = "beside"


class Mode(StrEnum):
    """What becomes of objects in the live bucket that the snapshot has not, or has otherwise."""

    FRESH = "fresh"
    MERGE = "merge"
    EXACT = "exact"


class Phase(StrEnum):
    """Steps of a restore, in this order. Failed ends one at any step, Rehearsed ends a dry run."""

    PENDING = "Pending"
    VERIFIED = "Verified"
    STOPPING = "Stopping"
    WRITING = "Writing"
    RESTORED = "Restored"
    REHEARSED = "Rehearsed"
    FAILED = "Failed"


class RestoreSpec(Model):
    """Desired state of a restore; immutable."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("self == oldSelf", "a Restore is immutable: create another one"),
            cel("!has(self.seq) || !has(self.at)", "set seq or at or neither, not both"),
            cel("self.into == 'live' || self.mode == 'fresh'", "a bucket beside is empty: mode fresh is all it needs"),
            cel(
                "!self.whileServing || (self.into == 'live' && self.mode == 'merge')",
                "whileServing needs into live and mode merge: the other modes undo what is written meanwhile",
            ),
        ),
    )

    tenant: Annotated[DnsLabel, Field(description="Name of the AssistantTenant; this site must hold it.")]
    seq: Annotated[int | None, Field(description="A snapshot by its number. Default: the newest.", ge=1)] = None
    at: Annotated[
        datetime | None, Field(description="The newest snapshot that was cut at or before this time (RFC 3339).")
    ] = None
    kept_at: Annotated[
        DnsLabel | None,
        Field(description="Site whose snapshots are meant, where both sites keep some. Default: whichever fits."),
    ] = None
    prefix: Annotated[
        str,
        Field(
            description="Only objects whose names start so. It is stored in the clear: no personal data.",
            max_length=1024,
        ),
    ] = ""
    into: Annotated[
        Into,
        Field(
            description="live: the tenant's live bucket, while nothing of the tenant runs. beside: a fresh one, which"
            " never becomes the tenant's own."
        ),
    ]
    mode: Annotated[
        Mode,
        Field(
            description="fresh: refuse where the live bucket holds what the snapshot has not, or has otherwise."
            " merge: overwrite what differs. exact: delete what the snapshot has not, too."
        ),
    ] = Mode.FRESH
    while_serving: Annotated[
        bool,
        Field(description="With mode merge: don't stop the tenant. What it writes meanwhile may be overwritten."),
    ] = False
    dry_run: Annotated[bool, Field(description="Report what would happen; write nothing to any store.")] = False
    requested_by: Annotated[
        str, Field(description="Role or ticket behind the order, no person's name.", max_length=128)
    ] = ""


class RestoreStatus(Model):
    """Observed state of a restore."""

    observed_generation: Annotated[int, Field(description="Generation of the spec that was last looked at.")] = 0
    phase: Annotated[Phase, Field(description="The last step that was reached.")] = Phase.PENDING
    holds: Annotated[bool, Field(description="Nothing of the tenant runs until this Restore is done or deleted.")] = (
        False
    )
    seq: Annotated[int | None, Field(description="Number of the snapshot that was chosen.")] = None
    cut_time: Annotated[datetime | None, Field(description="When it was cut (RFC 3339, UTC).")] = None
    kept_at: Annotated[str | None, Field(description="Site that keeps it.")] = None
    bucket: Annotated[str | None, Field(description="Name of the bucket that is written to.")] = None
    objects: Annotated[int | None, Field(description="Objects of the snapshot, as far as the prefix goes.")] = None
    bytes: Annotated[int | None, Field(description="Their size in bytes.")] = None
    skipped: Annotated[int | None, Field(description="Of them, those that were there already.")] = None
    overwritten: Annotated[int | None, Field(description="Objects of the bucket that were overwritten.")] = None
    deleted: Annotated[int | None, Field(description="Objects of the bucket that were deleted.")] = None
    conditions: Conditions = []
