"""How a door logs people in and out: mod_auth_openidc 2.4.12 as relying party of the tenant's realm.

OpenID Connect Core 1.0 (code flow), RFC 7636 (PKCE), OpenID Connect Back-Channel and RP-Initiated Logout 1.0.
"""

from __future__ import annotations

from urllib.parse import quote

from domicile.controllers.door.door import CALLBACK, Door
from domicile.controllers.door.words import address, host, pattern, quoted, whole

COOKIE = "__Host-door"
_ANSWER = "(?:code|state|session_state|iss|error|error_description|error_uri)=[^&]*"


def provider(door: Door) -> list[str]:
    """The lines for the whole server: realm, client, sessions."""
    ends = door.endpoints
    home = f"https://{host(door.host, 'host')}"
    return [
        f"OIDCProviderIssuer {quoted(ends.issuer, 'issuer')}",
        f"OIDCProviderAuthorizationEndpoint {quoted(ends.authorization, 'authorization')}",
        f"OIDCProviderTokenEndpoint {quoted(ends.token, 'token')}",
        "OIDCProviderTokenEndpointAuth client_secret_basic",
        f"OIDCProviderJwksUri {quoted(ends.jwks, 'jwks')}",
        f"OIDCProviderEndSessionEndpoint {quoted(ends.end_session, 'end_session')}",
        "OIDCProviderBackChannelLogoutSupported On",
        "OIDCCABundlePath trust/ca.crt",
        "OIDCSSLValidateServer On",
        f"OIDCClientID {quoted(door.client_id, 'client_id')}",
        "Include secrets/secrets.conf",
        "OIDCScope openid",
        "OIDCResponseType code",
        "OIDCPKCEMethod S256",
        "OIDCIDTokenSignedResponseAlg RS256",
        f'OIDCRedirectURI "{home}{CALLBACK}"',
        f'OIDCDefaultURL "{home}/"',
        f'OIDCRedirectURLsAllowed "^{pattern(home, "host")}/"',
        "OIDCHTTPTimeoutLong 10",
        "OIDCHTTPTimeoutShort 5",
        "OIDCSessionType server-cache",
        # The bounds are the module's own.
        f"OIDCSessionInactivityTimeout {whole(door.idle_seconds, 'idle_seconds', 86400, 10)}",
        f"OIDCSessionMaxDuration {whole(door.max_seconds, 'max_seconds', 86400, 15)}",
        "OIDCCacheType redis",
        "OIDCCacheEncrypt On",
        f"OIDCRedisCacheServer {quoted(address(door.redis, 'redis'), 'redis')}",
        "OIDCRedisCacheConnectTimeout 2",
        "OIDCRedisCacheTimeout 2",
        # Whoever was locked out or has lost a role is known to have when the token is renewed.
        "OIDCRefreshAccessTokenBeforeExpiry 30 logout_on_error",
        f"OIDCCookie {COOKIE}",
        f"OIDCStateCookiePrefix {COOKIE}-",
        "OIDCCookieHTTPOnly On",
        "OIDCCookieSameSite On",
        # As long as the identity server waits for somebody who logs in.
        "OIDCStateTimeout 900",
        "OIDCStateMaxNumberOfCookies 7 true",
        "OIDCRemoteUserClaim sub",
        # The proxy hands on no environment: what the door knows of a person stays here but for the one header.
        "OIDCPassClaimsAs environment",
        "OIDCPassIDTokenAs serialized",
    ]


def callback(door: Door) -> list[str]:
    """The lines that guard the callback: it takes answers of the realm and two kinds of logout, and nothing else.

    mod_auth_openidc has more uses for it, such as starting a login at an issuer that the link names.
    """
    home = f"https://{host(door.host, 'host')}/"
    plain, encoded = pattern(home, "host"), pattern(quote(home, safe=""), "host")
    return [
        f'RewriteCond %{{REQUEST_URI}} "={CALLBACK}"',
        f'RewriteCond "%{{REQUEST_METHOD}} %{{QUERY_STRING}}" "!^GET {_ANSWER}(?:&{_ANSWER})*$"',
        'RewriteCond "%{REQUEST_METHOD} %{QUERY_STRING}" "!^POST logout=backchannel$"',
        f'RewriteCond "%{{REQUEST_METHOD}} %{{QUERY_STRING}}" "!^GET logout=(?:{plain}|{encoded})$"',
        "RewriteRule ^ - [R=404,L]",
        # A page of somebody else's must not log people out. Browsers say where a request comes from (Fetch Metadata);
        # old ones send at least a Referer.
        f'RewriteCond %{{REQUEST_URI}} "={CALLBACK}"',
        'RewriteCond %{QUERY_STRING} "^logout=http"',
        'RewriteCond %{HTTP:Sec-Fetch-Site} "!^(?:same-origin|none)$"',
        f'RewriteCond "%{{HTTP:Sec-Fetch-Site}} %{{HTTP:Referer}}" "!^ {plain}"',
        "RewriteRule ^ - [F,L]",
        f"<Location {CALLBACK}>",
        "AuthType openid-connect",
        "Require valid-user",
        "</Location>",
    ]


def required(door: Door, *any_of: tuple[str, ...]) -> list[str]:
    """The lines of a section that wants the second factor, and a role of each of ``any_of``."""
    acr = quoted(f"acr:{door.acr}", "acr")
    return [
        "AuthType openid-connect",
        # Without it a person who lacks a role would be sent to log in again, and again.
        "AuthzSendForbiddenOnFailure On",
        f"OIDCPathAuthRequestParams {quoted(f'acr_values={door.acr}', 'acr')}",
        "<RequireAll>",
        f"Require claim {acr}",
        *(f"Require claim {' '.join(quoted(f'roles:{role}', 'a role') for role in roles)}" for roles in any_of),
        "</RequireAll>",
    ]
