"""Root folders of Debian with some packages, for servers that tests run without a cluster; made once per machine.

They lie in ``<cache>/rootfs/<name>-<key>``. Nothing of a package is started or changed on the machine itself.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from images.build import IMAGES
from images.layers import SUITE, cached, digest, host_apt
from tests.testbed.build import cache_dir

PACKAGES = {
    "slapd": ("slapd", "ldap-utils"),
    "samba": ("samba", "samba-ad-provision", "samba-dsdb-modules", "samba-vfs-modules", "python3-samba"),
    "wrk": ("wrk",),
}
_KEPT = 2
_IN_USE_SECONDS = 3600.0


def rootfs(name: str) -> Path:
    """The root folder of the named set of packages, for ``chroot``."""
    packages = PACKAGES[name]
    key = digest(SUITE, *packages)

    def make(path: Path) -> None:
        options, mirrors = host_apt()
        with tempfile.TemporaryFile() as log:
            done = subprocess.run(
                [
                    "mmdebstrap",
                    "--variant=minbase",
                    f"--include={','.join(packages)}",
                    "--format=directory",
                    *options,
                    SUITE,
                    str(path),
                    *mirrors,
                ],
                check=False,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            if done.returncode:
                log.seek(0)
                raise SystemExit(f"build: mmdebstrap failed for {name}:\n{log.read().decode()[-4000:]}")

    return cached(cache_dir() / "rootfs" / f"{name}-{key}", f"root folder of {name}", 40, make)


def image_root(name: str, mount_points: tuple[str, ...] = ()) -> Path:
    """The root folder of one of our images, all layers unpacked; with folders and files that mounts need."""
    layers = IMAGES[name].layers()
    key = digest(*(layer.name for layer in layers), *mount_points)

    def make(path: Path) -> None:
        path.mkdir()
        for layer in layers:
            subprocess.run(["tar", "--extract", "--file", layer, "--directory", path], check=True)
        for point in mount_points:
            target = path / point.lstrip("/")
            if point.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.touch()

    path = cached(cache_dir() / "rootfs" / f"{name}-{key}", f"root folder of image {name}", 5, make)
    others = sorted(path.parent.glob(f"{name}-{'[0-9a-f]' * 16}"), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in others[_KEPT:]:
        if time.time() - old.stat().st_mtime > _IN_USE_SECONDS:
            shutil.rmtree(old)
    return path


if __name__ == "__main__":
    for each in PACKAGES:
        rootfs(each)
