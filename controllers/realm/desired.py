"""What a tenant's realm should be: pure functions of its spec, in the words of Keycloak's Admin REST API.

Representations: https://www.keycloak.org/docs-api/latest/rest-api/ (RealmRepresentation and those within it). Only the
fields that carry a promise are named; a realm is as desired where it holds these values, whatever else it holds. An
empty text or list stands for none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domicile.api.sso import MfaMode, Passwords, PersonRole, Sso
from domicile.controllers.realm import directories, flows, providers
from domicile.controllers.realm.directories import Federation
from domicile.controllers.realm.flows import FEDERATED, LEVELS, MFA, Flow
from domicile.controllers.realm.mail import Mail
from domicile.controllers.realm.profiles import Upstream, expand
from domicile.controllers.realm.providers import grant, quoted

Object = dict[str, Any]

CLIENT = "front-door"
# Which tenant a realm belongs to; one of another id is somebody else's.
OWNER = "domicile.tenantId"
CALLBACK = "/oauth2/callback"
_TOKEN_SECONDS = 300
# A week is enough to look into an alert; names and addresses of people are kept no longer than they are of use.
_EVENT_SECONDS = 7 * 86400
# Attribute of a realm: from when on (Unix time) every login is on record for as long as it is to be kept.
LOGINS_KNOWN_SINCE = "domicile.loginsKnownSince"
BREACHED = "passwordBlacklist"
LOGIN = "LOGIN"
# The last: a wrong one-time password of somebody who came by an identity provider.
FAILED_LOGINS = ("LOGIN_ERROR", "IDENTITY_PROVIDER_POST_LOGIN_ERROR")
# Actions by which people manage their own second factor and, with local users, their password and show that their
# address is theirs; names as in Keycloak.
ACTIONS = {"CONFIGURE_TOTP": "Configure OTP", "UPDATE_PASSWORD": "Update Password", "VERIFY_EMAIL": "Verify Email"}
# As long as the login that the link belongs to; the same for mail that was slow is another login.
_LINK_SECONDS = 900

# What Keycloak sends with its login pages unless told otherwise; no report leaves, for it would name the page's URL.
_HEADERS = {
    "contentSecurityPolicy": "frame-src 'self'; frame-ancestors 'self'; object-src 'none';",
    "contentSecurityPolicyReportOnly": "",
    "referrerPolicy": "no-referrer",
    "strictTransportSecurity": "max-age=31536000; includeSubDomains",
    "xContentTypeOptions": "nosniff",
    "xFrameOptions": "SAMEORIGIN",
    "xRobotsTag": "none",
}


@dataclass(frozen=True)
class Desired:
    """A realm as it should be. ``providers`` lack what their metadata says; ``metadata`` has it where it is no URL."""

    name: str
    settings: Object
    flows: tuple[Flow, ...]
    roles: tuple[str, ...]
    client: Object
    providers: tuple[Object, ...]
    mappers: Mapping[str, tuple[Object, ...]]
    actions: frozenset[str]
    metadata: Mapping[str, str]
    federations: tuple[Federation, ...]

    @property
    def owner(self) -> str:
        """Id of the tenant whose realm it is."""
        return str(self.settings["attributes"][OWNER])

    @property
    def closed_flow(self) -> str:
        """Alias of the flow that lets nobody in."""
        return str(self.settings["directGrantFlow"])


@dataclass(frozen=True)
class Subject:
    """Whose realm it is. ``secrets``: what each provider's Secret holds, by its name; None where that is missing.

    ``versions``: resource versions of these Secrets, as far as they are known.
    """

    tenant: str
    tenant_id: str
    assistants: tuple[str, ...]
    host: str
    client_secret: str
    secrets: Mapping[str, str | None]
    versions: Mapping[str, str] = field(default_factory=dict)


def realm_name(tenant: str, tenant_id: str) -> str:
    """Name of a tenant's realm. A tenant that reuses the name of another gets another realm."""
    return f"{tenant}-{tenant_id[:8]}"


