"""Condition types and their constructor, after the Kubernetes API conventions and kstatus.

Sources: kubernetes/community api-conventions.md (typical status properties) and sigs.k8s.io/cli-utils kstatus.
Messages hold no timestamps, counters or personal data, so that an unchanged state writes nothing.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from domicile.api.common import Model


class ConditionType(StrEnum):
    """Every condition that a resource of ours can carry. Reconciling and Stalled are present only while True."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    RESIDENCY_COMPLIANT = "ResidencyCompliant"
    WORKLOAD_READY = "WorkloadReady"
    STORAGE_READY = "StorageReady"
    NETWORK_ISOLATED = "NetworkIsolated"
    EGRESS_VERIFIED = "EgressVerified"
    ENCRYPTION_READY = "EncryptionReady"
    REPLICATION_HEALTHY = "ReplicationHealthy"
    SSO_CONFIGURED = "SSOConfigured"
    DIRECTORY_REACHABLE = "DirectoryReachable"
    EMAIL_VERIFIABLE = "EmailVerifiable"
    FRONT_DOOR_READY = "FrontDoorReady"
    MODEL_APPROVED = "ModelApproved"
    GATEWAY_READY = "GatewayReady"
    CONSENTS_VALID = "ConsentsValid"


class Condition(Model):
    """One entry of ``status.conditions`` (metav1.Condition)."""

    type: Annotated[str, Field(description="Condition type, CamelCase.", max_length=63)]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="True, False or Unknown.")]
    reason: Annotated[str, Field(description="Machine-readable cause, CamelCase, always set.", max_length=63)]
    message: Annotated[str, Field(description="What is so, where, and what to do next.", max_length=1024)]
    observed_generation: Annotated[int, Field(description="Generation of the spec this was judged on.")] = 0
    last_transition_time: Annotated[datetime | None, Field(description="When status last changed (RFC 3339, UTC).")] = (
        None
    )


Conditions = Annotated[
    list[Condition],
    Field(
        description="Latest observations of the resource's state.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


def merge(old: list[Condition], new: list[Condition], now: datetime) -> list[Condition]:
    """The new conditions, each keeping its old transition time unless its status changed."""
    before = {c.type: c for c in old}
    return [
        c.model_copy(
            update={
                "last_transition_time": before[c.type].last_transition_time
                if c.type in before and before[c.type].status == c.status
                else now.replace(microsecond=0)
            }
        )
        for c in new
    ]
