"""The images of the nodes, and disks that hold them already.

Importing takes seconds for each node, so the containerd root of the first one is kept as a template: later nodes get
hard links to its layers, which no container ever writes to, and copies of its databases.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed.build import cache_dir
from tests.testbed.process import run

NEEDED = ("pause", "coredns")
ALL = (*NEEDED, "client", "model-provider", "assistant", "domicile", "gateway", "frontdoor", "sessions", "egress")
_KEPT = 3


@dataclass(frozen=True)
class Images:
    """Archives and references by name, in the order of their import."""

    built: dict[str, tuple[Path, str]] = field(default_factory=dict)

    @classmethod
    def build(cls, names: tuple[str, ...]) -> Images:
        """Build the named images, or find them in the cache. ``pause`` and ``coredns`` always come first."""
        from images.build import image

        return cls({name: image(name) for name in (*NEEDED, *(n for n in names if n not in NEEDED))})

    @property
    def _templates(self) -> Path:
        return cache_dir() / "nodes"

    @property
    def template(self) -> Path:
        """Folder of the template with exactly these images."""
        version = subprocess.run(["containerd", "--version"], capture_output=True, check=True).stdout
        names = "\n".join(archive.name for archive, _ in self.built.values())
        return self._templates / hashlib.sha256(version + names.encode()).hexdigest()[:16]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one node at a time makes a template; the others wait for it."""
        self._templates.mkdir(parents=True, exist_ok=True)
        with (self._templates / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def fill(self, disk: Path) -> bool:
        """Give an empty disk the images, or those of the newest template; True if none is missing then."""
        exact = self.template
        found = [exact] if exact.is_dir() else sorted(self._templates.glob("?" * 16), key=lambda p: p.stat().st_mtime)
        if found:
            _link(found[-1], disk)
        return exact.is_dir()

    def keep(self, disk: Path) -> None:
        """Make a template of a disk whose containerd is stopped."""
        scratch = self._templates / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        _link(disk, scratch)
        scratch.rename(self.template)
        for old in sorted(self._templates.glob("?" * 16), key=lambda p: p.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--link", str(source), str(target))
    for database in target.glob("io.containerd.*/*.db"):
        copy = database.with_suffix(".copy")
        shutil.copy2(database, copy)
        copy.replace(database)
    target.touch()
