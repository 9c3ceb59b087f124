"""The layers that images share: Debian with Python, installed Python distributions, and source files.

Each is a tar in ``<cache>/images/layers``, named by a digest of all that goes into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from packaging.markers import Marker

from images.archive import NON_ROOT, replacing, scratch_prefix, write_layer
from tests.testbed.build import cache_dir

SUITE = "bookworm"
PYTHON = "3.11"
_DEBIANS_PYTHON = "3.11.2"
PACKAGES = "dist-packages"
SITE = f"usr/local/lib/python{PYTHON}/{PACKAGES}"

_BASE_PACKAGES = ("python3", "libstdc++6", "ca-certificates", "usr-is-merged")
_OPTIONS = (
    "--variant=essential",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--format=tar",
    *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "info", "locale", "zoneinfo")),
    f"--customize-hook=echo nonroot:x:{NON_ROOT}:{NON_ROOT}::/nonexistent:/usr/sbin/nologin >> $1/etc/passwd",
    f"--customize-hook=echo nonroot:x:{NON_ROOT}: >> $1/etc/group",
    # The host's mirror and proxy may carry credentials, and nothing is installed into a finished image.
    (
        "--customize-hook=cd $1 && rm -rf etc/apt etc/resolv.conf etc/hostname"
        " var/lib/apt var/cache/* var/log/* usr/share/doc"
    ),
    "--skip=cleanup/apt,cleanup/mmdebstrap,output/dev",
)
# Raise it when the rules below change what a layer of packages holds.
_PACKAGES_RECIPE = "1"
# Nothing but these services of AWS is ever called; the whole set weighs 28 MB.
_BOTOCORE_SERVICES = {"s3", "sts", "kms"}


def folder() -> Path:
    """Where images and layers are kept."""
    return cache_dir() / "images"


def digest(*parts: str | bytes) -> str:
    """16 hex digits over the parts and their borders."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(path: Path, what: str, seconds: int, make: Callable[[Path], None]) -> Path:
    """Return ``path``, made by ``make(temporary)`` unless it is there. One process makes, others wait for it."""
    if path.exists():
        path.touch()
        return path
    with _locked(path.parent / f".{path.name.rsplit('-', 1)[0]}.lock"):
        if not path.exists():
            print(f"images: {what} (about {seconds} s)", flush=True)
            begun = time.monotonic()
            for dead in path.parent.glob(f"{scratch_prefix(path)}*"):
                shutil.rmtree(dead, ignore_errors=True)
            with replacing(path) as temporary:
                make(temporary)
            print(f"images: {what} done in {time.monotonic() - begun:.0f} s", flush=True)
    return path


def _run(*args: str) -> None:
    done = subprocess.run(args, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"images: {args[0]} failed with exit code {done.returncode}:\n{done.stdout[-4000:]}")


def host_apt() -> tuple[list[str], list[str]]:
    """The machine's own Debian mirror and apt's download settings, as options and mirrors of mmdebstrap."""
    acquire = subprocess.run(["apt-config", "dump", "Acquire::http"], capture_output=True, text=True, check=True).stdout
    acquire += subprocess.run(
        ["apt-config", "dump", "Acquire::https"], capture_output=True, text=True, check=True
    ).stdout
    options = [f"--aptopt={line}" for line in acquire.splitlines() if not line.endswith('"";')]
    for candidate in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if candidate.exists() and SUITE in candidate.read_text():
            return options, [str(candidate)]
    return options, []


def base() -> Path:
    """Debian's essential packages and Python, without documentation and package manager."""
    return debian("base", _BASE_PACKAGES)