def build(subject: Subject, sso: Sso, mail: Mail | None = None) -> Desired:
    """The realm that a tenant's spec asks for; ``mail``: the zone's mail server, if it has one."""
    upstreams = [expand(p) for p in sso.identity_providers]
    used = _flows(sso, upstreams)
    roles = (*(r.value for r in PersonRole), *(grant(a) for a in subject.assistants))
    ready = [(u, u.provider) for u in upstreams if subject.secrets.get(u.provider.name) is not None]
    return Desired(
        name=realm_name(subject.tenant, subject.tenant_id),
        settings=_settings(subject, sso, used, mail),
        flows=tuple(used.values()),
        roles=(*roles, FEDERATED),
        client=_client(subject),
        providers=tuple(
            providers.build(u, subject.secrets[p.name] or "", used["first"].alias, used[p.mfa.mode].alias)
            for u, p in ready
        ),
        mappers={p.name: providers.mappers(p, roles) for _, p in ready},
        metadata={p.name: subject.secrets[p.name] or "" for _, p in ready if p.saml and p.saml.metadata_secret},
        federations=tuple(
            directories.build(d, password, roles, subject.tenant_id)
            for d in sso.directories
            if (password := subject.secrets.get(d.name)) is not None
        ),
        actions=frozenset(ACTIONS if sso.local_users else {"CONFIGURE_TOTP"}),
    )


def _flows(sso: Sso, upstreams: list[Upstream]) -> dict[str, Flow]:
    """The flows that this realm needs, by what they are for."""
    used = {
        "browser": flows.browser(own=sso.local_users, directories=bool(sso.directories)),
        "closed": flows.closed(),
    }
    after = {MfaMode.LOCAL: flows.after_login_local, MfaMode.UPSTREAM: flows.after_login_upstream}
    for mode in sorted({u.provider.mfa.mode for u in upstreams}):
        used |= {"first": flows.first_login(), mode: after[mode]()}
    return used


def _settings(subject: Subject, sso: Sso, used: Mapping[str, Flow], mail: Mail | None) -> Object:
    most, idle = sso.session.max_seconds, sso.session.idle_seconds
    return {
        "enabled": True,
        "displayName": subject.tenant,
        "sslRequired": "all",
        "registrationAllowed": False,
        "resetPasswordAllowed": False,
        "editUsernameAllowed": False,
        "rememberMe": False,
        # Whoever vouches for an e-mail address gets no account that another provider, or a person here, has made.
        "loginWithEmailAllowed": False,
        "duplicateEmailsAllowed": True,
        "verifyEmail": sso.local_users,
        "smtpServer": mail.to_wire() if mail and sso.local_users else {},
        "userManagedAccessAllowed": False,
        # Organizations ask for the name first, and choose the provider by it.
        "organizationsEnabled": False,
        "bruteForceProtected": True,
        "bruteForceStrategy": "MULTIPLE",
        "quickLoginCheckMilliSeconds": 1000,
        "minimumQuickLoginWaitSeconds": 60,
        "permanentLockout": False,
        "failureFactor": 5,
        "waitIncrementSeconds": 60,
        "maxFailureWaitSeconds": 900,
        "maxDeltaTimeSeconds": 43200,
        "passwordPolicy": _password_policy(subject.tenant, sso.passwords),
        "otpPolicyType": "totp",
        "otpPolicyAlgorithm": "HmacSHA1",
        "otpPolicyInitialCounter": 0,
        "otpPolicyDigits": 6,
        "otpPolicyPeriod": 30,
        "otpPolicyLookAheadWindow": 1,
        "otpPolicyCodeReusable": False,
        # Tokens by a shared key could be checked by nobody, or made by whoever checks them.
        "defaultSignatureAlgorithm": "RS256",
        "accessTokenLifespan": _TOKEN_SECONDS,
        "accessCodeLifespan": 60,
        "accessCodeLifespanLogin": _LINK_SECONDS,
        "ssoSessionIdleTimeout": idle,
        "ssoSessionMaxLifespan": most,
        "offlineSessionMaxLifespanEnabled": True,
        "offlineSessionMaxLifespan": most,
        "browserFlow": used["browser"].alias,
        "directGrantFlow": used["closed"].alias,
        "resetCredentialsFlow": used["closed"].alias,
        "registrationFlow": used["closed"].alias,
        **_events(sso.passwords),
        # A policy could choose another flow for a client, and say which level that one is.
        "clientPolicies": {"policies": []},
        "browserSecurityHeaders": _HEADERS,
        "attributes": {
            OWNER: subject.tenant_id,
            "acr.loa.map": json.dumps(LEVELS),
            "adminEventsExpiration": str(_EVENT_SECONDS),
            # A host of its own would make the realm another issuer.
            "frontendUrl": "",
            "actionTokenGeneratedByUserLifespan.verify-email": str(_LINK_SECONDS),
        },
    }


