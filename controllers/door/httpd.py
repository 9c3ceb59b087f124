"""The config of a front door's Apache httpd 2.4, with mod_auth_openidc, ModSecurity and mod_qos.

Relative paths start at the folder where the supervisor (``domicile.gateway.door``) lays out what is mounted, so that a
reload sees all of a change or nothing of it. No secret is in the text.
"""

from __future__ import annotations

from itertools import chain

from domicile.controllers.door import firewall, headers, limits, login, server
from domicile.controllers.door.door import ADMINISTRATORS, EVERYWHERE, OWN, Assistant, Door, PathRule, Secrets
from domicile.controllers.door.words import address, label, path_pattern, quoted_secret, whole

__all__ = ["Door", "Secrets", "render", "render_secrets"]

# mod_remoteip before mod_headers: at the same point of a request they run in this order.
_MODULES = (
    "remoteip", "mpm_event", "authn_core", "authz_core", "authz_user", "alias", "headers", "proxy", "proxy_http",
    "reqtimeout", "rewrite", "setenvif", "socache_shmcb", "ssl", "unique_id", "auth_openidc", "security2",
    "qos",
)  # fmt: skip
_PAGES = {
    400: "The request is malformed, or says of itself what only the front door may say.",
    403: "This is not open to you. Ask your administrator for access, or reword what you sent.",
    413: "This is too large. Send less at a time.",
    429: "Too many requests. Wait for the seconds in Retry-After, then try again.",
    # What ModSecurity answers to a body that ends too early, and mod_proxy where it can't verify the other end.
    500: "The front door can't read this, or what answered is not whom it should be. Is the body what its Content-Type"
    " says? Then tell your administrator.",
    502: "The assistant does not answer. Try again in a minute.",
    503: "The assistant does not answer. Try again in a minute.",
    504: "The assistant did not answer in time. Try again in a minute.",
}


def render(door: Door) -> str:
    """The config, to be mounted as ``httpd.conf``. Raises ValueError, saying which field is wrong."""
    names = [label(a.name, "an assistant's name") for a in door.assistants]
    if not names or OWN in names or len(set(names)) != len(names):
        raise ValueError(f"a door needs assistants, each with a name of its own other than {OWN}")
    body = whole(door.limits.body_bytes, "body_bytes")
    parts = (
        _server(door, body),
        server.log({"assistant": "%{assistant}e"}),
        login.provider(door),
        firewall.directives(body, door.exclusions, server.RUNTIME),
        limits.everywhere(door.limits, bool(door.edge.cidrs)),
        server.health(door.health_port, "SecRuleEngine Off"),
        # Without a name of its own it would send browsers to the port that it listens on.
        [f"<VirtualHost *:{door.https_port}>", server.name(door.host)],
        server.logged(firewall.METHODS),
        server.tls(),
        server.clients("edge/ca.crt") if door.edge.client_ca else [],
        _way_in(),
        ["RewriteEngine On"],
        headers.arriving(door),
        server.only(door.host),
        limits.here(door.limits),
        headers.departing(door),
        # What nobody has opened below is closed.
        ["<Location />", "Require all denied", "</Location>"],
        login.callback(door),
        _start(door),
        *(_assistant(door, assistant) for assistant in door.assistants),
        ["</VirtualHost>"],
    )
    return "\n".join(chain.from_iterable(parts)) + "\n"


def render_secrets(secrets: Secrets) -> str:
    """What the config includes as ``secrets/secrets.conf``. Raises ValueError, naming the field and not its value."""
    lines = (
        f"OIDCClientSecret {quoted_secret(secrets.client_secret, 'client_secret')}",
        f"OIDCCryptoPassphrase {quoted_secret(secrets.passphrase, 'passphrase')}",
        f'OIDCRedisCacheUsername "{label(secrets.redis_user, "redis_user")}"',
        f"OIDCRedisCachePassword {quoted_secret(secrets.redis_password, 'redis_password')}",
    )
    return "\n".join(lines) + "\n"


def _server(door: Door, body: int) -> list[str]:
    return [
        server.listen(door.https_port, "https", "https_port"),
        server.listen(door.health_port, "http", "health_port"),
        server.name(door.host),
        f"SSLSessionCache shmcb:{server.RUNTIME}/tls(512000)",
        *server.core(_MODULES, body, _PAGES),
    ]


