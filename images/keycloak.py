"""Keycloak from Maven Central, unpacked and optimised once per machine.

It lands in ``<cache>/keycloak/<version>-<key>``, where ``key`` digests the options of its build.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from tests.testbed.build import cache_dir

VERSION = "26.5.6"
_SHA256 = "490189d9dff05272432d51f71a069462eeca97f2920a694d539a1e6c26a5a347"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_BUILT_WITH = ("--health-enabled=true", "--features-disabled=kerberos,ciba,device-flow")
# Each server starts empty and leaves nothing.
IN_MEMORY = "--db=dev-mem"
ON_POSTGRESQL = "--db=postgres"


@cache
def home(database: str = IN_MEMORY) -> Path:
    """Folder of a Keycloak that starts with ``--optimized``. Raises SystemExit with what failed."""
    key = hashlib.sha256("|".join((_SHA256, database, *_BUILT_WITH)).encode()).hexdigest()[:16]
    folder = cache_dir() / "keycloak" / f"{VERSION}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            print("build: keycloak (about 60 s on two cores)", flush=True)
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                _make(Path(scratch), database).rename(folder)
            print(f"build: keycloak done in {time.monotonic() - begun:.0f} s", flush=True)
    return folder


def _make(scratch: Path, database: str) -> Path:
    name = f"keycloak-quarkus-dist-{VERSION}.zip"
    artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
    _run("mvn", "--quiet", "--batch-mode", f"{_PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}")
    found = hashlib.sha256((scratch / name).read_bytes()).hexdigest()
    if found != _SHA256:
        raise SystemExit(f"build: {name} has digest {found}, not {_SHA256}")
    # Java's own tool keeps no file modes; unzip may be missing.
    _run("python3", "-m", "zipfile", "-e", str(scratch / name), str(scratch))
    place = scratch / f"keycloak-{VERSION}"
    (place / "bin" / "kc.sh").chmod(0o755)
    _run(str(place / "bin" / "kc.sh"), "build", database, *_BUILT_WITH)
    return place


def _run(*args: str) -> None:
    done = subprocess.run(args, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"build: {Path(args[0]).name} failed with exit code {done.returncode}:\n{done.stdout[-4000:]}")


if __name__ == "__main__":
    home()
