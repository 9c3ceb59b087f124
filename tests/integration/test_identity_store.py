"""Keycloak and its PostgreSQL as the chart runs them: our images' files, TLS between them, and what a restart keeps."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from domicile.cli.main import main
from domicile.controllers.realm.drift import Drift
from images.archive import NON_ROOT
from tests.integration.apiserver import Authority, free_port
from tests.integration.door_server import Volume, contained, end, events, until
from tests.integration.realm_estate import Tenant, connect
from tests.integration.session_server import Server
from tests.testbed.keycloak import ADMIN_ID, BOOTSTRAP, KeycloakServer

_PATIENCE_SECONDS = 150


def owned(folder: Path) -> Path:
    """A folder that the image's user may write to."""
    folder.mkdir()
    os.chown(folder, NON_ROOT, NON_ROOT)
    return folder


def pair(authority: Authority, name: str) -> dict[str, str | bytes]:
    authority.issue(name, "localhost")
    return {f"tls.{kind}": (authority.folder / f"{name}.{kind}").read_bytes() for kind in ("crt", "key")}


@dataclass
class Database(Server):
    """PostgreSQL of the image ``database``."""

    port: int
    password: str
    tls: Volume
    secret: Volume

    def start(self) -> None:
        """Start it, as after an end."""
        settings = {"PORT": self.port, "HEALTH_PORT": self.health_port}
        command = ("env", *(f"DOMICILE_{k}={v}" for k, v in settings.items()), "python3", "-P", "-m",
                   "domicile.gateway.database")  # fmt: skip
        volumes = {"/var/lib/domicile": self.folder / "volume"}
        out = self.folder / "log"
        self.process = contained("database", self.folder / "mounts", "/etc/domicile", command, out, volumes=volumes)

        def up() -> bool:
            assert self.process.poll() is None, self.out + self.err
            return self.health() == 200

        until("the database takes connections", up, 60)

    def certificate(self) -> bytes:
        """What it shows (PostgreSQL 15, section 55.2.11, SSLRequest)."""
        context = ssl.create_default_context(cafile=self.folder.parent / "ca.crt")
        with socket.create_connection(("127.0.0.1", self.port), 20) as plain:
            plain.sendall(struct.pack(">II", 8, 80877103))
            assert plain.recv(1) == b"S"
            with context.wrap_socket(plain, server_hostname="localhost") as stream:
                return stream.getpeercert(binary_form=True) or b""

    def psql(self, user: str, name: str, password: str, mode: str) -> str:
        """What the image's own client is told."""
        target = f"host=127.0.0.1 port={self.port} user={user} dbname={name} password={password} sslmode={mode}"
        out = self.folder / f"psql-{secrets.token_hex(4)}"
        command = ("/usr/lib/postgresql/15/bin/psql", target, "--no-psqlrc", "--tuples-only", "--command=SELECT 7 * 6")
        contained("database", self.folder / "mounts", "/etc/domicile", command, out).wait(60)
        return "".join(out.with_name(out.name + suffix).read_text() for suffix in (".out", ".err")).strip()


