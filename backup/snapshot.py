"""The sealed snapshot: parts in packs, entries in shards, shards in a root manifest. docs/format.md has the format.

Everything is written once under opaque random names, ``<tenant>/packs|shards|manifests/<32 hex digits>``, and refers to
what was there before; so an unchanged shard is named again, not written again, and a crash leaves only orphans.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from domicile.backup import canonical
from domicile.backup.errors import IntegrityError
from domicile.backup.records import Slot
from domicile.backup.sealing import FORMAT_VERSION, HEADER, MAX_PLAINTEXT, SEGMENT, TAG, Associated, Sealer, sealed_size
from domicile.backup.stores.base import Bucket, NotFoundError, create_once

PACK_BYTES = 32 << 20
PART_BYTES = 32 << 20
LARGE_BYTES = 16 << 20
_MAX_NAME_BYTES = 1024
_CRC = 1 << 32


class Part(NamedTuple):
    """Where a sealed part lies: bytes ``offset`` to ``offset + length`` of a pack; ``seal`` and ``epoch`` bind it."""

    pack: str
    offset: int
    length: int
    seal: str
    epoch: int

    @property
    def size(self) -> int:
        """Bytes of plaintext."""
        return self.length - HEADER - TAG * -(-self.length // SEGMENT)


class Entry(NamedTuple):
    """One object of the source at one version; ``size`` and ``crc32c`` are of its plaintext."""

    name: str
    version: str
    size: int
    crc32c: int
    parts: tuple[Part, ...]


class Shard(NamedTuple):
    """A sealed list of entries. ``digest`` is the SHA-256 of its ciphertext, ``rows`` the one of its (name, version,
    size).
    """

    name: str
    digest: str
    length: int
    epoch: int
    objects: int
    bytes: int
    rows: str


@dataclass(frozen=True, slots=True)
class Root:
    """The root manifest: what a commit's snapshot consists of. ``source`` is the site and bucket that was read."""

    tenant: str
    zone: str
    seq: int
    epoch: int
    prev: str | None
    cut_time: str
    key_id: str
    source: str
    objects: int
    bytes: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose data is sealed and opened: a tenant in a zone under a key."""

    tenant: str
    zone: str
    sealer: Sealer

    def seal(self, kind: str, name: str, generation: str, epoch: int, plaintext: bytes) -> bytes:
        """Ciphertext bound to all of this."""
        return self.sealer.seal(Associated(self.tenant, self.zone, kind, name, generation, epoch), plaintext)

    def open(self, kind: str, name: str, generation: str, epoch: int, data: bytes | memoryview) -> bytes:
        """Plaintext of what was sealed as this. Raises IntegrityError."""
        return self.sealer.open(Associated(self.tenant, self.zone, kind, name, generation, epoch), data)


def new_name() -> str:
    """A random opaque name, 32 hex digits."""
    return secrets.token_hex(16)


def put(replica: Bucket, path: str, data: bytes) -> None:
    """Write a new object of the replica. Raises IntegrityError where its random name holds something else."""
    if not create_once(replica, path, data):
        raise IntegrityError(f"{path} at site {replica.site} holds other bytes than were written")


def cut(names: Iterable[str]) -> Iterator[list[str]]:
    """Sorted names in shards of about 256: a shard ends behind a name whose SHA-256 starts with a zero byte.

    So where a shard ends depends on the names near it only, and a new object rewrites one shard.
    """
    shard: list[str] = []
    for name in names:
        shard.append(name)
        if hashlib.sha256(name.encode()).digest()[0] == 0:
            yield shard
            shard = []
    if shard:
        yield shard


def rows_digest(rows: Iterable[tuple[str, str, int]]) -> str:
    """SHA-256, in hex, of the (name, version, size) of a shard's objects."""
    return hashlib.sha256(canonical.encode([list(row) for row in rows])).hexdigest()


def encode_shard(entries: Sequence[Entry]) -> bytes:
    """The canonical plaintext of a shard."""
    return canonical.encode({"version": FORMAT_VERSION, "entries": entries})


def decode_shard(data: bytes, what: str) -> list[Entry]:
    """The entries of a shard, strictly checked. Raises IntegrityError."""
    value = canonical.decode(data, what)
    canonical.fields(value, what, version=_is_version, entries=lambda v: isinstance(v, list))
    try:
        entries = [Entry(n, v, s, c, tuple(Part(*p) for p in parts)) for n, v, s, c, parts in value["entries"]]
        well = all(_is_entry(entry) for entry in entries) and all(a.name < b.name for a, b in pairwise(entries))
    except (TypeError, ValueError):
        well = False
    if not well:
        raise IntegrityError(f"{what} has a malformed entry")
    return entries


def _is_version(value: Any) -> bool:
    return type(value) is int and value == FORMAT_VERSION


_is_id = canonical.hexadecimal(32)
_is_digest = canonical.hexadecimal(64)


def _is_entry(entry: Entry) -> bool:
    return (
        isinstance(entry.name, str)
        and 1 <= len(entry.name.encode()) <= _MAX_NAME_BYTES
        and canonical.text(entry.version)
        and canonical.count(entry.size)
        and canonical.count(entry.crc32c)
        and entry.crc32c < _CRC
        and len(entry.parts) > 0
        and all(_is_part(part) for part in entry.parts)
        and sum(part.size for part in entry.parts) == entry.size
    )


