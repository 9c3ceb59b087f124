"""The front door's supervisor: runs Apache httpd, and gives it new config, keys and certificates without a gap.

    python3 -m domicile.gateway.door

See ``domicile.gateway.supervisor``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from domicile.gateway.httpd import Httpd, serve
from domicile.gateway.mounts import BrokenError, check_pair

_SECRETS = ("OIDCClientSecret", "OIDCCryptoPassphrase", "OIDCRedisCacheUsername", "OIDCRedisCachePassword")


class Door(Httpd):
    """Apache httpd with the tenant's config."""

    needed = (
        "config/httpd.conf", "secrets/secrets.conf", "tls/tls.crt", "tls/tls.key", "trust/ca.crt",
        "pods/identity.pem", "pods/ca.crt",
    )  # fmt: skip
    more = ("edge/ca.crt",)
    bundles = ("trust/ca.crt", "pods/ca.crt", "edge/ca.crt")

    def test(self, folder: Path) -> None:
        """As Server's."""
        secrets = (folder / "secrets/secrets.conf").read_text(errors="replace")
        if missing := [name for name in _SECRETS if not re.search(f"^{name} ", secrets, re.MULTILINE)]:
            raise BrokenError(f"secrets/secrets.conf lacks {', '.join(missing)}")
        check_pair(folder / "pods", "identity.pem", "identity.pem")
        super().test(folder)


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    return serve(Door, "/etc/domicile/door")


if __name__ == "__main__":
    sys.exit(main())