def _events(passwords: Passwords | None) -> Object:
    """What is kept of logins and of changes by administrators. Who is dormant can be told from logins alone."""
    days = passwords.dormant_days if passwords else None
    return {
        "eventsEnabled": True,
        "eventsExpiration": max(_EVENT_SECONDS, ((days or 0) + 1) * 86400),
        "enabledEventTypes": [LOGIN, *FAILED_LOGINS],
        # The listener for the server's log writes names and addresses into it, where they stay.
        "eventsListeners": [],
        # Who gave a single account a role is told nowhere else. Details would repeat what is in the account.
        "adminEventsEnabled": True,
        "adminEventsDetailsEnabled": False,
    }


def _password_policy(company: str, passwords: Passwords | None) -> str:
    # The pattern refuses the company's name in any case; lookaheads are as in java.util.regex.
    return " and ".join(
        (
            "length(12)",
            "upperCase(1)",
            "lowerCase(1)",
            "digits(1)",
            "specialChars(1)",
            "passwordHistory(10)",
            "notUsername(undefined)",
            "notContainsUsername(undefined)",
            "notEmail(undefined)",
            f"regexPattern((?i)(?!.*{quoted(company)}).*)",
            *((f"{BREACHED}({passwords.breached_list})",) if passwords and passwords.breached_list else ()),
        )
    )


def _client(subject: Subject) -> Object:
    home = f"https://{subject.host}"
    return {
        "clientId": CLIENT,
        "name": "Front door",
        "enabled": True,
        "protocol": "openid-connect",
        "publicClient": False,
        "bearerOnly": False,
        "clientAuthenticatorType": "client-secret",
        "secret": subject.client_secret,
        "standardFlowEnabled": True,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "serviceAccountsEnabled": False,
        "authorizationServicesEnabled": False,
        "consentRequired": False,
        "fullScopeAllowed": False,
        "frontchannelLogout": False,
        "redirectUris": [f"{home}{CALLBACK}"],
        "webOrigins": [],
        "authenticationFlowBindingOverrides": {},
        "rootUrl": "",
        "baseUrl": home,
        "adminUrl": "",
        # Tokens from before it count no more, and one in the future is no login at all.
        "notBefore": 0,
        "attributes": {
            "pkce.code.challenge.method": "S256",
            "post.logout.redirect.uris": f"{home}/",
            "backchannel.logout.url": f"{home}{CALLBACK}?logout=backchannel",
            "backchannel.logout.session.required": "true",
            "acr.loa.map": json.dumps(LEVELS),
            "default.acr.values": MFA,
            "minimum.acr.value": MFA,
            "oauth2.device.authorization.grant.enabled": "false",
            "oidc.ciba.grant.enabled": "false",
        },
        # No scopes: their mappers serve other clients, too, and whoever changes one would change our tokens.
        "defaultClientScopes": [],
        "optionalClientScopes": [],
        "protocolMappers": [
            _claim("sub", "oidc-sub-mapper"),
            _claim("acr", "oidc-acr-mapper"),
            _claim(
                "auth_time",
                "oidc-usersessionmodel-note-mapper",
                **{"user.session.note": "AUTH_TIME", "claim.name": "auth_time", "jsonType.label": "long"},
            ),
            _claim(
                "roles",
                "oidc-usermodel-realm-role-mapper",
                **{
                    "claim.name": "roles",
                    "jsonType.label": "String",
                    "multivalued": "true",
                    "userinfo.token.claim": "true",
                },
            ),
        ],
    }


def _claim(name: str, mapper: str, **config: str) -> Object:
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": mapper,
        "config": {
            "id.token.claim": "true",
            "access.token.claim": "true",
            "introspection.token.claim": "true",
            **config,
        },
    }
