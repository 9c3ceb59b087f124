"""Well-known identity providers: what a tenant must say of each, and nothing that their documentation says already."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from domicile.api.common import NOT_OURS, DnsLabel, Model, cel, validations

_HOST = "^([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])+[a-z0-9-]{2,}$"
_GUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


class Registration(Model):
    """This tenant as a client at a provider."""

    client_id: Annotated[str, Field(description="Our client id at the provider.", min_length=1, max_length=256)]
    client_secret: Annotated[
        DnsLabel,
        Field(
            description="Secret in the tenant's namespace whose key client-secret holds our secret there; mirrored"
            " sealed to the peer.",
            json_schema_extra=validations(NOT_OURS),
        ),
    ]


class GoogleProvider(Registration):
    """Google Workspace or Cloud Identity, by OpenID Connect. Its people come from one domain and have no groups.

    https://developers.google.com/identity/openid-connect/openid-connect
    """

    hosted_domain: Annotated[
        str,
        Field(
            description="Domain of the organisation. Whoever comes with another Google account is refused.",
            max_length=253,
            json_schema_extra=validations(
                cel(
                    f"self.matches('{_HOST}')",
                    "hostedDomain is the organisation's domain alone, in lower case, such as bank.example",
                )
            ),
        ),
    ]


class EntraClaim(StrEnum):
    """What Entra ID tells of a person: object ids of groups, or roles of the app registration."""

    GROUPS = "groups"
    ROLES = "roles"


class EntraProvider(Registration):
    """Microsoft Entra ID in the global cloud, by OpenID Connect (v2.0).

    https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
    """

    tenant_id: Annotated[
        str,
        Field(
            description="Directory (tenant) ID.",
            max_length=36,
            json_schema_extra=validations(
                cel(
                    f"self.matches('{_GUID}')",
                    "tenantId is the Directory (tenant) ID, a GUID in lower case; common, organizations and consumers"
                    " stand for everybody's",
                )
            ),
        ),
    ]
    groups_claim: Annotated[
        EntraClaim,
        Field(
            description="What the group of a role mapping is. groups: a group's object id; nobody in more than 200"
            " groups has any. roles: the value of an app role."
        ),
    ] = EntraClaim.GROUPS


class OktaProvider(Registration):
    """Okta, by OpenID Connect.

    https://developer.okta.com/docs/concepts/auth-servers/
    """

    domain: Annotated[
        str,
        Field(
            description="Domain of the organisation at Okta, or its own domain for it.",
            max_length=253,
            json_schema_extra=validations(
                cel(
                    f"self.matches('{_HOST}')",
                    "domain is the Okta domain alone, in lower case, such as bank.okta.com: no https:// and no path",
                ),
                cel("!self.contains('-admin.okta')", "domain with -admin is Okta's console: leave -admin out"),
            ),
        ),
    ]
    authorization_server: Annotated[
        str | None,
        Field(
            description="Id of a custom authorization server, such as default. Unset: the organisation's own.",
            pattern=r"^[A-Za-z0-9]{1,64}$",
        ),
    ] = None


class OneLoginProvider(Registration):
    """OneLogin, by OpenID Connect (version 2).

    https://developers.onelogin.com/openid-connect/api/provider-config
    """

    subdomain: Annotated[
        str,
        Field(
            description="What stands before .onelogin.com in the organisation's address.",
            max_length=63,
            json_schema_extra=validations(
                cel(
                    "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
                    "subdomain is what stands before .onelogin.com, in lower case, such as bank",
                )
            ),
        ),
    ]
