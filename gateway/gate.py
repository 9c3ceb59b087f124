"""The supervisor of the gate before an identity server: Apache httpd with the config that ``domicile gate`` writes.

    python3 -m domicile.gateway.gate

See ``domicile.gateway.supervisor``.
"""

from __future__ import annotations

import sys

from domicile.gateway.httpd import Httpd, serve


class Gate(Httpd):
    """Apache httpd with the gate's config; ``trust`` is for the identity server, ``clients`` for administrators."""

    needed = ("config/httpd.conf", "tls/tls.crt", "tls/tls.key", "trust/ca.crt", "clients/ca.crt")
    bundles = ("trust/ca.crt", "clients/ca.crt")


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    return serve(Gate, "/etc/domicile/gate")


if __name__ == "__main__":
    sys.exit(main())
