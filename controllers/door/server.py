"""What each Apache httpd of ours has, whatever it stands before: patience, TLS, logs, probes.

Directives: Apache httpd 2.4, mod_ssl, mod_reqtimeout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from domicile.controllers.door.words import host, whole

RUNTIME = "/tmp/door"  # noqa: S108 - the pod's own scratch volume
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
BOTH_VERSIONS = "-all +TLSv1.2 +TLSv1.3"


def listen(port: int, protocol: str, what: str) -> str:
    """The line that opens a port. Raises ValueError, naming ``what``."""
    return f"Listen {whole(port, what, 65535)} {protocol}"


def core(modules: Iterable[str], body_bytes: int, pages: Mapping[int, str]) -> list[str]:
    """The lines for the whole server; ``pages`` are its own words to whom it refuses, by status."""
    return [
        # Debian 12 has not linked mod_qos with the library that it needs.
        "LoadFile /usr/lib/x86_64-linux-gnu/libpcre.so.3",
        *(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules),
        f"PidFile {RUNTIME}/httpd.pid",
        f"DefaultRuntimeDir {RUNTIME}",
        f"Mutex file:{RUNTIME} default",
        f"QS_SemMemFile {RUNTIME}",
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
        f"LimitRequestBody {body_bytes}",
        *(f'ErrorDocument {status} "{text}"' for status, text in pages.items()),
    ]


def name(public: str) -> str:
    """What a server calls itself in redirects: the name and the port that browsers see. Raises ValueError."""
    bare, _, port = host(public, "host").partition(":")
    return f'ServerName "https://{bare}:{port or 443}"'


def log(own: Mapping[str, str]) -> list[str]:
    """The lines of both logs; ``own`` are more fields of a request, by name, as httpd's format has them."""
    # Neither who asked nor what for: no address, no user, no path, no query.
    texts = {
        "time": "%{%Y-%m-%dT%H:%M:%S}t.%{msec_frac}tZ",
        "request": "%{UNIQUE_ID}e",
        "method": "%{method}e",
        **own,
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


def logged(methods: Sequence[str]) -> list[str]:
    """The lines of a host whose requests are logged; of a method only those of ``methods`` are."""
    # A method is any word that a client chooses.
    return ["CustomLog /dev/stdout door", f'SetEnvIf Request_Method "^({"|".join(methods)})$" method=$1']


def health(port: int, *more: str) -> list[str]:
    """The port of ``/healthz``, plain, for probes."""
    return [
        f"<VirtualHost *:{port}>",
        *more,
        "RewriteEngine On",
        "RewriteRule ^/healthz$ - [R=200,L]",
        "RewriteRule ^ - [R=404,L]",
        'ErrorDocument 200 "ok"',
        "</VirtualHost>",
    ]


def tls(versions: str = BOTH_VERSIONS, ciphers: str = CIPHERS) -> list[str]:
    """What a port shows, and by which versions."""
    return [
        "SSLEngine On",
        "SSLCertificateFile tls/tls.crt",
        "SSLCertificateKeyFile tls/tls.key",
        f"SSLProtocol {versions}",
        f"SSLCipherSuite {ciphers}",
        "SSLSessionTickets Off",
    ]


def clients(bundle: str) -> list[str]:
    """Nobody gets in without a certificate of an authority in ``bundle``."""
    return ["SSLVerifyClient require", "SSLVerifyDepth 3", f"SSLCACertificateFile {bundle}"]


def only(*hosts: str) -> list[str]:
    """421 for requests that name none of the ``hosts``."""
    names = {name for each in hosts for name in ((each,) if ":" in each else (each, f"{each}:443"))}
    return [*(f'RewriteCond %{{HTTP_HOST}} "!={name}" [NC]' for name in sorted(names)), "RewriteRule ^ - [R=421,L]"]