@dataclass
class Keycloak:
    """Keycloak of the image ``keycloak``."""

    folder: Path
    server: KeycloakServer
    database: Database
    process: subprocess.Popen[bytes] | None = None
    management: int = field(default_factory=free_port)
    ca: str = "tls/ca.crt"
    logs: int = field(default=0)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it with the chart's settings."""
        mounted, options = "/etc/domicile", f"sslmode=verify-full&sslrootcert=/etc/domicile/{self.ca}"
        environment = {
            "HOME": "/tmp",
            "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx512m",
            "JAVA_OPTS_APPEND": "-Duser.timezone=GMT",
            "KC_BOOTSTRAP_ADMIN_CLIENT_ID": BOOTSTRAP,
            "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": self.server.admin_secret,
            "KC_CACHE": "local",
            "KC_DB_PASSWORD": self.database.password,
            "KC_DB_URL": f"jdbc:postgresql://localhost:{self.database.port}/keycloak?{options}",
            "KC_DB_USERNAME": "keycloak",
            "KC_HOSTNAME": self.server.url,
            "KC_HTTPS_CERTIFICATE_FILE": f"{mounted}/tls/tls.crt",
            "KC_HTTPS_CERTIFICATE_KEY_FILE": f"{mounted}/tls/tls.key",
            "KC_HTTPS_PORT": str(self.server.port),
            "KC_HTTP_MANAGEMENT_PORT": str(self.management),
        }
        self.logs += 1
        out = self.folder / f"log{self.logs}"
        command = (
            "env",
            *(f"{k}={v}" for k, v in environment.items()),
            "/opt/keycloak/bin/kc.sh",
            "start",
            "--optimized",
        )
        volumes = {"/opt/keycloak/data": self.folder / "volume"}
        return contained("keycloak", self.folder / "mounts", "/etc/domicile", command, out, volumes=volumes)

    @property
    def log(self) -> str:
        out = self.folder / f"log{self.logs}"
        return "".join(out.with_name(out.name + suffix).read_text() for suffix in (".out", ".err"))

    def start(self) -> None:
        """Start it, as after an end, and wait for it."""
        process = self.process = self.launch()

        def up() -> bool:
            assert process.poll() is None, self.log[-4000:]
            return self.server.answers()

        until("keycloak answers", up, _PATIENCE_SECONDS)

    def stop(self) -> None:
        if self.process:
            end(self.process)


