"""TLS before squid: stunnel, which lets in pods with a certificate of the installation's authority, and nobody else.

    python3 -m domicile.gateway.egress.tls

squid can't both speak TLS to its clients and look at the TLS that they speak through it (squid 5.7: ``ssl-bump`` on an
``https_port`` is for intercepted connections only). stunnel tells it the client's address by a PROXY line. See
``domicile.gateway.stunnel``.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from domicile.gateway import probe
from domicile.gateway.stunnel import Stunnel
from domicile.gateway.supervisor import say, supervise

PORT = 3129
_SECONDS = 10
_IDLE_SECONDS = 3600
_PATIENCE_SECONDS = 3.0


def config(addresses: Sequence[str], port: int, squid: int, folder: Path) -> str:
    """stunnel's config (stunnel(8)): TLS at a port of addresses, squid on the loopback, certificates in ``folder``."""
    lines = ["foreground = yes", "pid =", "syslog = no", "debug = notice"]
    for address in addresses:
        # At any address of both kinds squid would be told of ::ffff:10.0.0.1, and takes that for none.
        lines += [f"[egress {address}]", f"accept = {address}:{port}"]
        lines += [
            f"connect = 127.0.0.1:{squid}",
            "protocol = proxy",
            f"cert = {folder}/tls.crt",
            f"key = {folder}/tls.key",
            f"CAfile = {folder}/ca.crt",
            "verifyChain = yes",
            "requireCert = yes",
            "sslVersionMin = TLSv1.3",
            f"TIMEOUTbusy = {_SECONDS}",
            f"TIMEOUTconnect = {_SECONDS}",
            f"TIMEOUTidle = {_IDLE_SECONDS}",
        ]
    return "\n".join(lines) + "\n"


def read_addresses(env: Mapping[str, str]) -> tuple[str, ...]:
    """The pod's addresses, as Kubernetes tells them (status.podIPs). Raises ValueError."""
    try:
        return tuple(str(ipaddress.ip_address(a)) for a in env.get("DOMICILE_ADDRESSES", "").split(","))
    except ValueError:
        raise ValueError("DOMICILE_ADDRESSES must be the pod's addresses, with commas between them") from None


def good(address: str, port: int) -> bool:
    """Whether stunnel takes connections."""
    try:
        socket.create_connection((address, port), _PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


def main() -> int:
    """Serve until SIGTERM; returns the exit code: stunnel's, 1 where it can't start, 2 for wrong settings."""
    try:
        addresses = read_addresses(os.environ)
        port = probe.read_port(os.environ, "DOMICILE_PORT", PORT)
        squid = probe.read_port(os.environ, "DOMICILE_SQUID_PORT", 3128)
        health = probe.read_port(os.environ, "DOMICILE_HEALTH_PORT", 8082)
    except ValueError as error:
        say(sys.stderr, event="refused", message=str(error))
        return 2
    probe.serve(health, lambda: good(addresses[0], port))
    mounts = Path(os.environ.get("DOMICILE_MOUNTS", "/etc/domicile"))
    return supervise(Stunnel(mounts, partial(config, addresses, port, squid)))


if __name__ == "__main__":
    sys.exit(main())
