"""Well-known identity providers as plain OpenID Connect: pure functions of the spec.

Issuers, scopes and claims are the documented ones:

* Google: https://developers.google.com/identity/openid-connect/openid-connect
* Microsoft Entra ID: https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc and
  https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference
* Okta: https://developer.okta.com/docs/concepts/auth-servers/ and
  https://developer.okta.com/docs/guides/customize-tokens-groups-claim/main/ and
  https://developer.okta.com/docs/api/openapi/okta-oauth/guides/client-auth
* OneLogin: https://developers.onelogin.com/openid-connect/api/provider-config and
  https://developers.onelogin.com/openid-connect/scopes
"""

from __future__ import annotations

from typing import NamedTuple

from domicile.api.profiles import Registration
from domicile.api.sso import IdentityProvider, Mfa, MfaMode, OidcProvider

_GOOGLE = "https://accounts.google.com"
_PROFILES = ("google", "entra", "okta", "one_login")
_GROUPS = ("groups",)
# New clients of Okta and OneLogin are set to it.
_BASIC = "client_secret_basic"


class ClaimFilter(NamedTuple):
    """Only a login whose ID token has one of the values in the claim counts."""

    claim: str
    values: tuple[str, ...]


class Upstream(NamedTuple):
    """An identity provider as the realm is built from it.

    ``provider`` has ``oidc`` or ``saml`` and no profile. ``scopes`` are asked for beside openid, profile and email.
    ``only`` is one filter, for Keycloak knows one for each provider. ``authentication`` is how we show our secret, by
    its name in OpenID Connect Core 1.0, section 9.
    """

    provider: IdentityProvider
    scopes: tuple[str, ...] = ()
    only: ClaimFilter | None = None
    authentication: str = "client_secret_post"


def expand(provider: IdentityProvider) -> Upstream:
    """A provider of any kind in plain words; one without a profile stays as it is."""
    mfa = provider.mfa
    proof = ClaimFilter(mfa.claim or "", tuple(sorted(mfa.values or ()))) if mfa.mode is MfaMode.UPSTREAM else None
    if google := provider.google:
        # The domain's filter takes the place of one on a second factor, so that is always asked for here.
        local = provider.model_copy(update={"mfa": Mfa(mode=MfaMode.LOCAL)})
        return Upstream(_plain(local, google, _GOOGLE, "hd"), only=ClaimFilter("hd", (google.hosted_domain,)))
    if entra := provider.entra:
        issuer = f"https://login.microsoftonline.com/{entra.tenant_id}/v2.0"
        return Upstream(_plain(provider, entra, issuer, entra.groups_claim.value), only=proof)
    if okta := provider.okta:
        # A custom authorization server refuses scopes that nobody has defined there; its groups claim needs none.
        server, scopes = (f"/oauth2/{okta.authorization_server}", ()) if okta.authorization_server else ("", _GROUPS)
        plain = _plain(provider, okta, f"https://{okta.domain}{server}", "groups")
        return Upstream(plain, scopes, proof, _BASIC)
    if one_login := provider.one_login:
        issuer = f"https://{one_login.subdomain}.onelogin.com/oidc/2"
        return Upstream(_plain(provider, one_login, issuer, "groups"), _GROUPS, proof, _BASIC)
    return Upstream(provider, only=proof)


def _plain(provider: IdentityProvider, client: Registration, issuer: str, groups_claim: str) -> IdentityProvider:
    oidc = OidcProvider(
        issuer=issuer, client_id=client.client_id, client_secret=client.client_secret, groups_claim=groups_claim
    )
    return provider.model_copy(update={**dict.fromkeys(_PROFILES), "oidc": oidc})
