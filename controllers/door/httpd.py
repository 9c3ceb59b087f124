"""The config of a front door's Apache httpd 2.4, with mod_auth_openidc, ModSecurity and mod_qos.

Relative paths start at the folder where the supervisor (``domicile.gateway.door``) lays out what is mounted, so that a
reload sees all of a change or nothing of it. No secret is in the text.
"""

from __future__ import annotations

from itertools import chain

from domicile.controllers.door import firewall, headers, limits, login
from domicile.controllers.door.door import ADMINISTRATORS, EVERYWHERE, OWN, Assistant, Door, PathRule, Secrets
from domicile.controllers.door.words import address, host, label, path_pattern, quoted_secret, whole

__all__ = ["Door", "Secrets", "render", "render_secrets"]

RUNTIME = "/tmp/door"  # noqa: S108 - the pod's own scratch volume
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
        _log(),
        login.provider(door),
        firewall.directives(body, door.exclusions, RUNTIME),
        limits.everywhere(door),
        _health(door),
        # Without a name of its own it would send browsers to the port that it listens on.
        [f"<VirtualHost *:{door.https_port}>", _name(door)],
        _tls(door),
        _way_in(),
        ["RewriteEngine On"],
        headers.arriving(door),
        _hosts(door),
        limits.here(door),
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
        f"Listen {whole(door.https_port, 'https_port', 65535)} https",
        f"Listen {whole(door.health_port, 'health_port', 65535)} http",
        # Debian 12 has not linked mod_qos with the library that it needs.
        "LoadFile /usr/lib/x86_64-linux-gnu/libpcre.so.3",
        *(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _MODULES),
        _name(door),
        f"PidFile {RUNTIME}/httpd.pid",
        f"DefaultRuntimeDir {RUNTIME}",
        f"Mutex file:{RUNTIME} default",
        f"QS_SemMemFile {RUNTIME}",
        f"SSLSessionCache shmcb:{RUNTIME}/tls(512000)",
        "ServerTokens Prod",
        "ServerSignature Off",
        "TraceEnable Off",
        "HttpProtocolOptions Strict",
        "UseCanonicalName On",
        "StartServers 2",
        "ServerLimit 8",
        "ThreadsPerChild 64",
        "MinSpareThreads 32",
        "MaxSpareThreads 192",
        "MaxRequestWorkers 512",
        "GracefulShutdownTimeout 25",
        "Timeout 60",
        "KeepAliveTimeout 15",
        "MaxKeepAliveRequests 0",
        "RequestReadTimeout handshake=5-10,MinRate=500 header=10-20,MinRate=500 body=10,MinRate=1000",
        "LimitRequestLine 8190",
        "LimitRequestFields 64",
        "LimitRequestFieldSize 8190",
        f"LimitRequestBody {body}",
        *(f'ErrorDocument {status} "{text}"' for status, text in _PAGES.items()),
    ]


def _name(door: Door) -> str:
    """What it calls itself in redirects: the name and the port that browsers see."""
    return f'ServerName "https://{host(door.host, "host").removesuffix(f":{door.port}")}:{door.port}"'


def _log() -> list[str]:
    # Neither who asked nor what for: no address, no user, no path but the assistant's name, no query.
    texts = {
        "time": "%{%Y-%m-%dT%H:%M:%S}t.%{msec_frac}tZ",
        "request": "%{UNIQUE_ID}e",
        "method": "%{method}e",
        "assistant": "%{assistant}e",
    }
    numbers = {"status": "%>s", "bytes": "%B", "ms": "%{ms}T"}
    fields = [f'"{k}":"{v}"' for k, v in texts.items()] + [f'"{k}":{v}' for k, v in numbers.items()]
    return [
        "LogLevel warn",
        "ErrorLog /dev/stderr",
        # The supervisor keeps the codes of these lines and drops their text, which may quote a request.
        'ErrorLogFormat "door|%-m|%-l|%-{UNIQUE_ID}e|%M"',
        f"LogFormat '{{{','.join(fields)}}}' door",
    ]


def _health(door: Door) -> list[str]:
    return [
        f"<VirtualHost *:{door.health_port}>",
        "SecRuleEngine Off",
        "RewriteEngine On",
        "RewriteRule ^/healthz$ - [R=200,L]",
        "RewriteRule ^ - [R=404,L]",
        'ErrorDocument 200 "ok"',
        "</VirtualHost>",
    ]


def _tls(door: Door) -> list[str]:
    lines = [
        "CustomLog /dev/stdout door",
        # A method is any word that a client chooses.
        f'SetEnvIf Request_Method "^({"|".join(firewall.METHODS)})$" method=$1',
        "SSLEngine On",
        "SSLCertificateFile tls/tls.crt",
        "SSLCertificateKeyFile tls/tls.key",
        "SSLProtocol -all +TLSv1.2 +TLSv1.3",
        "SSLCipherSuite ECDHE+AESGCM:ECDHE+CHACHA20",
        "SSLSessionTickets Off",
    ]
    if door.edge.client_ca:
        lines += ["SSLVerifyClient require", "SSLVerifyDepth 3", "SSLCACertificateFile edge/ca.crt"]
    return lines


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


def _hosts(door: Door) -> list[str]:
    names = {door.host} if ":" in door.host else {door.host, f"{door.host}:443"}
    return [*(f'RewriteCond %{{HTTP_HOST}} "!={name}" [NC]' for name in sorted(names)), "RewriteRule ^ - [R=421,L]"]


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
    ]


def _rule(door: Door, name: str, usual: tuple[str, ...], rule: PathRule) -> list[str]:
    path = path_pattern(rule.prefix, f"a prefix of {name}")
    if rule.roles is None:
        return [
            f'<LocationMatch "^/{name}{path}(?:/|$)">',
            "AuthType None",
            "Require all granted",
            f"RequestHeader unset {headers.IDENTITY}",
            "</LocationMatch>",
        ]
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
