"""Keycloak for tests, and the account by which the operator is let in."""

from __future__ import annotations

import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import httpx

from domicile.controllers.realm.admission import admit
from domicile.controllers.realm.server import Account
from images.keycloak import home

# The operator's account, and that of the first administrator, who makes it.
ADMIN_ID = "operator"
BOOTSTRAP = "bootstrap"


def command(address: str, port: int, management: int, folder: Path, public: str | None = None, *more: str) -> list[str]:
    """Start it for one address or name: TLS on ``port`` with server.crt, server.key and ca.crt of ``folder``.

    ``/health/ready`` is served without TLS on the port ``management``. ``public``: what browsers see, where something
    stands before it; ``more`` options.
    """
    return [
        str(home() / "bin" / "kc.sh"),
        "start",
        "--optimized",
        f"--hostname={public or f'https://{address}:{port}'}",
        f"--https-port={port}",
        f"--https-certificate-file={folder / 'server.crt'}",
        f"--https-certificate-key-file={folder / 'server.key'}",
        f"--truststore-paths={folder / 'ca.crt'}",
        f"--http-management-port={management}",
        "--http-management-scheme=http",
        f"--http-host={address}",
        f"--http-management-host={address}",
        "--cache=local",
        *more,
    ]


def environment(client: str, secret: str) -> dict[str, str]:
    """Its environment, with the service account of its first administrator."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx640m",
        "KC_BOOTSTRAP_ADMIN_CLIENT_ID": client,
        "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": secret,
    }


@dataclass(frozen=True)
class KeycloakServer:
    """A running Keycloak."""

    port: int
    authority: Path
    admin_secret: str
    log: Path
    address: str = "localhost"
    console: str | None = None
    """Base URL of its administrators, where something stands before it."""

    @property
    def url(self) -> str:
        """Base URL."""
        return f"https://{self.address}:{self.port}"

    def answers(self) -> bool:
        """Whether people can log in; its health is told on another port, which listens earlier."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/realms/master",
                timeout=2,
                context=ssl.create_default_context(cafile=str(self.authority)),
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def admit_operator(server: KeycloakServer) -> None:
    """The operator's account, as ``domicile admit`` makes it."""
    bootstrap, operator = (Account(client_id=i, client_secret=server.admin_secret) for i in (BOOTSTRAP, ADMIN_ID))
    trusted = ssl.create_default_context(cafile=server.authority)
    with httpx.Client(base_url=server.url, verify=trusted, timeout=30) as web:
        admit(web, bootstrap, operator, server.console)