@dataclass
class Site:
    """Both, with an authority that signs for both, and what the operator's command is given."""

    authority: Authority
    database: Database
    keycloak: Keycloak
    folder: Path

    def admit(self, secret: str | None = None, url: str | None = None) -> int:
        """The exit code of the command."""
        own = self.keycloak.server.admin_secret
        (self.folder / "bootstrap").write_text(f"{secret or own}\n")
        (self.folder / "account").write_text(json.dumps({"clientId": ADMIN_ID, "clientSecret": own}))
        files = {option: str(self.folder / option) for option in ("bootstrap", "account")}
        options = {"url": url or self.keycloak.server.url, "ca": str(self.folder / "ca.crt"), "timeout": "0", **files}
        return main(
            ["admit", "--bootstrap-id", BOOTSTRAP, *(word for k, v in options.items() for word in (f"--{k}", v))]
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("identity")
    folder.chmod(0o755)
    authority = Authority(folder)
    own, other = folder / "database", folder / "keycloak"
    for each in (own, other):
        each.mkdir()
        each.chmod(0o755)
        owned(each / "volume")
        (each / "mounts").mkdir()
    password = secrets.token_hex(16)
    tls, secret = Volume(own / "mounts/tls"), Volume(own / "mounts/password")
    database = Database(own, None, free_port(), free_port(), password, tls, secret)  # type: ignore[arg-type]
    database.tls.put(pair(authority, "database"))
    database.secret.put({"password": password})
    tls = Volume(other / "mounts/tls")
    other_ca = Authority(owned(folder / "others"))
    tls.put({**pair(authority, "keycloak"), "ca.crt": (folder / "ca.crt").read_bytes(),
             "others.crt": (other_ca.folder / "ca.crt").read_bytes()})  # fmt: skip
    server = KeycloakServer(free_port(), folder / "ca.crt", secrets.token_hex(16), other / "log")
    made = Site(authority, database, Keycloak(other, server, database), folder)
    try:
        database.start()
        made.keycloak.start()
        yield made
    finally:
        made.keycloak.stop()
        end(database.process)


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """What asks Keycloak as the operator, in one loop."""
    with asyncio.Runner() as runner:
        yield runner.run


def test_only_keycloak_gets_into_the_database_and_only_by_tls(site: Site) -> None:
    database = site.database
    assert database.psql("keycloak", "keycloak", database.password, "require") == "42"
    assert "no encryption" in database.psql("keycloak", "keycloak", database.password, "disable")
    assert "password authentication failed" in database.psql("keycloak", "keycloak", "x" * 32, "require")
    for user, name in (("postgres", "postgres"), ("keycloak", "postgres"), ("postgres", "keycloak")):
        assert "no pg_hba.conf entry" in database.psql(user, name, database.password, "require")


def test_keycloak_tells_probes_by_tls_how_it_is(site: Site) -> None:
    trusted = ssl.create_default_context(cafile=site.keycloak.server.authority)
    with httpx.Client(base_url=f"https://localhost:{site.keycloak.management}", verify=trusted) as web:
        assert [web.get(f"/health/{what}").status_code for what in ("started", "ready", "live")] == [200, 200, 200]
        assert web.get("/metrics").status_code == 404


def test_the_operator_is_let_in_as_often_as_it_is_asked_for(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert [site.admit(), site.admit()] == [0, 0]
    assert f"{ADMIN_ID} may create realms" in capsys.readouterr().out


def test_a_role_that_the_operators_account_was_given_is_taken_again(site: Site) -> None:
    assert site.admit() == 0
    server = site.keycloak.server
    with httpx.Client(base_url=server.url, verify=ssl.create_default_context(cafile=server.authority)) as web:

        def token(client: str) -> httpx.Response:
            grant = {"grant_type": "client_credentials", "client_id": client, "client_secret": server.admin_secret}
            return web.post("/realms/master/protocol/openid-connect/token", data=grant).raise_for_status()

        def headers(client: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {token(client).json()['access_token']}"}

        def ask(path: str, client: str = BOOTSTRAP) -> Any:
            return web.get(f"/admin/realms/master{path}", headers=headers(client)).raise_for_status().json()

        [account] = ask(f"/clients?clientId={ADMIN_ID}")
        user = ask(f"/clients/{account['id']}/service-account-user")["id"]
        mappings = f"/users/{user}/role-mappings/realm"
        role = ask("/roles/admin")
        given = web.post(f"/admin/realms/master{mappings}", json=[role], headers=headers(BOOTSTRAP))
        assert given.is_success
        assert web.get("/admin/realms/master/users", headers=headers(ADMIN_ID)).status_code == 200
        assert site.admit() == 0
        assert {r["name"] for r in ask(mappings)} == {"create-realm", "default-roles-master"}
        assert web.get("/admin/realms/master/users", headers=headers(ADMIN_ID)).status_code == 403


def test_what_keeps_the_operator_out_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.admit(secret="wrong") == 1
    assert "refuses its administrator" in capsys.readouterr().err
    assert site.admit(url=f"https://localhost:{free_port()}") == 1
    assert "does not answer" in capsys.readouterr().err


def test_a_realm_outlives_keycloak_and_a_crash_of_the_database(
    site: Site, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    assert site.admit() == 0
    tenant = Tenant(connect(site.keycloak.server), local_users=True)
    assert run(tenant.ensure()).mended == (f"realm {tenant.realm}",)
    site.keycloak.stop()
    end(site.database.process)
    site.database.start()
    site.keycloak.start()
    again = Tenant(connect(site.keycloak.server), local_users=True)
    again.subject = tenant.subject
    assert run(again.drift()) == Drift()
    assert site.admit() == 0
    for each in (tenant, again):
        run(each.server.close())


def test_two_do_not_serve_one_folder(site: Site) -> None:
    database = site.database
    second = Database(
        database.folder, None, free_port(), free_port(), database.password, database.tls, database.secret  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(AssertionError, match="another process serves"):
        second.start()
    assert database.health() == 200


def test_new_certificates_are_taken_and_broken_ones_told(site: Site) -> None:
    database = site.database
    before = database.certificate()
    database.mount(database.tls, pair(site.authority, "renewed"))  # type: ignore[arg-type]
    until("the new certificate is shown", lambda: database.certificate() != before)
    shown = database.certificate()
    database.tls.put({"tls.crt": b"none", "tls.key": b"none"})
    until("it is told", lambda: bool(events(database.err, "refused")))
    assert database.certificate() == shown
    database.tls.put(pair(site.authority, "database"))


def test_keycloak_believes_no_database_of_another_authority(site: Site) -> None:
    site.keycloak.stop()
    site.keycloak.ca = "tls/others.crt"
    process = site.keycloak.launch()
    try:
        assert process.wait(_PATIENCE_SECONDS) != 0
        assert "PKIX path" in site.keycloak.log or "certificate" in site.keycloak.log
    finally:
        end(process)
        site.keycloak.ca = "tls/ca.crt"