def _way_in() -> list[str]:
    """How the door and an assistant's pods prove themselves to each other; theirs is checked by the name in the URL."""
    return [
        "SSLProxyEngine On",
        "SSLProxyProtocol -all +TLSv1.3",
        "SSLProxyVerify require",
        "SSLProxyVerifyDepth 1",
        "SSLProxyCheckPeerName On",
        "SSLProxyCACertificateFile pods/ca.crt",
        "SSLProxyMachineCertificateFile pods/identity.pem",
    ]


def _start(door: Door) -> list[str]:
    """``/`` leads to the only assistant, or lists those that there are to whoever has logged in."""
    names = [a.name for a in door.assistants]
    if len(names) == 1:
        return [f"RewriteRule ^/$ /{names[0]}/ [R=302,L]"]
    links = "".join(f"<li><a href=/{name}/>{name}</a>" for name in names)
    return [
        '<LocationMatch "^/$">',
        *login.required(door),
        "Redirect 200 /",
        f'ErrorDocument 200 "<!doctype html><title>Assistants</title><ul>{links}</ul>"',
        "</LocationMatch>",
    ]


def _assistant(door: Door, assistant: Assistant) -> list[str]:
    name = assistant.name
    usual = (*EVERYWHERE, f"assistant.{name}")
    target = address(assistant.upstream, f"the upstream of {name}")
    lines = [
        f"RewriteRule ^/{name}$ /{name}/ [R=302,L]",
        f'SetEnvIf Request_URI "^/{name}/" assistant={name}',
        # Idle connections end here before the guard ends them, so that no request meets one that is just ending.
        f'ProxyPass "/{name}/" "https://{target}/" flushpackets=on connectiontimeout=5 timeout=300 ttl=60',
        f'ProxyPassReverse "/{name}/" "https://{target}/"',
        # Assistants of the same make set cookies of the same name.
        f'ProxyPassReverseCookiePath "/" "/{name}/"',
        f'<LocationMatch "^/{name}/">',
        *login.required(door, usual),
        *headers.identity(),
        f"RequestHeader set X-Forwarded-Prefix /{name}",
        "</LocationMatch>",
        # A program can do nothing with a login page.
        f'<LocationMatch "^/{name}/api(?:/|$)">',
        "OIDCUnAuthAction 401",
        "</LocationMatch>",
    ]
    for rule in sorted(assistant.rules, key=lambda r: len(r.prefix)):
        lines += _rule(door, name, usual, rule)
    # Last, so that no rule opens it; and in every spelling that some server may take for the same path.
    return [
        *lines,
        f'<LocationMatch "(?i)^/{name}/+admin(?:[^a-z0-9_-]|$)">',
        *login.required(door, ADMINISTRATORS),
        *headers.identity(),
        "</LocationMatch>",
        # The guard's own pages are for pods.
        f'<LocationMatch "(?i)^/{name}/+domicile(?:[^a-z0-9_-]|$)">',
        "Require all denied",
        "</LocationMatch>",
        *(_asking(door, assistant) if assistant.asks else []),
    ]


def _asking(door: Door, assistant: Assistant) -> list[str]:
    """What the guard shows to people: whatever they may use, they accept its notice before."""
    pages = "(?:notice|consents)$"
    lines = [
        f'<LocationMatch "^/{assistant.name}/domicile/{pages}">',
        *login.required(door),
        *headers.identity(),
        "</LocationMatch>",
    ]
    if any(rule.roles is None for rule in assistant.rules):
        lines += _open(f"^/{assistant.name}/domicile/public/{pages}")
    return lines


def _open(pattern: str) -> list[str]:
    return [
        f'<LocationMatch "{pattern}">',
        "AuthType None",
        "Require all granted",
        f"RequestHeader unset {headers.IDENTITY}",
        "</LocationMatch>",
    ]


def _rule(door: Door, name: str, usual: tuple[str, ...], rule: PathRule) -> list[str]:
    path = path_pattern(rule.prefix, f"a prefix of {name}")
    if rule.roles is None:
        return _open(f"^/{name}{path}(?:/|$)")
    if not rule.roles:
        raise ValueError(f"a rule of {name} needs roles: without any nobody could use {rule.prefix}")
    return [
        # Other spellings, which some server may take for the same path, are not opened by the rule but closed.
        f'<LocationMatch "(?i)^/{name}/*{path}(?:[^a-z0-9_-]|$)">',
        *login.required(door, rule.roles, usual),
        *headers.identity(),
        "</LocationMatch>",
        f'<LocationMatch "^/{name}{path}(?:/|$)">',
        *login.required(door, rule.roles),
        *headers.identity(),
        "</LocationMatch>",
    ]
