"""How a door logs people in and out: mod_auth_openidc 2.4.12 as relying party of the tenant's realm or issuer.

OpenID Connect Core 1.0 (code flow), RFC 7636 (PKCE), RFC 9207 (``iss`` in answers), OpenID Connect Back-Channel and
RP-Initiated Logout 1.0. No userinfo endpoint is named: what it says is not signed, and would count like the ID token.
"""

from __future__ import annotations

from urllib.parse import quote

from domicile.controllers.door.door import CALLBACK, Claims, Door, Endpoints
from domicile.controllers.door.words import address, encoded_pattern, host, pattern, quoted, quoted_claim, whole, word

COOKIE = "__Host-door"
# Named in any case, so that the module takes no token that is signed otherwise, or not at all.
_ALGORITHMS = ("RS256", "ES256", "PS256")
_TOKEN_AUTHS = ("client_secret_basic", "client_secret_post")
_ANSWER = "(?:code|state|session_state|iss|error|error_description|error_uri)=[^&]*"


def provider(door: Door) -> list[str]:
    """The lines for the whole server: realm, client, sessions."""
    ends = door.endpoints
    home = f"https://{host(door.host, 'host')}"
    return [
        f"OIDCProviderIssuer {quoted(ends.issuer, 'issuer')}",
        f"OIDCProviderAuthorizationEndpoint {quoted(ends.authorization, 'authorization')}",
        f"OIDCProviderTokenEndpoint {quoted(ends.token, 'token')}",
        f"OIDCProviderTokenEndpointAuth {_one_of(ends.token_auth, _TOKEN_AUTHS, 'token_auth')}",
        f"OIDCProviderJwksUri {quoted(ends.jwks, 'jwks')}",
        *_logout(ends),
        "OIDCCABundlePath trust/ca.crt",
        "OIDCSSLValidateServer On",
        *([f"OIDCOutgoingProxy {quoted(address(door.proxy, 'proxy'), 'proxy')}"] if door.proxy else []),
        f"OIDCClientID {quoted(door.client_id, 'client_id')}",
        "Include secrets/secrets.conf",
        f'OIDCScope "{" ".join(("openid", *(word(scope, "a scope") for scope in door.scopes)))}"',
        "OIDCResponseType code",
        "OIDCPKCEMethod S256",
        f"OIDCIDTokenSignedResponseAlg {_one_of(door.algorithm, _ALGORITHMS, 'algorithm')}",
        f'OIDCRedirectURI "{home}{CALLBACK}"',
        f'OIDCDefaultURL "{home}/"',
        f'OIDCRedirectURLsAllowed "^{pattern(home, "host")}/"',
        "OIDCHTTPTimeoutLong 10",
        "OIDCHTTPTimeoutShort 5",
        "OIDCSessionType server-cache",
        # The bounds are the module's own.
        f"OIDCSessionInactivityTimeout {whole(door.idle_seconds, 'idle_seconds', 86400, 10)}",
        *_lasting(door),
        "OIDCCacheType redis",
        "OIDCCacheEncrypt On",
        f"OIDCRedisCacheServer {quoted(address(door.redis, 'redis'), 'redis')}",
        "OIDCRedisCacheConnectTimeout 2",
        "OIDCRedisCacheTimeout 2",
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


def _one_of(text: str, known: tuple[str, ...], what: str) -> str:
    if text not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}")
    return text


def _logout(ends: Endpoints) -> list[str]:
    told = "On" if ends.back_channel else "Off"
    ways = [] if ends.end_session is None else [ends.end_session]
    leads = [f"OIDCProviderEndSessionEndpoint {quoted(way, 'end_session')}" for way in ways]
    return [*leads, f"OIDCProviderBackChannelLogoutSupported {told}"]


def _lasting(door: Door) -> list[str]:
    most = whole(door.max_seconds, "max_seconds", 86400, 15)
    if door.renewed:
        return [
            f"OIDCSessionMaxDuration {most}",
            # Whoever was locked out or has lost a role is known to have when the token is renewed.
            "OIDCRefreshAccessTokenBeforeExpiry 30 logout_on_error",
        ]
    # Zero: as long as the ID token counts. An assistant takes it for no longer, so a session would be of no use then.
    return ["OIDCSessionMaxDuration 0"]


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
        *_from_the_issuer(door.endpoints),
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


def _from_the_issuer(ends: Endpoints) -> list[str]:
    """A code that another issuer gave must not go to this one (RFC 9207, section 2.4)."""
    if not ends.names_itself:
        return []
    return [
        f'RewriteCond %{{REQUEST_URI}} "={CALLBACK}"',
        'RewriteCond %{QUERY_STRING} "(?:^|&)code="',
        f'RewriteCond %{{QUERY_STRING}} "!(?:^|&)iss={encoded_pattern(ends.issuer, "issuer")}(?:&|$)"',
        "RewriteRule ^ - [R=400,L]",
    ]


def required(door: Door, *any_of: tuple[str, ...]) -> list[str]:
    """The lines of a section that wants the second factor, and a role of each of ``any_of``."""
    claims = door.claims
    factors = " ".join(quoted_claim(claims.mfa_claim, v, "a second factor") for v in claims.mfa_values)
    return [
        "AuthType openid-connect",
        # Without it a person who lacks a role would be sent to log in again, and again.
        "AuthzSendForbiddenOnFailure On",
        *_asked_for(door),
        "<RequireAll>",
        f"Require claim {factors}",
        *(_any_role(claims, roles) for roles in any_of),
        "</RequireAll>",
    ]


def _asked_for(door: Door) -> list[str]:
    # The module decodes %20 and encodes the text anew; it takes "+" for itself.
    values = "%20".join(word(v, "a second factor") for v in door.claims.mfa_values)
    asked = [f"acr_values={values}"] if door.claims.mfa_claim == "acr" else []
    if not door.renewed:
        asked.append(f"max_age={whole(door.max_seconds, 'max_seconds', 86400)}")
    return [f'OIDCPathAuthRequestParams "{"&".join(asked)}"'] if asked else []


def _any_role(claims: Claims, roles: tuple[str, ...]) -> str:
    values = roles if claims.values_of is None else [v for r in roles for v in claims.values_of.get(r, ())]
    if not values:
        # No value means any of them: a list of none would be no requirement at all.
        return "Require all denied"
    return f"Require claim {' '.join(quoted_claim(claims.roles_claim, v, 'a role') for v in dict.fromkeys(values))}"
