"""Single sign-on of a tenant: who vouches for its people, how often, and what each of them may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from domicile.api.common import LIST_ATOMIC, LIST_SET, NOT_OURS, DnsLabel, Model, cel, list_map, validations
from domicile.api.profiles import (
    EntraProvider,
    GoogleProvider,
    OktaProvider,
    OneLoginProvider,
    Registration,
)

MAX_SESSION_SECONDS = 86400


class PersonRole(StrEnum):
    """What a person may do. A manager sees only the assistants that are granted to them."""

    OWNER = "owner"
    ADMIN = "admin"
    MANAGER = "manager"
    MEMBER = "member"


class MfaMode(StrEnum):
    """Who asks for the second factor: this zone's identity server, or the provider that people come from."""

    LOCAL = "local"
    UPSTREAM = "upstream"


class Mfa(Model):
    """The decision about the second factor that every provider needs."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.mode == 'upstream' ? has(self.claim) && has(self.values) : !has(self.claim) && !has(self.values)",
                "claim and values are required with mode upstream, and unknown to mode local",
            ),
            cel(
                "!has(self.claim) || !(self.claim in ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'typ', 'azp'])",
                "this claim says nothing of a second factor; providers say it in acr, amr or a claim of their own",
            ),
        ),
    )

    mode: Annotated[
        MfaMode,
        Field(
            description="local: a one-time password here. upstream: the provider's ID token must say in a claim that"
            " it asked for one."
        ),
    ]
    claim: Annotated[
        str | None,
        Field(
            description="Claim of the provider's ID token, such as acr or amr.",
            pattern=r"^[A-Za-z0-9_]+$",
            max_length=64,
        ),
    ] = None
    values: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9:/._#-]+$", max_length=200)]] | None,
        Field(
            description="Values of the claim that mean a second factor; any other login is refused.",
            min_length=1,
            max_length=16,
            json_schema_extra=LIST_SET,
        ),
    ] = None


class RoleMapping(Model):
    """People of a group at their provider get a role here, from one login to the next."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.role == 'manager' || !has(self.assistants) || self.assistants.size() == 0",
                "assistants are granted to the role manager; every other role is for all of them",
            ),
            cel(
                "self.role != 'manager' || (has(self.assistants) && self.assistants.size() > 0)",
                "a manager needs assistants: without a grant they would see none",
            ),
        ),
    )

    group: Annotated[str, Field(description="The group, as the provider names it.", min_length=1, max_length=256)]
    role: Annotated[PersonRole, Field(description="The role that its people have.")]
    assistants: Annotated[
        list[DnsLabel],
        Field(
            description="Assistants that managers of the group see.",
            max_length=16,
            json_schema_extra=LIST_SET,
        ),
    ] = []


class OidcProvider(Registration):
    """An OpenID Connect provider, found by its discovery document."""

    issuer: Annotated[
        str,
        Field(
            description="Issuer URL; <issuer>/.well-known/openid-configuration is read.",
            pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$",
            max_length=512,
        ),
    ]
    groups_claim: Annotated[
        str,
        Field(
            description="Claim that lists a person's groups; a dot leads into an object.",
            pattern=r"^[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64})*$",
            max_length=256,
        ),
    ] = "groups"


class SignatureAlgorithm(StrEnum):
    """How an issuer signs ID tokens (RFC 7518, section 3.1); all by keys that it publishes."""

    RS256 = "RS256"
    ES256 = "ES256"
    PS256 = "PS256"


class SecondFactor(Model):
    """How an ID token says that a second factor was given."""

    claim: Annotated[
        str,
        Field(
            description="Claim of the ID token, such as acr or amr. acr is also asked for at each login.",
            pattern=r"^[A-Za-z0-9_]+$",
            max_length=64,
            json_schema_extra=validations(
                cel(
                    "!(self in ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'typ', 'azp', 'nonce'])",
                    "this claim says nothing of a second factor; issuers say it in acr, amr or a claim of their own",
                )
            ),
        ),
    ]
    values: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9:/._-]+$", max_length=200)]],
        Field(
            description="Values of the claim that mean a second factor; any other login opens nothing.",
            min_length=1,
            max_length=16,
            json_schema_extra=LIST_SET,
        ),
    ]


