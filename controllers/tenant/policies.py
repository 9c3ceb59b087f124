"""What is wrong with a tenant: a chain of small pure rules, each ``TenantView -> Verdict | None``.

A rule speaks about one condition and is silent where it has nothing to object; the first rule of a condition that
speaks decides it. ``blocks`` means that nothing may be created or changed for the tenant until it is mended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from domicile.api.conditions import ConditionType
from domicile.api.tenant import Role
from domicile.controllers.tenant.front_door import NAME
from domicile.controllers.tenant.network import model_provider, store_peers
from domicile.controllers.tenant.view import Ownership, Standing, TenantView

_FIRST_PROOF = timedelta(hours=2)
PROVIDER_FAILED = "ProviderFailed"
NO_LOGINS = "NotAskedFor"

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Verdict:
    """One judgement, ready to become a condition."""

    type: ConditionType
    status: Status
    reason: str
    message: str
    blocks: bool = False


Rule = Callable[[TenantView], Verdict | None]

# Reasons that the replicator gives (backup.worker): a store may not be used, or kept an object otherwise encrypted.
_REFUSED_FOR_RESIDENCY = {"Residency", "Encryption"}


def _no(kind: ConditionType, reason: str, message: str, *, blocks: bool = False) -> Verdict:
    return Verdict(kind, "False", reason, message, blocks)


def zone_exists(view: TenantView) -> Verdict | None:
    """The zone must be known."""
    if view.spec.zone in view.known_zones:
        return None
    known = ", ".join(view.known_zones) or "none"
    return _no(
        ConditionType.RESIDENCY_COMPLIANT,
        "ZoneNotFound",
        f"ResidencyZone {view.spec.zone} does not exist here (known: {known}). Create it, or create the tenant anew"
        " with another zone.",
        blocks=True,
    )


def zone_served(view: TenantView) -> Verdict | None:
    """This cluster must be one of the zone's sites: elsewhere nothing of the tenant may exist."""
    if view.zone is not None:
        return None
    return _no(
        ConditionType.RESIDENCY_COMPLIANT,
        "ZoneNotServedHere",
        f"This cluster serves {', '.join(view.platform.sites) or 'no site'}; zone {view.spec.zone} has"
        f" {', '.join(view.zone_sites)}. Nothing was created. Apply the tenant in a cluster of its zone.",
        blocks=True,
    )


def home_site_known(view: TenantView) -> Verdict | None:
    """``homeSite`` must be one of the zone's sites."""
    if view.home_site in view.zone_sites:
        return None
    return _no(
        ConditionType.RESIDENCY_COMPLIANT,
        "HomeSiteUnknown",
        f"homeSite {view.home_site} is no site of zone {view.spec.zone} ({', '.join(view.zone_sites)})."
        " Create the tenant anew with one of these.",
        blocks=True,
    )


def model_in_zone(view: TenantView) -> Verdict | None:
    """Questions go to model servers of the zone's own clusters only."""
    provider = model_provider(view)
    choice = view.spec.model
    if provider is None:
        known = ", ".join(p.name for p in view.zone.spec.model_providers) if view.zone else ""
        return _no(
            ConditionType.RESIDENCY_COMPLIANT,
            "ModelProviderUnknown",
            f"Zone {view.spec.zone} has no model provider {choice.provider} (it has: {known or 'none'})."
            " Correct spec.model.provider.",
            blocks=True,
        )
    if provider.service is None:
        return _no(
            ConditionType.RESIDENCY_COMPLIANT,
            "ModelProviderOutside",
            f"Model provider {choice.provider} is outside the cluster. It is refused because no anonymising gateway"
            " stands before it yet: choose a provider with a service.",
            blocks=True,
        )
    if choice.model not in provider.models:
        return _no(
            ConditionType.RESIDENCY_COMPLIANT,
            "ModelNotAllowed",
            f"Model {choice.model} is not allowed at provider {choice.provider} ({', '.join(provider.models)})."
            " Correct spec.model.model.",
            blocks=True,
        )
    return None


