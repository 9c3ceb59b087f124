"""Layers as tar files, and images as docker-archive tars of layers and a config.

Format: moby/moby image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format": a manifest, configs, layers.
Equal input gives equal bytes: entries are sorted, belong to root and carry no times.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NON_ROOT = 65532
# Raise it when equal input gives other bytes than before: it is part of every key in the cache.
FORMAT = "1"


@dataclass(frozen=True)
class Config:
    """What a container runtime is told. The user is a number, so that runAsNonRoot can be checked."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int = NON_ROOT

    def to_wire(self, layers: list[str]) -> dict[str, Any]:
        """The image config for layers of these SHA-256 digests (hex, of the uncompressed tar)."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **self.environment}
        return {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": f"{self.user}:{self.user}",
                "Env": [f"{k}={v}" for k, v in sorted(env.items())],
                "Entrypoint": list(self.entrypoint),
                "Cmd": list(self.command),
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{d}" for d in layers]},
        }


def scratch_prefix(path: Path) -> str:
    """How the temporary folders begin that are made beside ``path``, whatever its key."""
    return f".{path.name.rsplit('-', 1)[0]}-scratch-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place on success and leaves nothing on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=scratch_prefix(path)) as scratch:
        temporary = Path(scratch) / path.name
        yield temporary
        temporary.replace(path)


def write_layer(path: Path, files: Mapping[str, Path | bytes], executable: frozenset[str] = frozenset()) -> None:
    """Write a layer of regular files: name in the image (no leading slash) -> content, or the file to copy it from."""
    with replacing(path) as temporary, tarfile.open(temporary, "w") as tar:
        made: set[str] = set()
        for name in sorted(files):
            for folder in reversed(Path(name).parents):
                if folder.as_posix() not in made | {"."}:
                    made.add(folder.as_posix())
                    entry = tarfile.TarInfo(folder.as_posix())
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            source = files[name]
            content = source.read_bytes() if isinstance(source, Path) else source
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name in executable else 0o644
            tar.addfile(entry, io.BytesIO(content))


def write_image(path: Path, reference: str, layers: list[Path], config: Config) -> None:
    """Write a docker-archive of ``layers`` (lowest first) under ``reference``."""
    digests = []
    for layer in layers:
        with layer.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    wire = json.dumps(config.to_wire(digests), sort_keys=True).encode()
    name = f"{hashlib.sha256(wire).hexdigest()}.json"
    members = [f"{digest}/layer.tar" for digest in digests]
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": members}]).encode()
    with replacing(path) as temporary, tarfile.open(temporary, "w") as tar:
        for member, layer in zip(members, layers, strict=True):
            entry = tarfile.TarInfo(member)
            entry.size = layer.stat().st_size
            with layer.open("rb") as stream:
                tar.addfile(entry, stream)
        for member, content in ((name, wire), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
