"""Who logs in: the conditions SSOConfigured and DirectoryReachable."""

from __future__ import annotations

from domicile.api.conditions import ConditionType
from domicile.controllers.tenant import login
from domicile.controllers.tenant.rules import external
from domicile.controllers.tenant.rules.grants import granted_assistants_exist
from domicile.controllers.tenant.rules.verdict import Rule, Verdict, no
from domicile.controllers.tenant.view import TenantView

PROVIDER_FAILED = "ProviderFailed"
NO_LOGINS = "NotAskedFor"


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


def way_leads(view: TenantView) -> Verdict | None:
    """Where the site has a way out for it, the zone's networks must be such that it may lead there."""
    if (why := login.fault(view)) is None:
        return None
    return no(
        ConditionType.SSO_CONFIGURED,
        "LoginAddressRefused",
        f"The way out does not lead to who logs people in: {why}. Correct it in zone {view.spec.zone}.",
    )


def identity_server_named(view: TenantView) -> Verdict | None:
    """People log in at the zone's own identity server."""
    if view.zone is None or view.zone.spec.identity is not None:
        return None
    return no(
        ConditionType.SSO_CONFIGURED,
        "NoIdentityServer",
        f"Zone {view.spec.zone} names no identity server: add spec.identity to the ResidencyZone.",
    )


def realm_seen_to(view: TenantView) -> Verdict | None:
    """The identity server must take what the spec asks for."""
    if view.realm is None:
        return Verdict(ConditionType.SSO_CONFIGURED, "Unknown", "AwaitingRealm", "The tenant has no realm yet.")
    return None if view.realm.error is None else no(ConditionType.SSO_CONFIGURED, *view.realm.error)


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
        return no(ConditionType.SSO_CONFIGURED, "NobodyCanLogIn", f"{told} There is no other way in.")
    return no(ConditionType.SSO_CONFIGURED, PROVIDER_FAILED, f"{told} All others work.")


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
    return no(ConditionType.DIRECTORY_REACHABLE, "DirectoryUnreachable", told)


def directories_fine(_: TenantView) -> Verdict:
    """The identity server logged in at each of them."""
    return Verdict(ConditionType.DIRECTORY_REACHABLE, "True", "Reachable", "Every directory answers and lets us read.")


# In the order in which a person would mend them. Each chain ends with the rule that states success.


LOGINS: tuple[Rule, ...] = (
    nobody_logs_in,
    way_leads,
    external.issuer_used,
    identity_server_named,
    granted_assistants_exist,
    realm_seen_to,
    providers_usable,
    sso_fine,
)
DIRECTORIES: tuple[Rule, ...] = (no_directories, directories_seen, directories_reachable, directories_fine)
