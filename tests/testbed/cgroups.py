"""Control groups: whatever an instance starts stays in its subtree, so that exactly that can be killed.

Works on a unified hierarchy and on v1 hierarchies (hybrid), where one of them, ``pids``, tells who is a member.
Paths are relative to the root of a hierarchy, without a leading slash.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


@cache
def hierarchies() -> tuple[Path, ...]:
    """Roots of all hierarchies; the first one tells membership."""
    if (ROOT / "cgroup.controllers").exists():
        return (ROOT,)
    roots = sorted(p for p in ROOT.iterdir() if p.is_dir() and not p.is_symlink() and (p / "cgroup.procs").exists())
    return tuple(sorted(roots, key=lambda p: p.name != "pids"))


def create(path: str) -> Path:
    """Make a group in every hierarchy; returns its directory in the first one."""
    for root in hierarchies():
        folder = root
        for part in Path(path).parts:
            parent, folder = folder, folder / part
            _delegate(parent)
            if folder.is_dir():
                continue
            folder.mkdir(exist_ok=True)
            # A new cpuset of version 1 has no processors and refuses processes until it is given some.
            for name in ("cpuset.cpus", "cpuset.mems"):
                if root.name == "cpuset" and (folder / name).exists():
                    (folder / name).write_text((parent / name).read_text())
    return hierarchies()[0] / path


def _delegate(parent: Path) -> None:
    # Version 2 gives a group only the controllers that its parent passes on; the kubelet demands them.
    control = parent / "cgroup.subtree_control"
    if hierarchies() != (ROOT,) or not control.exists():
        return
    for name in (parent / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            control.write_text(f"+{name}")


def pids(path: str) -> list[int]:
    """All processes of a group and those below it."""
    found: list[int] = []
    for folder, _, _ in os.walk(hierarchies()[0] / path):
        with suppress(OSError):
            found += [int(line) for line in (Path(folder) / "cgroup.procs").read_text().split()]
    return found


def kill(path: str, seconds: float = 20) -> None:
    """SIGKILL everything in a group and below until nothing is left. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while left := pids(path):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"testbed: processes {left} of {path} survive SIGKILL for {seconds:.0f} s")
        time.sleep(0.02)


def remove(path: str, seconds: float = 5) -> None:
    """Remove an empty group and all below it from every hierarchy."""
    deadline = time.monotonic() + seconds
    for root in hierarchies():
        while (root / path).exists():
            for folder, _, _ in os.walk(root / path, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            if not (root / path).exists():
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"testbed: can't remove the control group {root / path}")
            time.sleep(0.05)
