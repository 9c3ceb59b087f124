"""A real LDAP directory (OpenLDAP) on localhost, with TLS, people and groups."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.apiserver import Authority, free_port
from tests.testbed.rootfs import rootfs

BASE = "dc=bank,dc=example"
BIND_DN = f"cn=reader,{BASE}"
BIND_PASSWORD = "reader-secret"
_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {work}/slapd.pid
TLSCertificateFile {work}/server.crt
TLSCertificateKeyFile {work}/server.key
TLSCACertificateFile {work}/ca.crt
database mdb
suffix "{base}"
rootdn "cn=admin,{base}"
rootpw admin-secret
directory {work}/data
maxsize 16777216
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{bind}" read by self read by anonymous auth by * none
"""


@dataclass
class Directory:
    """A running directory."""

    port: int
    root: Path
    work: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its URL."""
        return f"ldaps://localhost:{self.port}"

    def pause(self) -> None:
        """Take connections and say nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def refused(self) -> int:
        """How many binds it has refused for a wrong name or password (RFC 4511, appendix A: 49)."""
        log = self.root / self.work.removeprefix("/") / "log"
        return log.read_text(errors="replace").count("RESULT tag=97 err=49")

    def modify(self, ldif: str) -> None:
        """Change it, as its administrator."""
        subprocess.run(
            ["chroot", str(self.root), "ldapmodify", "-x", "-H", f"ldapi://{self.work.replace('/', '%2F')}%2Fldapi",
             "-D", f"cn=admin,{BASE}", "-w", "admin-secret"],
            input=ldif.encode(), check=True, capture_output=True,
        )  # fmt: skip


def _password(text: str) -> str:
    salt = os.urandom(8)
    return "{SSHA}" + base64.b64encode(hashlib.sha1(text.encode() + salt).digest() + salt).decode()


def _ldif(people: Mapping[str, tuple[str, ...]], password: str) -> str:
    reader = "objectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: "
    entries = [
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Bank\ndc: bank",
        f"dn: {BIND_DN}\n{reader}{_password(BIND_PASSWORD)}",
        f"dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people",
        f"dn: ou=groups,{BASE}\nobjectClass: organizationalUnit\nou: groups",
        *(_person(name, password) for name in people),
    ]
    for group in sorted({g for groups in people.values() for g in groups}):
        members = "\n".join(f"member: uid={n},ou=people,{BASE}" for n, groups in people.items() if group in groups)
        entries.append(f"dn: cn={group},ou=groups,{BASE}\nobjectClass: groupOfNames\ncn: {group}\n{members}")
    return "\n\n".join(entries) + "\n"


def _person(name: str, password: str) -> str:
    attributes = {
        "objectClass": "inetOrgPerson",
        "uid": name,
        "cn": "Some One",
        "sn": "One",
        "givenName": "Some",
        "mail": f"{name}@bank.example",
        "userPassword": _password(password),
    }
    lines = "\n".join(f"{k}: {v}" for k, v in attributes.items())
    return f"dn: uid={name},ou=people,{BASE}\n{lines}"


@contextmanager
def running(authority: Authority, people: Mapping[str, tuple[str, ...]], password: str) -> Iterator[Directory]:
    """A directory of people and the groups that they are in, all with one password."""
    root = rootfs("slapd")
    folder = Path(subprocess.check_output(["mktemp", "-d", "-p", str(root / "tmp")], text=True).strip())
    work = f"/tmp/{folder.name}"
    try:
        (folder / "data").mkdir()
        authority.issue("slapd", "localhost")
        for name, target in (("slapd.crt", "server.crt"), ("slapd.key", "server.key"), ("ca.crt", "ca.crt")):
            shutil.copy(authority.folder / name, folder / target)
        (folder / "slapd.conf").write_text(_CONFIG.format(work=work, base=BASE, bind=BIND_DN))
        subprocess.run(
            ["chroot", str(root), "slapadd", "-f", f"{work}/slapd.conf"],
            input=_ldif(people, password).encode(),
            check=True,
            capture_output=True,
        )
        port = free_port()
        listen = f"ldaps://127.0.0.1:{port}/ ldapi://{work.replace('/', '%2F')}%2Fldapi"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["chroot", str(root), "slapd", "-d", "stats", "-f", f"{work}/slapd.conf", "-h", listen],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            await_port(process, port, folder / "log")
            yield Directory(port, root, work, process)
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)


def await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until something listens. Raises RuntimeError with what the process has said."""
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}:\n{log.read_text()[-2000:]}")
