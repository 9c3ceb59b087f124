"""A site's object store: fake-gcs-server with the site's location, or versitygw with its region; its disk is kept."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.testbed import cgroups
from tests.testbed.build import build
from tests.testbed.network import Network
from tests.testbed.pki import Authority
from tests.testbed.process import Process, run
from tests.testbed.topology import SEALED_PORT, STORE_PORT, SiteSpec

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Store:
    """The store of one site, in a network namespace of its own."""

    site: SiteSpec
    network: Network
    group: str
    folder: Path
    logs: Path

    @property
    def address(self) -> str:
        """Its address."""
        return self.network.plan.store(self.site)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return self.network.plan.endpoint(self.site)

    @property
    def space(self) -> str:
        """Name of its network namespace."""
        return f"{self.site.name}-store"

    @property
    def root(self) -> dict[str, str]:
        """The S3 root account of a versitygw, minted once per instance."""
        path = self.folder / "root.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps({"accessKeyId": f"root{secrets.token_hex(6)}", "secretAccessKey": secrets.token_hex(20)})
            )
            path.chmod(0o600)
        found: dict[str, str] = json.loads(path.read_text())
        return found

    @cached_property
    def process(self) -> Process:
        """The server."""
        command, environment = self._gcs() if self.site.is_gcs else self._s3()
        return Process(
            f"store of {self.site.name}",
            f"{self.group}/store-{self.site.name}",
            self.logs / f"store-{self.site.name}.log",
            command,
            self.network.enter(self.space),
            environment,
        )

    def _gcs(self) -> tuple[list[str], dict[str, str]]:
        host = f"{self.address}:{STORE_PORT}"
        return [
            str(build("fake-gcs-server")),
            "-scheme=http",
            f"-host={self.address}",
            f"-port={STORE_PORT}",
            f"-external-url=http://{host}",
            f"-public-host={host}",
            "-backend=filesystem",
            f"-filesystem-root={self.folder / 'objects'}",
            f"-location={self.site.region.upper()}",
        ], {}

    def _s3(self) -> tuple[list[str], dict[str, str]]:
        for name in ("objects", "versions", "iam"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        command = [
            str(build("versitygw")),
            f"--port={self.address}:{STORE_PORT}",
            f"--region={self.site.region}",
            f"--iam-dir={self.folder / 'iam'}",
            "--iam-cache-ttl=1",
            "--health=/health",
            f"--access-log={self._requests}",
            "--quiet",
            "posix",
            f"--versioning-dir={self.folder / 'versions'}",
            str(self.folder / "objects"),
        ]
        return command, {"ROOT_ACCESS_KEY": self.root["accessKeyId"], "ROOT_SECRET_KEY": self.root["secretAccessKey"]}

    @property
    def _requests(self) -> Path:
        return self.logs / f"requests-{self.site.name}.log"

    def requests(self) -> list[str]:
        """One line for each request that the server answered, in the server's own format."""
        path = self.process.log if self.site.is_gcs else self._requests
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return [line for line in lines if " HTTP/1.1" in line] if self.site.is_gcs else lines

    @property
    def host(self) -> str:
        """Its name in the clusters' DNS."""
        return self.network.plan.store_host(self.site)

    @property
    def sealed_endpoint(self) -> str:
        """Its URL by name, with TLS."""
        return f"https://{self.host}:{SEALED_PORT}"

    @property
    def _authority(self) -> Authority:
        return Authority(self.folder / "tls")

    @property
    def authority(self) -> str:
        """PEM of who vouches for its name, which no system knows."""
        return self._authority.certificate.read_text()

    @cached_property
    def _front(self) -> Process:
        certificate, key = self._authority.issue("server", "store", hosts=(self.host,))
        listen, target = f"{self.address}:{SEALED_PORT}", f"{self.address}:{STORE_PORT}"
        return Process(
            f"TLS of the store of {self.site.name}",
            f"{self.group}/store-{self.site.name}-tls",
            self.logs / f"store-{self.site.name}-tls.log",
            [sys.executable, "-m", "tests.testbed.front", listen, target, str(certificate), str(key)],
            self.network.enter(self.space),
            {"PYTHONPATH": str(_ROOT)},
        )

    def up(self) -> None:
        """Start it and return once it answers."""
        if not self.process.alive():
            self.network.attach(self.space, self.address)
        self.process.start()
        self.process.wait(self._answers, f"answer of the store of {self.site.name}", 20)
        self._front.start()
        self._front.wait(self._sealed, f"TLS of the store of {self.site.name}", 20)

    def _sealed(self) -> bool:
        trusted = ssl.create_default_context(cadata=self.authority)
        try:
            with (
                socket.create_connection((self.address, SEALED_PORT), 2) as way,
                trusted.wrap_socket(way, server_hostname=self.host),
            ):
                return True
        except OSError:
            return False

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(
                f"{self.endpoint}{'/storage/v1/b?project=testbed' if self.site.is_gcs else '/health'}", timeout=2
            )
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL it and take it off the network; its disk stays."""
        for process in (self._front, self.process):
            process.kill()
        self.network.detach(self.space, self.address)
        for process in (self._front, self.process):
            cgroups.remove(process.group)

    def s3(self, credentials: dict[str, str] | None = None) -> Any:
        """A boto3 client, as root or with ``{"accessKeyId", "secretAccessKey"}``."""
        import boto3
        from botocore import config

        account = credentials or self.root
        options: Any = config.Config
        make: Any = boto3.client
        return make(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.site.region,
            aws_access_key_id=account["accessKeyId"],
            aws_secret_access_key=account["secretAccessKey"],
            config=options(
                s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=20
            ),
        )

    def gcs(self) -> Any:
        """A google-cloud-storage client, anonymous."""
        from google.auth import credentials
        from google.cloud import storage

        anonymous: Any = credentials.AnonymousCredentials
        make: Any = storage.Client
        return make(project="testbed", credentials=anonymous(), client_options={"api_endpoint": self.endpoint})

    def admin(self, *arguments: str) -> str:
        """Run versitygw's admin command as root."""
        account = ["--access", self.root["accessKeyId"], "--secret", self.root["secretAccessKey"]]
        return run(
            str(build("versitygw")),
            "admin",
            *account,
            "--endpoint-url",
            self.endpoint,
            "--region",
            self.site.region,
            *arguments,
        )