def stores_at_home(view: TenantView) -> Verdict | None:
    """Every store involved must be where the zone says and as protected as it says."""
    messages = " ".join(view.residency.messages)
    if view.residency.standing is Standing.VIOLATED:
        return _no(ConditionType.RESIDENCY_COMPLIANT, "StoreOutsideZone", messages, blocks=True)
    if view.residency.standing is Standing.UNKNOWN:
        # Before a bucket is bound nothing may be assumed; later an outage doesn't tear a running tenant down.
        return Verdict(
            ConditionType.RESIDENCY_COMPLIANT, "Unknown", "StoreNotVerified", messages, blocks=view.live_bucket is None
        )
    if view.peer_error is not None:
        return Verdict(ConditionType.RESIDENCY_COMPLIANT, "Unknown", "PeerNotVerified", view.peer_error)
    return None


def run_found_home(view: TenantView) -> Verdict | None:
    """What the last run of the replicator was refused for stands until a run succeeds: it asked anew, as another."""
    if view.replication_failure is None or view.replication_failure[0] not in _REFUSED_FOR_RESIDENCY:
        return None
    return _no(
        ConditionType.RESIDENCY_COMPLIANT,
        "RunRefused",
        f"{view.replication_failure[1]} (Once it is mended: kubectl domicile snapshot {view.name}.)",
    )


def residency_fine(view: TenantView) -> Verdict:
    """Everything that was asked is inside the zone."""
    attested = " ".join(view.residency.messages)
    return Verdict(
        ConditionType.RESIDENCY_COMPLIANT,
        "True",
        "Attested" if attested else "Verified",
        attested or "Stores, nodes and model are inside the zone.",
    )


def namespace_free(view: TenantView) -> Verdict | None:
    """A namespace of somebody else is never taken."""
    if view.namespace is not Ownership.FOREIGN:
        return None
    return _no(
        ConditionType.WORKLOAD_READY,
        "NamespaceConflict",
        f"Namespace {view.name} exists and belongs to someone else; it was left alone. Rename the tenant, or hand the"
        f" namespace over with the label domicile.dev/tenant={view.name}.",
        blocks=True,
    )


def storage_answers(view: TenantView) -> Verdict | None:
    """The site's own stores must answer."""
    if view.storage_error is None:
        return None
    return _no(ConditionType.STORAGE_READY, "StoreUnreachable", view.storage_error)


def live_bucket_bound(view: TenantView) -> Verdict | None:
    """The tenant needs a live bucket of its own."""
    if view.live_bucket is not None:
        return None
    if view.tenant_id is None:
        return Verdict(ConditionType.STORAGE_READY, "Unknown", "AwaitingIdentity", _awaiting(view))
    return Verdict(ConditionType.STORAGE_READY, "Unknown", "AwaitingBucket", "No live bucket is bound yet.")


def _awaiting(view: TenantView) -> str:
    if view.zone is not None and view.home_site != view.zone.site:
        return f"The tenant's identity comes from its home site {view.home_site}; apply it there if it isn't yet."
    return view.peer_error or "The tenant has no identity yet."


def claim_stands(view: TenantView) -> Verdict | None:
    """Nobody serves without a claim that stands."""
    claim = view.claim
    if view.tenant_id is None or (claim is not None and claim.stands):
        return None
    return _no(
        ConditionType.STORAGE_READY,
        "ClaimPending",
        "No claim stands for the tenant yet: it must be in both control buckets."
        + (f" {view.peer_error}" if view.peer_error else ""),
    )


def storage_fine(_: TenantView) -> Verdict:
    """Bucket bound and claim standing."""
    return Verdict(ConditionType.STORAGE_READY, "True", "Bound", "The live bucket is bound and its claim stands.")


def key_opens(view: TenantView) -> Verdict | None:
    """This site must be able to open the tenant's key with its own key alone."""
    if view.key_error is not None:
        return _no(ConditionType.ENCRYPTION_READY, "KeyUnavailable", view.key_error)
    if view.key_id is None:
        return Verdict(ConditionType.ENCRYPTION_READY, "Unknown", "AwaitingKey", "The tenant has no key yet.")
    return None


def encryption_fine(_: TenantView) -> Verdict:
    """The key was opened a few minutes ago at most."""
    return Verdict(
        ConditionType.ENCRYPTION_READY, "True", "KeyProven", "This site opened the tenant's key with its own."
    )


def store_reachable_by_pods(view: TenantView) -> Verdict | None:
    """Network policies open addresses, so the store's must be known."""
    if view.zone is None or store_peers(view.zone.own)[0]:
        return None
    return _no(
        ConditionType.NETWORK_ISOLATED,
        "StoreAddressUnknown",
        f"Site {view.zone.site} names no endpointCidrs for its store: its pods can't reach it. Add them to the zone.",
    )