def debian(
    name: str, packages: Sequence[str], oldest: Mapping[str, str] | None = None, trim: str = "", prepare: str = ""
) -> Path:
    """A whole Debian of the essential and the named ``packages``, as one layer.

    ``oldest``: by package, the lowest version that will do. ``trim``: shell words, run in its root when all is there;
    ``prepare``: before the named packages are.
    Raises SystemExit where the mirror has an older one.
    """
    include = (f"--include={','.join(packages)}",)
    hooks = tuple(f"--customize-hook={_at_least(package, version)}" for package, version in (oldest or {}).items())
    if trim:
        hooks += (f"--customize-hook=cd $1 && {trim}",)
    if prepare:
        hooks += (f"--essential-hook=cd $1 && {prepare}",)

    def make(path: Path) -> None:
        if not shutil.which("mmdebstrap"):
            raise SystemExit("images: mmdebstrap is missing; run `make setup` as root, or `apt-get install mmdebstrap`")
        options, mirrors = host_apt()
        _run("mmdebstrap", *include, *_OPTIONS, *hooks, *options, SUITE, str(path), *mirrors)

    key = digest(SUITE, *include, *_OPTIONS, *hooks)
    return cached(
        folder() / "layers" / f"{name}-{key}.tar", f"layer {name}: Debian {SUITE} with {packages[0]}", 75, make
    )


def _at_least(package: str, version: str) -> str:
    return (
        f'found=$(dpkg-query --admindir="$1/var/lib/dpkg" -Wf "\\${{Version}}" {package})'
        f' && dpkg --compare-versions "$found" ge {version}'
        f' || {{ echo "{package} $found is older than {version}; use a mirror with security updates" >&2; exit 1; }}'
    )


def _unwanted(path: Path) -> bool:
    """Parts of installed distributions that no image needs at run time."""
    parts = path.parts
    if parts[:2] == ("botocore", "data") and len(parts) > 3:
        return parts[2] not in _BOTOCORE_SERVICES
    return (
        parts[0] == "bin"
        or "__pycache__" in parts
        or path.suffix in {".pyi", ".pyx", ".pxd", ".c", ".h"}
        or (len(parts) > 2 and parts[1] in {"test", "tests", "e2e_test"})
    )


def compiled(files: Mapping[str, Path | bytes]) -> dict[str, Path | bytes]:
    """The files, with Python sources compiled beside them: a read-only container would compile at each start.

    The byte code is of the running interpreter's version, and of no use in the image if that is not the image's.
    """
    out: dict[str, Path | bytes] = dict(files)
    with tempfile.TemporaryDirectory() as scratch:
        target, source = Path(scratch) / "out.pyc", Path(scratch) / "in.py"
        for name, content in files.items():
            if not name.endswith(".py"):
                continue
            source.write_bytes(content.read_bytes() if isinstance(content, Path) else content)
            py_compile.compile(
                str(source),
                str(target),
                dfile=f"/{name}",
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            out[importlib.util.cache_from_source(name)] = target.read_bytes()
    return out


def without_markers(requirements: str) -> str:
    """A requirements text as the images' Python sees it; pip would ask the one that it runs in."""
    kept = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", requirements):
        pin, *rest = block.split("\n")
        named, _, marker = pin.removesuffix("\\").partition(" ; ")
        if not marker or Marker(marker.strip()).evaluate({"python_full_version": _DEBIANS_PYTHON}):
            kept.append("\n".join([f"{named.rstrip()} \\", *rest]) if rest else block)
    return "\n".join(kept)


def distributions(name: str, requirements: str) -> Path:
    """The distributions of a requirements text with hashes, installed from wheels."""
    requirements = without_markers(requirements)

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            listing, target = Path(scratch) / "requirements.txt", Path(scratch) / "site"
            listing.write_text(requirements)
            _run(
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-compile",
                "--require-hashes",
                "--only-binary=:all:",
                f"--python-version={PYTHON}",
                "--root-user-action=ignore",
                f"--target={target}",
                "--requirement",
                str(listing),
            )
            found = {p.relative_to(target) for p in target.rglob("*") if p.is_file()}
            files = {f"{SITE}/{p.as_posix()}": target / p for p in found if not _unwanted(p)}
            write_layer(path, compiled(files))

    key = digest(requirements, _PACKAGES_RECIPE, str(sys.version_info[:2]))
    return cached(folder() / "layers" / f"{name}-packages-{key}.tar", f"Python packages of image {name}", 60, make)
