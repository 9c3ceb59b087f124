"""Which checkout owns which instance on this machine, and what to do with those whose owner is gone.

``/run/domicile-testbed/<index>`` belongs to whoever made it. An instance is alive while its anchor process runs or
somebody works on it (holds its lock). All of it follows from its index, so it can be removed without its owner's help.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import cgroups, network
from tests.testbed.build import cache_dir
from tests.testbed.process import Process, TestbedError

REGISTER = Path("/run/domicile-testbed")
CHECKOUT = Path(__file__).resolve().parents[2]
_INDEXES = 55


@dataclass(frozen=True)
class Instance:
    """One testbed on this machine, alive or dead."""

    index: int

    @property
    def _entry(self) -> Path:
        return REGISTER / str(self.index)

    @property
    def group(self) -> str:
        """Control group of all its processes."""
        return f"domicile-testbed-{self.index}"

    @property
    def owner(self) -> dict[str, str]:
        """Checkout, name and state folder; empty where its maker died before it said so."""
        try:
            owner = json.loads((self._entry / "owner.json").read_text())
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}

    @property
    def state(self) -> Path:
        """Folder of its disks, keys, kubeconfigs and logs."""
        return Path(self.owner["state"])

    @property
    def anchor(self) -> Process:
        """A process that only says that the instance is alive, even with all sites down."""
        return Process("anchor", f"{self.group}/anchor", self.state / "logs" / "anchor.log", ["sleep", "infinity"])

    def alive(self) -> bool:
        """Whether its anchor runs."""
        return bool(cgroups.pids(f"{self.group}/anchor"))

    @contextmanager
    def lock(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the instance while working on it; yields False where somebody else does and ``wait`` is False."""
        with (self._entry / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def leftovers(self) -> list[str]:
        """What the machine still shows of it: processes, namespaces, links, routes, mounts, groups, folders."""
        found = [f"process {pid}" for pid in cgroups.pids(self.group)]
        found += [
            f"control group {root / self.group}" for root in cgroups.hierarchies() if (root / self.group).exists()
        ]
        found += network.leftovers(self.index)
        state = cache_dir() / "testbed" / str(self.index)
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        found += [f"mount {m}" for m in mounts if m.startswith(f"{state}/")]
        return found + [f"folder {p}" for p in (state, self._entry) if p.exists()]

    def remove(self, *, keep_entry: bool = False) -> None:
        """Remove processes, namespaces, mounts, control groups and files. With ``keep_entry`` the index stays taken."""
        cgroups.kill(self.group)
        network.remove(self.index)
        cgroups.remove(self.group)
        owner = self.owner
        if "state" in owner:
            _remove_state(self.state)
        if not keep_entry:
            shutil.rmtree(self._entry)


def _remove_state(state: Path) -> None:
    if state.parent.name != "testbed":
        raise TestbedError(f"testbed: refuse to remove {state}: it is no state folder of a testbed")
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        point = line.split()[1]
        if point == str(state) or point.startswith(f"{state}/"):
            subprocess.run(["umount", "--lazy", point], check=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(state)


def everything() -> list[Instance]:
    """All instances of the machine."""
    return sorted((Instance(int(p.name)) for p in REGISTER.glob("[0-9]*")), key=lambda i: i.index)


def find(name: str) -> Instance | None:
    """This checkout's instance of that name."""
    wanted = (str(CHECKOUT), name)
    return next((i for i in everything() if (i.owner.get("checkout"), i.owner.get("name")) == wanted), None)


def claim(name: str) -> Instance:
    """This checkout's instance of that name; a new one if there is none. Removes those whose owner is gone."""
    REGISTER.mkdir(parents=True, exist_ok=True)
    with (REGISTER / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        own = find(name)
        for instance in everything():
            if instance == own or instance.alive():
                continue
            with instance.lock(wait=False) as free:
                if free:
                    print(
                        f"testbed: removing what a dead run of {instance.owner.get('checkout', 'somebody')} left",
                        flush=True,
                    )
                    instance.remove()
        return own or _allocate(name)


def _allocate(name: str) -> Instance:
    for index in range(_INDEXES):
        if network.taken(index):
            continue
        try:
            (REGISTER / str(index)).mkdir()
        except FileExistsError:
            continue
        # Owned by root and readable by root only: credentials and keys of the instance lie in it.
        state = cache_dir() / "testbed" / str(index)
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = {"checkout": str(CHECKOUT), "name": name, "state": str(state)}
        (REGISTER / str(index) / "owner.json").write_text(json.dumps(owner))
        return Instance(index)
    raise TestbedError(f"testbed: all {_INDEXES} instances of this machine are in use; see {REGISTER}")