def policies_applied(view: TenantView) -> Verdict | None:
    """Default deny and its openings must stand."""
    if not view.policies_missing:
        return None
    return _no(
        ConditionType.NETWORK_ISOLATED,
        "PoliciesMissing",
        f"Network policies are missing: {', '.join(view.policies_missing)}. They are being applied.",
    )


def no_other_openings(view: TenantView) -> Verdict | None:
    """Network policies only ever add: one of somebody else opens what ours deny."""
    if not view.policies_foreign:
        return None
    return _no(
        ConditionType.NETWORK_ISOLATED,
        "ForeignPolicies",
        f"Network policies of others in namespace {view.name} open more than the tenant's own:"
        f" {', '.join(view.policies_foreign)}. Remove them.",
    )


def network_fine(_: TenantView) -> Verdict:
    """Policies stand; that the cluster's network enforces them is not probed yet, and the message says so."""
    return Verdict(
        ConditionType.NETWORK_ISOLATED,
        "True",
        "PoliciesApplied",
        "Default deny and the named openings are applied; enforcement by the cluster's network is not probed.",
    )


def secrets_present(view: TenantView) -> Verdict | None:
    """Every Secret that an assistant names must exist."""
    missing = [s for s in view.missing_secrets if s in view.spec.workload_secrets]
    if not missing:
        return None
    return _no(
        ConditionType.WORKLOAD_READY,
        "SecretMissing",
        f"Create the missing Secrets in namespace {view.name}: {', '.join(missing)}.",
    )


def objects_accepted(view: TenantView) -> Verdict | None:
    """The API server must take what is built, a user's pod template included."""
    return None if view.refusal is None else _no(ConditionType.WORKLOAD_READY, "Refused", view.refusal)


def nodes_in_region(view: TenantView) -> Verdict | None:
    """Pods run on nodes of the site's region only."""
    if view.nodes_in_region or view.zone is None:
        return None
    return _no(
        ConditionType.WORKLOAD_READY,
        "NoNodeInRegion",
        f"No node carries topology.kubernetes.io/region={view.zone.own.region}. Add nodes; pods run nowhere else.",
    )


def not_being_restored(view: TenantView) -> Verdict | None:
    """Nothing runs while the live bucket is written to by a Restore."""
    if view.restoring is None:
        return None
    return _no(
        ConditionType.WORKLOAD_READY,
        "Restoring",
        f"Restore {view.restoring} writes to the live bucket; nothing runs until it is done. See its status.",
    )


def standby(view: TenantView) -> Verdict | None:
    """A standby runs nothing."""
    if view.role is Role.ACTIVE:
        return None
    holder = view.claim.holder if view.claim and view.claim.holder else "no site"
    return Verdict(
        ConditionType.WORKLOAD_READY, "True", "Standby", f"The claim is held by {holder}; nothing runs here."
    )


def pods_ready(view: TenantView) -> Verdict | None:
    """All pods of all assistants are ready."""
    for assistant in view.spec.assistants:
        workload = view.workloads.get(assistant.name)
        if workload is None:
            return _no(ConditionType.WORKLOAD_READY, "Progressing", f"Assistant {assistant.name} is being created.")
        if workload.trouble is not None:
            reason, message = workload.trouble
            return _no(ConditionType.WORKLOAD_READY, reason, f"Assistant {assistant.name}: {message}")
        if not workload.updated or workload.ready < assistant.replicas:
            return _no(ConditionType.WORKLOAD_READY, "Progressing", f"Assistant {assistant.name} is starting.")
    return None


def lease_granted(view: TenantView) -> Verdict | None:
    """Pods without a lease answer 503."""
    if view.lease_refusal is None:
        return None
    return _no(ConditionType.WORKLOAD_READY, "NoLease", view.lease_refusal)


def workload_fine(_: TenantView) -> Verdict:
    """Pods are ready and hold a lease."""
    return Verdict(ConditionType.WORKLOAD_READY, "True", "Serving", "All assistants are ready and hold a write lease.")


