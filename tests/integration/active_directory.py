"""A real Active Directory (Samba's domain controller) on localhost, with TLS, people and groups."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.apiserver import Authority
from tests.integration.directory_server import await_port
from tests.testbed.rootfs import rootfs

_PEOPLE = "CN=Users,DC=bank,DC=example"
FIELDS = {
    "vendor": "activeDirectory", "bind_dn": f"CN=reader,{_PEOPLE}", "users_dn": _PEOPLE, "groups_dn": _PEOPLE,
}  # fmt: skip
"""What a tenant says of the domain."""
BIND_PASSWORD = "Reader-Secret-1!"
# Samba serves LDAP over TLS at no other port.
_PORT = 636
_FILL = """
import json, sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
settings = LoadParm()
settings.load(sys.argv[1])
domain = SamDB(url=sys.argv[2], session_info=system_session(), lp=settings)
for call, arguments in json.load(sys.stdin):
    getattr(domain, call)(*arguments)
"""


@dataclass
class ActiveDirectory:
    """A running domain controller."""

    root: Path
    work: str

    @property
    def url(self) -> str:
        """Its URL."""
        return f"ldaps://localhost:{_PORT}"

    def do(self, *calls: tuple[str, list[object]]) -> None:
        """Call methods of samba.samdb.SamDB, as the domain's administrator."""
        subprocess.run(
            ["chroot", self.root, "python3", "-c", _FILL, f"{self.work}/etc/smb.conf",
             f"{self.work}/private/sam.ldb"],
            input=json.dumps(calls), check=True, text=True,
        )  # fmt: skip

    def disable(self, name: str) -> None:
        """Lock somebody out."""
        self.do(("disable_account", [f"(sAMAccountName={name})"]))


@contextmanager
def running(authority: Authority, people: Mapping[str, tuple[str, ...]], password: str) -> Iterator[ActiveDirectory]:
    """A domain of people and the groups that they are in, all with one password."""
    root = rootfs("samba")
    folder = Path(tempfile.mkdtemp(dir=root / "tmp"))
    made = ActiveDirectory(root, f"/tmp/{folder.name}")
    try:
        subprocess.run(
            ["chroot", root, "samba-tool", "domain", "provision", "--realm=BANK.EXAMPLE", "--domain=BANK",
             "--server-role=dc", "--dns-backend=NONE", "--host-name=dc", "--host-ip=127.0.0.1",
             f"--targetdir={made.work}"],
            check=True, capture_output=True,
        )  # fmt: skip
        groups = sorted({g for names in people.values() for g in names})
        made.do(
            ("newuser", ["reader", BIND_PASSWORD]),
            *(("newuser", [name, password]) for name in people),
            *(("newgroup", [group]) for group in groups),
            *(("add_remove_group_members", [g, [n for n in people if g in people[n]]]) for g in groups),
        )
        authority.issue("ad", "localhost")
        for name, mode in (("ad.crt", 0o644), ("ad.key", 0o600), ("ca.crt", 0o644)):
            shutil.copy(authority.folder / name, folder / name)
            (folder / name).chmod(mode)
        options = {
            "interfaces": "lo", "bind interfaces only": "yes", "server services": "ldap",
            "tls certfile": f"{made.work}/ad.crt", "tls keyfile": f"{made.work}/ad.key",
            "tls cafile": f"{made.work}/ca.crt", "pid directory": made.work, "log file": f"{made.work}/log",
        }  # fmt: skip
        with (folder / "out").open("wb") as out:
            process = subprocess.Popen(
                ["chroot", root, "samba", "--interactive", "--model=single", f"--configfile={made.work}/etc/smb.conf",
                 *(f"--option={k}={v}" for k, v in options.items())],
                stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            await_port(process, _PORT, folder / "out")
            yield made
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)
