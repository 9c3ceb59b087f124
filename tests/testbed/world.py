"""A model server in the world outside all sites, with TLS at a public address that ends in this instance's network."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.testbed.pki import Authority
from tests.testbed.process import Process, TestbedError, run
from tests.testbed.testbed import Testbed
from tests.testbed.topology import WORLD

HOST, OTHER_HOST, REBOUND_HOST = "api.models.example", "api.other.example", "rebound.models.example"
"""Names of the testbed's DNS: two of the server's, and one that leads to the site's own API server."""
PORT, OTHER_PORT = 443, 8443
_ROOT = Path(__file__).parents[2]
_SPACE = "world"
_ASK = """
import ssl, sys, urllib.request
asked = urllib.request.Request(sys.argv[2], method=sys.argv[1])
trusted = ssl.create_default_context(cafile=sys.argv[3])
print(urllib.request.urlopen(asked, timeout=10, context=trusted).read().decode())
"""


@dataclass(frozen=True)
class World:
    """The server, which all clusters can reach."""

    testbed: Testbed

    @property
    def _folder(self) -> Path:
        return self.testbed.state / _SPACE

    @property
    def authority(self) -> str:
        """PEM of the authority of its certificate, which no system knows."""
        return Authority(self._folder).certificate.read_text()

    @cached_property
    def _processes(self) -> list[Process]:
        certificate, key = Authority(self._folder).issue("server", "world", hosts=(HOST, OTHER_HOST, WORLD))
        return [
            Process(
                f"model server of the world at port {port}",
                f"{self.testbed.instance.group}/world/{port}",
                self.testbed.state / "logs" / f"world-{port}.log",
                [sys.executable, "-m", "tests.testbed.provider"],
                self.testbed.network.enter(_SPACE),
                {
                    "PYTHONPATH": str(_ROOT),
                    "PORT": str(port),
                    "PROVIDER_HOST": WORLD,
                    "PROVIDER_CERTIFICATE": str(certificate),
                    "PROVIDER_KEY": str(key),
                },
            )
            for port in (PORT, OTHER_PORT)
        ]

    def up(self) -> None:
        """Start it, unless it runs, and return once it answers."""
        if all(p.alive() for p in self._processes):
            return
        self.testbed.network.attach(_SPACE, WORLD)
        for process in self._processes:
            process.start()
            process.wait(self._answers, f"answer of the {process.name}", 30)

    def _answers(self) -> bool:
        try:
            self.received()
        except TestbedError:
            return False
        return True

    def received(self) -> list[dict[str, Any]]:
        """What reached it at its first port: {"time" (s since the epoch), "peer", "headers", "body"}."""
        found: list[dict[str, Any]] = json.loads(self._ask("GET"))
        return found

    def forget(self) -> None:
        """Forget what reached it."""
        self._ask("DELETE")

    def _ask(self, method: str) -> str:
        url, authority = f"https://{WORLD}:{PORT}/received", str(Authority(self._folder).certificate)
        return run(*self.testbed.network.enter(_SPACE), sys.executable, "-c", _ASK, method, url, authority)