def replica_sound(view: TenantView) -> Verdict | None:
    """There is a peer, its slots verify, and the last run went well."""
    kind = ConditionType.REPLICATION_HEALTHY
    if view.zone is not None and view.zone.peer is None:
        return _no(kind, "NoPeer", f"Zone {view.spec.zone} has one site only: nothing is copied. Add a second site.")
    if view.replica_error is not None:
        return _no(kind, *view.replica_error)
    if view.replication_failure is not None:
        reason, message = view.replication_failure
        if reason == "Held":
            message += f" (If it was meant: kubectl domicile snapshot {view.name} --accept-change.)"
        return _no(kind, reason, message)
    return None


def every_volume_replicated(view: TenantView) -> Verdict | None:
    """What a tenant keeps outside its live bucket stays behind when its site is lost."""
    if not view.volumes:
        return None
    return _no(
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
    return None if fault is None else _no(ConditionType.REPLICATION_HEALTHY, "PeerCannotOpen", fault)


def replicated(view: TenantView) -> Verdict:
    """A fresh snapshot lies at the peer."""
    kind = ConditionType.REPLICATION_HEALTHY
    if view.last_commit is None:
        return Verdict(
            kind, "Unknown", "AwaitingFirstSnapshot", "No snapshot exists yet; one is cut every hour and on request."
        )
    age = (view.now - view.last_commit.cut_time).total_seconds()
    if age > view.spec.replication.max_age_seconds:
        return _no(
            kind,
            "SnapshotOverdue",
            f"The newest snapshot is older than {view.spec.replication.max_age_seconds} s."
            + (f" {view.peer_error}" if view.peer_error else " Look at the replicator's jobs."),
        )
    return Verdict(kind, "True", "Replicated", f"The newest snapshot at {view.last_commit.target} is in time.")


def nobody_logs_in(view: TenantView) -> Verdict | None:
    """Without single sign-on there is no door for people."""
    if view.spec.access.sso is not None or view.realm is not None:
        return None
    return Verdict(
        ConditionType.SSO_CONFIGURED,
        "True",
        NO_LOGINS,
        "spec.access.sso is not set: nobody logs in, only pods of spec.access.clients reach the assistants.",
    )


def identity_server_named(view: TenantView) -> Verdict | None:
    """People log in at the zone's own identity server."""
    if view.zone is None or view.zone.spec.identity is not None:
        return None
    return _no(
        ConditionType.SSO_CONFIGURED,
        "NoIdentityServer",
        f"Zone {view.spec.zone} names no identity server: add spec.identity to the ResidencyZone.",
    )


def granted_assistants_exist(view: TenantView) -> Verdict | None:
    """A grant for an assistant that isn't there is a mistake in writing."""
    known = {a.name for a in view.spec.assistants}
    sources = view.spec.access.sso.sources if view.spec.access.sso else ()
    wrong = sorted({a for s in sources for m in s.role_mappings for a in m.assistants} - known)
    if not wrong:
        return None
    return _no(
        ConditionType.SSO_CONFIGURED,
        "AssistantUnknown",
        f"roleMappings grant assistants that the tenant doesn't have: {', '.join(wrong)} (it has:"
        f" {', '.join(sorted(known))}).",
    )


def realm_seen_to(view: TenantView) -> Verdict | None:
    """The identity server must take what the spec asks for."""
    if view.realm is None:
        return Verdict(ConditionType.SSO_CONFIGURED, "Unknown", "AwaitingRealm", "The tenant has no realm yet.")
    return None if view.realm.error is None else _no(ConditionType.SSO_CONFIGURED, *view.realm.error)


def providers_usable(view: TenantView) -> Verdict | None:
    """Each identity provider has our secret and answers; the others go on without it."""
    faults = dict(view.realm.faults) if view.realm else {}
    for source in view.spec.access.sso.sources if view.spec.access.sso else ():
        if source.secret and view.provider_secrets.get(source.name) is None:
            secret, key = source.secret
            faults[source.name] = f"Secret {secret} with the key {key} is missing in namespace {view.name}."
    if not faults:
        return None
    told = " ".join(f"{name}: {why}" for name, why in sorted(faults.items()))
    sso = view.spec.access.sso
    if sso is not None and not sso.local_users and all(s.name in faults for s in sso.sources):
        return _no(ConditionType.SSO_CONFIGURED, "NobodyCanLogIn", f"{told} There is no other way in.")
    return _no(ConditionType.SSO_CONFIGURED, PROVIDER_FAILED, f"{told} All others work.")


def sso_fine(view: TenantView) -> Verdict:
    """People can log in."""
    issuer = view.realm.issuer if view.realm else ""
    return Verdict(
        ConditionType.SSO_CONFIGURED,
        "True",
        "Configured",
        f"People log in at {issuer}. Identity providers redirect to {issuer}/broker/<name>/endpoint.",
    )


def no_directories(view: TenantView) -> Verdict | None:
    """Most tenants have none."""
    if view.spec.access.sso is not None and view.spec.access.sso.directories:
        return None
    return Verdict(ConditionType.DIRECTORY_REACHABLE, "True", "NotAskedFor", "The tenant has no directory.")


def directories_seen(view: TenantView) -> Verdict | None:
    """Who can't ask the identity server knows nothing of directories."""
    if view.realm is not None and view.realm.error is None:
        return None
    why = "Not known while SSOConfigured is not True."
    return Verdict(ConditionType.DIRECTORY_REACHABLE, "Unknown", "AwaitingRealm", why)


def directories_reachable(view: TenantView) -> Verdict | None:
    """People of a silent directory can't log in, and each other login by name waits for it."""
    silent = dict(view.realm.unreachable) if view.realm else {}
    for directory in view.spec.access.sso.directories if view.spec.access.sso else ():
        if view.provider_secrets.get(directory.name) is None:
            silent[directory.name] = f"Secret {directory.bind_secret} is missing, so that nobody can be asked for."
    if not silent:
        return None
    told = " ".join(f"{name}: {why}" for name, why in sorted(silent.items()))
    return _no(ConditionType.DIRECTORY_REACHABLE, "DirectoryUnreachable", told)


def directories_fine(_: TenantView) -> Verdict:
    """The identity server logged in at each of them."""
    return Verdict(ConditionType.DIRECTORY_REACHABLE, "True", "Reachable", "Every directory answers and lets us read.")


# In the order in which a person would mend them. Each chain ends with the rule that states success.
def no_door(view: TenantView) -> Verdict | None:
    """Without single sign-on there is none."""
    if view.spec.access.sso is not None:
        return None
    return Verdict(ConditionType.FRONT_DOOR_READY, "True", "NotAskedFor", "The tenant has no front door.")


def certificate_present(view: TenantView) -> Verdict | None:
    """The door serves by TLS only."""
    tls = view.spec.access.tls
    if tls is None or view.certificate is not None:
        return None
    return _no(
        ConditionType.FRONT_DOOR_READY,
        "CertificateMissing",
        f"Secret {tls.secret} with tls.crt and tls.key for {view.spec.access.host} is missing in namespace {view.name}:"
        " create it, or a cert-manager Certificate that does.",
    )


def certificate_good(view: TenantView) -> Verdict | None:
    """Browsers must take the certificate."""
    if view.certificate is None or view.certificate.fault is None:
        return None
    reason, told = view.certificate.fault
    name = view.spec.access.tls.secret if view.spec.access.tls else ""
    return _no(ConditionType.FRONT_DOOR_READY, reason, f"Secret {name}: {told}. Renew it.")


def door_rests(view: TenantView) -> Verdict | None:
    """At the standby there are no pods."""
    if view.role is Role.ACTIVE:
        return None
    return Verdict(ConditionType.FRONT_DOOR_READY, "True", "Standby", "The front door is ready to be started here.")


def door_serves(view: TenantView) -> Verdict | None:
    """Its pods must be there."""
    found = view.workloads.get(NAME)
    if found is None:
        return Verdict(ConditionType.FRONT_DOOR_READY, "Unknown", "AwaitingPods", "The front door has not started yet.")
    if found.trouble is not None:
        reason, message = found.trouble
        return _no(ConditionType.FRONT_DOOR_READY, reason, f"The front door: {message}")
    if found.ready == 0 or not found.updated:
        return _no(ConditionType.FRONT_DOOR_READY, "AwaitingPods", "The front door's pods are not ready yet.")
    return None


def door_fine(view: TenantView) -> Verdict:
    """People get in."""
    return Verdict(ConditionType.FRONT_DOOR_READY, "True", "Serving", f"People open https://{view.spec.access.host}.")


CHAINS: tuple[tuple[Rule, ...], ...] = (
    (zone_exists, zone_served, home_site_known, model_in_zone, stores_at_home, run_found_home, residency_fine),
    (storage_answers, live_bucket_bound, claim_stands, storage_fine),
    (key_opens, encryption_fine),
    (store_reachable_by_pods, policies_applied, no_other_openings, network_fine),
    (
        namespace_free,
        not_being_restored,
        secrets_present,
        objects_accepted,
        nodes_in_region,
        standby,
        pods_ready,
        lease_granted,
        workload_fine,
    ),
    (replica_sound, every_volume_replicated, peer_opens, replicated),
    (nobody_logs_in, identity_server_named, granted_assistants_exist, realm_seen_to, providers_usable, sso_fine),
    (no_directories, directories_seen, directories_reachable, directories_fine),
    (no_door, certificate_present, certificate_good, door_rests, door_serves, door_fine),
)

_NOT_LOOKED = {
    ConditionType.STORAGE_READY,
    ConditionType.ENCRYPTION_READY,
    ConditionType.NETWORK_ISOLATED,
    ConditionType.WORKLOAD_READY,
    ConditionType.REPLICATION_HEALTHY,
    ConditionType.SSO_CONFIGURED,
    ConditionType.DIRECTORY_REACHABLE,
    ConditionType.FRONT_DOOR_READY,
}


def judge(view: TenantView) -> tuple[Verdict, ...]:
    """One verdict for each condition, in a fixed order; behind one that blocks the others are Unknown."""
    verdicts: list[Verdict] = []
    for chain in CHAINS:
        verdict = next(v for rule in chain if (v := rule(view)) is not None)
        verdicts.append(verdict)
        if verdict.blocks:
            seen = {v.type for v in verdicts}
            verdicts += [
                Verdict(t, "Unknown", "Blocked", f"Not looked at while {verdict.type} is {verdict.status}.")
                for t in ConditionType
                if t in _NOT_LOOKED - seen
            ]
            break
    return tuple(verdicts)


def blocking(verdicts: tuple[Verdict, ...]) -> Verdict | None:
    """The verdict that forbids any change, if there is one."""
    return next((v for v in verdicts if v.blocks), None)


_READY_NEEDS = (
    ConditionType.RESIDENCY_COMPLIANT,
    ConditionType.STORAGE_READY,
    ConditionType.ENCRYPTION_READY,
    ConditionType.NETWORK_ISOLATED,
    ConditionType.WORKLOAD_READY,
    ConditionType.SSO_CONFIGURED,
    ConditionType.FRONT_DOOR_READY,
)
# Not all is well, and yet the tenant is served.
_SERVED_NONETHELESS = {"PeerNotVerified", PROVIDER_FAILED}


def ready(view: TenantView, verdicts: tuple[Verdict, ...]) -> Verdict:
    """Ready: every condition that serving needs holds. A standby is ready, too, with reason Standby.

    Replication isn't needed to serve; what can't be verified during an outage of the peer doesn't stop the survivor.
    """
    by_type = {v.type: v for v in verdicts}
    for kind in _READY_NEEDS:
        verdict = by_type[kind]
        if verdict.status != "True" and verdict.reason not in _SERVED_NONETHELESS:
            return Verdict(ConditionType.READY, "False", verdict.reason, verdict.message)
    if view.role is Role.STANDBY:
        return Verdict(ConditionType.READY, "True", "Standby", by_type[ConditionType.WORKLOAD_READY].message)
    return Verdict(ConditionType.READY, "True", "Serving", "The tenant is served here.")


# Reasons that time heals: everything else waits for a person.
_PASSING = {
    "Progressing",
    "AwaitingIdentity",
    "AwaitingBucket",
    "AwaitingKey",
    "ClaimPending",
    "PoliciesMissing",
    "NoLease",
    "Restoring",
    "StoreUnreachable",
    "StoreNotVerified",
    "AwaitingRealm",
    "IdentityServerUnreachable",
}


def progress(verdict: Verdict) -> Verdict | None:
    """Reconciling while time will heal what keeps Ready from True, Stalled where a person must act (kstatus)."""
    if verdict.status == "True":
        return None
    kind = ConditionType.RECONCILING if verdict.reason in _PASSING else ConditionType.STALLED
    return Verdict(kind, "True", verdict.reason, verdict.message)