class ExternalIssuer(OidcProvider):
    """An OpenID Connect issuer of somebody else's, by whose ID tokens people are known here: there is no realm.

    The zone must have it among its ``externalIssuers``.
    """

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.roleMappings) || self.roleMappings.all(m, m.group.matches('^[A-Za-z0-9._~:/?&=,+@() -]+$'))",
                "with external a group consists of letters without accents, digits, spaces and . _ ~ : / ? & = , +"
                " @ ( ) - only: the front door compares it as it is",
            ),
            cel(
                "self.clientId.matches('^[A-Za-z0-9._~:/@+=-]+$')",
                "with external clientId consists of letters, digits and . _ ~ : / @ + = - only",
            ),
        ),
    )

    algorithm: Annotated[
        SignatureAlgorithm,
        Field(description="How the issuer signs our ID tokens; one that is signed otherwise, or not, is refused."),
    ] = SignatureAlgorithm.RS256
    scopes: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9:/._-]+$", max_length=200)]],
        Field(
            description="Scopes to ask for beside openid, such as groups.",
            max_length=8,
            json_schema_extra=LIST_SET
            | validations(
                cel(
                    "!('offline_access' in self)",
                    "offline_access is of no use: no token is renewed, the issuer is asked again",
                )
            ),
        ),
    ] = []
    mfa: Annotated[SecondFactor, Field(description="How its ID tokens say that a second factor was given.")]
    role_mappings: Annotated[
        list[RoleMapping],
        Field(
            description="Roles by exact values of groupsClaim. Who has none of these gets in nowhere.",
            max_length=64,
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = []

    @property
    def name(self) -> str:
        """What it is called among the places that people come from."""
        return "external"

    @property
    def secret(self) -> tuple[str, str]:
        """Name and key of the Secret that it needs."""
        return self.client_secret, "client-secret"


class SamlProvider(Model):
    """A SAML 2.0 identity provider, described by its metadata; its assertions must be signed."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.metadataUrl) != has(self.metadataSecret)", "set exactly one of metadataUrl and metadataSecret"
            )
        ),
    )

    metadata_url: Annotated[
        str | None,
        Field(
            description="URL of its metadata, which is read again and again: a new signing certificate is followed.",
            pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/?=&%-]*)?$",
            max_length=512,
        ),
    ] = None
    metadata_secret: Annotated[
        DnsLabel | None,
        Field(
            description="Secret in the tenant's namespace whose key metadata.xml holds its metadata; mirrored sealed to"
            " the peer.",
            json_schema_extra=validations(NOT_OURS),
        ),
    ] = None
    groups_attribute: Annotated[
        str,
        Field(description="Attribute that lists a person's groups.", pattern=r"^[A-Za-z0-9_.:/#-]{1,256}$"),
    ] = "groups"


class IdentityProvider(Model):
    """One place that people log in at."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "[has(self.oidc), has(self.saml), has(self.google), has(self.entra), has(self.okta),"
                " has(self.oneLogin)].exists_one(p, p)",
                "set exactly one of oidc, saml, google, entra, okta and oneLogin",
            ),
            cel(
                "!has(self.saml) || self.mfa.mode == 'local'",
                "mfa.mode upstream needs oidc: nothing checks what a SAML assertion says of the second factor",
            ),
            cel(
                "!has(self.google) && !has(self.oneLogin) || self.mfa.mode == 'local'",
                "google and oneLogin need mfa.mode local: their ID tokens don't say that a second factor was given",
            ),
            cel(
                "!has(self.entra) || self.mfa.mode == 'local' || has(self.mfa.claim) && self.mfa.claim == 'acrs'"
                " && has(self.mfa.values) && self.mfa.values.all(v, v.matches('^c[1-9][0-9]?$'))",
                "entra tells of a second factor by authentication contexts only: set mfa.claim acrs and mfa.values to"
                " their ids, such as c1, or mfa.mode local",
            ),
            cel(
                "!has(self.okta) || self.mfa.mode == 'local' || has(self.mfa.claim) && self.mfa.claim == 'amr'"
                " && has(self.mfa.values) && self.mfa.values.all(v, v == 'mfa')",
                "okta tells of a second factor in the claim amr: set mfa.claim amr and mfa.values [mfa], or mfa.mode"
                " local",
            ),
            cel(
                "!has(self.google) || !has(self.roleMappings)"
                " || self.roleMappings.all(m, m.group == self.google.hostedDomain)",
                "google tells of no groups: the group of its role mappings is its hostedDomain",
            ),
        ),
    )

    name: Annotated[
        DnsLabel, Field(description="Name of the provider; part of the redirect URI that is registered there.")
    ]
    display_name: Annotated[str | None, Field(description="Text of its button.", min_length=1, max_length=64)] = None
    oidc: Annotated[OidcProvider | None, Field(description="OpenID Connect.")] = None
    saml: Annotated[SamlProvider | None, Field(description="SAML 2.0.")] = None
    google: Annotated[
        GoogleProvider | None, Field(description="Google Workspace or Cloud Identity, by OpenID Connect.")
    ] = None
    entra: Annotated[EntraProvider | None, Field(description="Microsoft Entra ID, by OpenID Connect.")] = None
    okta: Annotated[OktaProvider | None, Field(description="Okta, by OpenID Connect.")] = None
    one_login: Annotated[OneLoginProvider | None, Field(description="OneLogin, by OpenID Connect.")] = None
    mfa: Annotated[Mfa, Field(description="Who asks for the second factor.")]
    role_mappings: Annotated[
        list[RoleMapping],
        Field(
            description="Roles by group. Who is in none of these groups has no role and gets in nowhere.",
            max_length=64,
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = []

    @property
    def secret(self) -> tuple[str, str] | None:
        """Name and key of the Secret that it needs, if any."""
        if client := self.oidc or self.google or self.entra or self.okta or self.one_login:
            return client.client_secret, "client-secret"
        return (self.saml.metadata_secret, "metadata.xml") if self.saml and self.saml.metadata_secret else None


class DirectoryVendor(StrEnum):
    """Whose schema a directory has."""

    ACTIVE_DIRECTORY = "activeDirectory"
    OTHER = "other"


class Directory(Model):
    """An LDAP directory. Its people type their password here, and a one-time password; nothing is written to it."""

    name: Annotated[DnsLabel, Field(description="Name of the directory.")]
    vendor: Annotated[DirectoryVendor, Field(description="Whose schema it has; other: RFC 2798 (inetOrgPerson).")]
    url: Annotated[
        str, Field(description="Its URL, with TLS.", pattern=r"^ldaps://[A-Za-z0-9.-]+(:[0-9]+)?$", max_length=253)
    ]
    bind_dn: Annotated[str, Field(description="Who looks people up; reading is enough.", min_length=1, max_length=256)]
    bind_secret: Annotated[
        DnsLabel,
        Field(
            description="Secret in the tenant's namespace whose key bind-password holds the password; mirrored sealed"
            " to the peer.",
            json_schema_extra=validations(NOT_OURS),
        ),
    ]
    users_dn: Annotated[str, Field(description="Below it are the people.", min_length=1, max_length=256)]
    groups_dn: Annotated[str, Field(description="Below it are the groups.", min_length=1, max_length=256)]
    role_mappings: Annotated[
        list[RoleMapping],
        Field(description="Roles by the group's cn.", max_length=64, json_schema_extra=LIST_ATOMIC),
    ] = []

    @property
    def secret(self) -> tuple[str, str]:
        """Name and key of the Secret that it needs."""
        return self.bind_secret, "bind-password"


class Session(Model):
    """How long a login lasts."""

    idle_seconds: Annotated[
        int, Field(description="A session ends after so many seconds without a request.", ge=300, le=86400)
    ] = 1800
    max_seconds: Annotated[
        int,
        Field(
            description="A session ends so many seconds after the login, whatever happens.",
            ge=300,
            le=MAX_SESSION_SECONDS,
        ),
    ] = 28800


class Passwords(Model):
    """Accounts of the tenant's own: which passwords they may not have, and which of them is kept for emergencies."""

    breached_list: Annotated[
        str | None,
        Field(
            description="File of known passwords in the identity server's folder data/password-blacklists, one on a"
            " line, in lower case; none of them may be set.",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            max_length=128,
        ),
    ] = None
    break_glass: Annotated[
        str | None,
        Field(
            description="User name of an owner's account for emergencies, no person's name; each of its logins is a"
            " Warning event.",
            pattern=r"^[a-z0-9][a-z0-9._-]{2,63}$",
        ),
    ] = None
    dormant_days: Annotated[
        int | None,
        Field(
            description="Accounts without a login for so many days are disabled; logins are kept as long. Default:"
            " none is.",
            ge=7,
            le=400,
        ),
    ] = None


class Sso(Model):
    """Who gets in."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.directories) || !has(self.identityProviders)"
                " || !self.directories.exists(d, self.identityProviders.exists(p, p.name == d.name))",
                "a directory and an identity provider can't have the same name",
            ),
            cel(
                "!has(self.passwords) || (has(self.localUsers) && self.localUsers)",
                "passwords is about accounts of the tenant's own: set localUsers, too",
            ),
            cel(
                "!has(self.external) || ((!has(self.identityProviders) || self.identityProviders.size() == 0)"
                " && (!has(self.directories) || self.directories.size() == 0)"
                " && !(has(self.localUsers) && self.localUsers) && !has(self.passwords))",
                "external stands alone: identityProviders, directories, localUsers and passwords are of the zone's own"
                " identity server; an external issuer sees to accounts and passwords itself",
            ),
        ),
    )

    identity_providers: Annotated[
        list[IdentityProvider],
        Field(
            description="Providers on the login page, side by side.",
            max_length=16,
            json_schema_extra=list_map("name"),
        ),
    ] = []
    directories: Annotated[
        list[Directory],
        Field(
            description="Directories that people log in from by name and password.",
            max_length=4,
            json_schema_extra=list_map("name"),
        ),
    ] = []
    local_users: Annotated[
        bool,
        Field(description="People may also have an account of this tenant's own, with password and one-time password."),
    ] = False
    external: Annotated[
        ExternalIssuer | None,
        Field(description="An OpenID Connect issuer in place of the zone's identity server."),
    ] = None
    passwords: Annotated[Passwords | None, Field(description="More about accounts of the tenant's own.")] = None
    session: Annotated[Session, Field(description="How long a login lasts.")] = Session()

    @property
    def sources(self) -> tuple[IdentityProvider | Directory | ExternalIssuer, ...]:
        """All places that people come from."""
        return (*self.identity_providers, *self.directories, *((self.external,) if self.external else ()))
