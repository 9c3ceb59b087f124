"""The copy at the peer: the condition ReplicationHealthy."""

from __future__ import annotations

from datetime import timedelta

from domicile.api.conditions import ConditionType
from domicile.api.tenant import Role
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView

_FIRST_PROOF = timedelta(hours=2)


def replica_sound(view: TenantView) -> Verdict | None:
    """There is a peer, its slots verify, and the last run went well."""
    kind = ConditionType.REPLICATION_HEALTHY
    if view.zone is not None and view.zone.peer is None:
        return no(kind, "NoPeer", f"Zone {view.spec.zone} has one site only: nothing is copied. Add a second site.")
    if view.replica_error is not None:
        return no(kind, *view.replica_error)
    if view.replication_failure is not None:
        reason, message = view.replication_failure
        if reason == "Held":
            message += f" (If it was meant: kubectl domicile snapshot {view.name} --accept-change.)"
        return no(kind, reason, message)
    return None


def every_volume_replicated(view: TenantView) -> Verdict | None:
    """What a tenant keeps outside its live bucket stays behind when its site is lost."""
    if not view.volumes:
        return None
    return no(
        ConditionType.REPLICATION_HEALTHY,
        "VolumeNotReplicated",
        f"Nothing replicates these volumes in namespace {view.name}: {', '.join(view.volumes)}. Keep what must last in"
        " the live bucket, and remove them.",
    )


def peer_opens(view: TenantView) -> Verdict | None:
    """The peer must have shown lately that it opens the tenant's key; a new tenant has two hours for the first time."""
    proof = view.peer_proof
    if view.role is not Role.ACTIVE or view.zone is None or view.zone.peer is None or proof is None:
        return None
    fault = proof.fault
    if fault is None and view.now > (proof.until or view.created + _FIRST_PROOF):
        fault = (
            f"Site {view.zone.peer.name} has not shown for hours that it opens the tenant's key: after a take-over its"
            " snapshots would be closed. Look at the replicator's jobs there, at the site's key and its KMS."
        )
    return None if fault is None else no(ConditionType.REPLICATION_HEALTHY, "PeerCannotOpen", fault)


def replicated(view: TenantView) -> Verdict:
    """A fresh snapshot lies at the peer."""
    kind = ConditionType.REPLICATION_HEALTHY
    if view.last_commit is None:
        return Verdict(
            kind, "Unknown", "AwaitingFirstSnapshot", "No snapshot exists yet; one is cut every hour and on request."
        )
    age = (view.now - view.last_commit.cut_time).total_seconds()
    if age > view.spec.replication.max_age_seconds:
        return no(
            kind,
            "SnapshotOverdue",
            f"The newest snapshot is older than {view.spec.replication.max_age_seconds} s."
            + (f" {view.peer_error}" if view.peer_error else " Look at the replicator's jobs."),
        )
    return Verdict(kind, "True", "Replicated", f"The newest snapshot at {view.last_commit.target} is in time.")


RULES: tuple[Rule, ...] = (replica_sound, every_volume_replicated, peer_opens, replicated)