def _is_part(part: Part) -> bool:
    return (
        _is_id(part.pack)
        and canonical.count(part.offset)
        and canonical.count(part.length)
        and part.length >= HEADER + TAG
        and part.size <= MAX_PLAINTEXT
        and sealed_size(part.size) == part.length
        and _is_id(part.seal)
        and canonical.count(part.epoch)
    )


def encode_root(root: Root) -> bytes:
    """The canonical plaintext of a root manifest."""
    value = {
        "version": FORMAT_VERSION,
        "tenant": root.tenant,
        "zone": root.zone,
        "seq": root.seq,
        "epoch": root.epoch,
        "prev": root.prev,
        "cutTime": root.cut_time,
        "keyId": root.key_id,
        "source": root.source,
        "objects": root.objects,
        "bytes": root.bytes,
        "shards": [shard._asdict() for shard in root.shards],
    }
    return canonical.encode(value)


def decode_root(data: bytes, what: str) -> Root:
    """The root manifest, strictly checked. Raises IntegrityError."""
    value = canonical.fields(
        canonical.decode(data, what),
        what,
        version=_is_version,
        tenant=canonical.hexadecimal(32),
        zone=canonical.text,
        seq=canonical.count,
        epoch=canonical.count,
        prev=lambda v: v is None or _is_digest(v),
        cutTime=canonical.moment,
        keyId=canonical.text,
        source=canonical.text,
        objects=canonical.count,
        bytes=canonical.count,
        shards=lambda v: isinstance(v, list),
    )
    checks = {"name": _is_id, "digest": _is_digest, "rows": _is_digest} | dict.fromkeys(
        ("length", "epoch", "objects", "bytes"), canonical.count
    )
    shards = tuple(Shard(**canonical.fields(shard, what, **checks)) for shard in value["shards"])
    if sum(s.objects for s in shards) != value["objects"] or sum(s.bytes for s in shards) != value["bytes"]:
        raise IntegrityError(f"the totals of {what} are not those of its shards")
    return Root(
        value["tenant"],
        value["zone"],
        value["seq"],
        value["epoch"],
        value["prev"],
        value["cutTime"],
        value["keyId"],
        value["source"],
        value["objects"],
        value["bytes"],
        shards,
    )


def write_shard(replica: Bucket, scope: Scope, epoch: int, entries: Sequence[Entry]) -> Shard:
    """Seal and store a shard."""
    name = new_name()
    sealed = scope.seal("shard", name, "", epoch, encode_shard(entries))
    put(replica, f"{scope.tenant}/shards/{name}", sealed)
    rows = rows_digest((e.name, e.version, e.size) for e in entries)
    total = sum(e.size for e in entries)
    return Shard(name, hashlib.sha256(sealed).hexdigest(), len(sealed), epoch, len(entries), total, rows)


def write_root(replica: Bucket, scope: Scope, root: Root) -> tuple[str, str]:
    """Seal and store a root manifest; returns its name and the SHA-256 of its ciphertext, in hex."""
    name = new_name()
    sealed = scope.seal("manifest", name, str(root.seq), root.epoch, encode_root(root))
    put(replica, f"{scope.tenant}/manifests/{name}", sealed)
    return name, hashlib.sha256(sealed).hexdigest()


def _fetch(replica: Bucket, path: str, digest: str) -> bytes:
    try:
        sealed = replica.read(path)
    except NotFoundError:
        raise IntegrityError(f"{path} is missing at site {replica.site}") from None
    if hashlib.sha256(sealed).hexdigest() != digest:
        raise IntegrityError(f"{path} at site {replica.site} is damaged: its digest does not match")
    return sealed


def read_shard(replica: Bucket, scope: Scope, shard: Shard) -> list[Entry]:
    """Entries of a shard of an authenticated root manifest. Raises IntegrityError."""
    path = f"{scope.tenant}/shards/{shard.name}"
    sealed = _fetch(replica, path, shard.digest)
    entries = decode_shard(scope.open("shard", shard.name, "", shard.epoch, sealed), path)
    if len(entries) != shard.objects or sum(e.size for e in entries) != shard.bytes:
        raise IntegrityError(f"{path} has other totals than the root manifest says")
    return entries


def read_root(replica: Bucket, scope: Scope, commit: Slot) -> Root:
    """Root manifest of an authenticated commit. Raises IntegrityError."""
    path = f"{scope.tenant}/manifests/{commit.manifest}"
    sealed = _fetch(replica, path, str(commit.manifest_digest))
    root = decode_root(scope.open("manifest", str(commit.manifest), str(commit.seq), commit.epoch, sealed), path)
    said = (root.tenant, root.zone, root.seq, root.epoch, root.prev, root.cut_time, root.key_id)
    wanted = (scope.tenant, scope.zone, commit.seq, commit.epoch, commit.prev, commit.cut_time, commit.key_id)
    if said != wanted:
        raise IntegrityError(f"{path} is not the manifest of commit {commit.seq} of tenant {scope.tenant}")
    return root
