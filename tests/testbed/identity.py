"""A site's identity server: a Keycloak in a network namespace of its own. It starts empty and keeps nothing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.testbed import keycloak
from tests.testbed.keycloak import BOOTSTRAP, KeycloakServer, admit_operator
from tests.testbed.pki import Authority
from tests.testbed.process import Process
from tests.testbed.testbed import Site

_PORT, _MANAGEMENT = 8443, 9000


@dataclass(frozen=True)
class Identity:
    """The identity server of one site."""

    site: Site

    @property
    def address(self) -> str:
        """Its address."""
        return self.site.store.network.plan.identity(self.site.spec)

    @property
    def host(self) -> str:
        """Its name in the clusters' DNS."""
        return self.site.store.network.plan.identity_host(self.site.spec)

    @property
    def url(self) -> str:
        """As everybody but this machine calls it."""
        return f"https://{self.host}:{_PORT}"

    @property
    def _folder(self) -> Path:
        return self.site.store.folder.parent.parent / "identity" / self.site.name

    @property
    def _space(self) -> str:
        return f"{self.site.name}-sso"

    @cached_property
    def server(self) -> KeycloakServer:
        """How this machine reaches it."""
        return KeycloakServer(_PORT, self._folder / "ca.crt", self._secret, self._process.log, self.address)

    @property
    def _secret(self) -> str:
        path = self._folder / "secret"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            path.write_text(secrets.token_hex(16))
        return path.read_text()

    @cached_property
    def _process(self) -> Process:
        return Process(
            f"identity server of {self.site.name}",
            f"{self.site.store.group}/identity-{self.site.name}",
            self.site.store.logs / f"identity-{self.site.name}.log",
            keycloak.command(self.address, _PORT, _MANAGEMENT, self._folder, self.url),
            self.site.store.network.enter(self._space),
            keycloak.environment(BOOTSTRAP, self._secret),
        )

    def up(self) -> KeycloakServer:
        """Start it, unless it runs, and return once the operator has an account there."""
        if self._process.alive():
            return self.server
        Authority(self._folder).issue("server", "identity", hosts=(self.address, self.host))
        self.site.store.network.attach(self._space, self.address)
        self._process.start()
        self._process.wait(self.server.answers, f"answer of the identity server of {self.site.name}", 180)
        admit_operator(self.server)
        return self.server
