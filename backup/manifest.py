"""What a snapshot is made of, and its plaintext bytes: entries in shards, changes in deltas, both named by a root.

Pure: no store, no key. docs/format.md has the format. Every list is a column, so that whole columns are compared,
encoded and decoded by one call instead of one for each object.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from domicile.backup import canonical
from domicile.backup.errors import IntegrityError, TooLargeError
from domicile.backup.sealing import FORMAT_VERSION, MAX_PLAINTEXT, sealed_size

MAX_NAME_BYTES = 1024
MAX_OBJECTS = 65536
_CRC = 1 << 32
_LEVEL = 1


class Part(NamedTuple):
    """Where a sealed part lies: ``size`` bytes of plaintext, sealed under ``epoch`` at ``offset`` of a pack."""

    pack: str
    offset: int
    size: int
    epoch: int

    @property
    def length(self) -> int:
        """Bytes of ciphertext."""
        return sealed_size(self.size)


class Entry(NamedTuple):
    """One object of the source at one version; ``size`` and ``crc32c`` are of its plaintext."""

    name: str
    version: str
    size: int
    crc32c: int
    parts: tuple[Part, ...]


class Change(NamedTuple):
    """What a delta says of a name since commit ``seq``: its entry, or None where the object is gone."""

    name: str
    seq: int
    entry: Entry | None


class Shard(NamedTuple):
    """The objects whose names follow ``after``, up to the next shard's ``after``.

    ``name``, ``digest`` (SHA-256 of the ciphertext, hex), ``length`` and ``epoch`` are of the sealed entries as commit
    ``seq`` wrote them; changes of later commits stand in deltas. ``objects``, ``bytes`` and ``rows`` (see
    ``rows_digest``) say what the shard holds with those.
    """

    after: str
    name: str
    digest: str
    length: int
    epoch: int
    seq: int
    objects: int
    bytes: int
    rows: str


class Delta(NamedTuple):
    """A sealed list of ``rows`` changes, newer than those of the deltas before it."""

    name: str
    digest: str
    length: int
    epoch: int
    rows: int


class Usage(NamedTuple):
    """How many of a shared pack's bytes the snapshot refers to."""

    bytes: int
    live: int


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
    shards: tuple[Shard, ...]
    deltas: tuple[Delta, ...]
    packs: dict[str, Usage]

    @property
    def objects(self) -> int:
        """Number of objects."""
        return sum(shard.objects for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Sum of their sizes."""
        return sum(shard.bytes for shard in self.shards)


def rows_digest(names: Sequence[str], versions: Sequence[str], sizes: Sequence[int]) -> str:
    """SHA-256 (hex) by which a listing is compared with a shard, without reading the shard."""
    return hashlib.sha256(canonical.encode([names, versions, sizes])).hexdigest()


def rows_of(entries: Iterable[Entry]) -> str:
    """``rows_digest`` of entries."""
    rows = list(entries)
    return rows_digest([e.name for e in rows], [e.version for e in rows], [e.size for e in rows])


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """The plaintext of a shard or journal. Raises TooLargeError, IntegrityError where no reader would take it."""
    _require_readable(entries)
    return _pack(_columns(entries))


def decode_entries(data: bytes, what: str) -> list[Entry]:
    """The entries of a shard or journal, strictly checked. Raises IntegrityError."""
    value = canonical.fields(_unpack(data, what), what, **_COLUMNS)
    entries = _entries(value, what)
    if None in entries:
        raise IntegrityError(f"{what} has a malformed entry")
    found = [entry for entry in entries if entry]
    if not _sorted([entry.name for entry in found]):
        raise IntegrityError(f"{what} is not sorted by name")
    return found


def encode_changes(changes: Sequence[Change]) -> bytes:
    """The plaintext of a delta. Raises as ``encode_entries``."""
    gone = Entry("", "", 0, 0, ())
    _require_readable([change.entry for change in changes if change.entry])
    value = _columns([(change.entry or gone)._replace(name=change.name) for change in changes])
    return _pack(value | {"seqs": [change.seq for change in changes]})


def decode_changes(data: bytes, what: str) -> list[Change]:
    """The changes of a delta, strictly checked. Raises IntegrityError."""
    value = canonical.fields(_unpack(data, what), what, **_COLUMNS, seqs=_counts)
    if len(value["seqs"]) != len(value["names"]):
        raise IntegrityError(f"{what} has columns of different lengths")
    entries = _entries(value, what)
    changes = [Change(*change) for change in zip(value["names"], value["seqs"], entries, strict=True)]
    if not _sorted(value["names"]):
        raise IntegrityError(f"{what} is not sorted by name")
    return changes


def _sorted(names: Sequence[str]) -> bool:
    return all(a < b for a, b in pairwise(names))


def _require_readable(entries: Iterable[Entry]) -> None:
    """Raise IntegrityError for what a live bucket may say and no reader would take."""
    if not all(_is_name(entry.name) and canonical.text(entry.version) for entry in entries):
        raise IntegrityError(
            f"an object of the live bucket has a name that is not UTF-8 of up to {MAX_NAME_BYTES} bytes, or a version"
            " (generation, ETag) that has not 1 to 256 characters: no snapshot can hold it"
        )


def _columns(entries: Sequence[Entry]) -> dict[str, Any]:
    if len(entries) > MAX_OBJECTS:
        raise TooLargeError(f"{len(entries)} objects in one piece, of which a reader takes {MAX_OBJECTS}")
    packs: dict[tuple[str, int], int] = {}
    parts = [
        [n for p in entry.parts for n in (packs.setdefault((p.pack, p.epoch), len(packs)), p.offset, p.size)]
        for entry in entries
    ]
    return {
        "version": FORMAT_VERSION,
        "names": [entry.name for entry in entries],
        "versions": [entry.version for entry in entries],
        "sizes": [entry.size for entry in entries],
        "crcs": [entry.crc32c for entry in entries],
        "packs": [list(pack) for pack in packs],
        "parts": parts,
    }


def _entries(value: dict[str, Any], what: str) -> list[Entry | None]:
    """An entry for each row; None for a row without a version, which must be empty."""
    packs = [(name, epoch) for name, epoch in value["packs"]]
    columns = [value[column] for column in ("names", "versions", "sizes", "crcs", "parts")]
    if len({len(column) for column in columns}) != 1 or len(columns[0]) > MAX_OBJECTS:
        raise IntegrityError(f"{what} has columns of different lengths, or too many rows")
    entries: list[Entry | None] = []
    try:
        for name, version, size, crc, flat in zip(*columns, strict=True):
            parts = tuple(
                Part(packs[flat[i]][0], flat[i + 1], flat[i + 2], packs[flat[i]][1]) for i in range(0, len(flat), 3)
            )
            if not version and (size, crc, parts) == (0, 0, ()):
                entries.append(None)
                continue
            if not version or not parts or sum(part.size for part in parts) != size:
                raise ValueError
            if min(flat) < 0 or max(part.size for part in parts) > MAX_PLAINTEXT:
                raise ValueError
            entries.append(Entry(name, version, size, crc, parts))
    except (IndexError, ValueError):
        raise IntegrityError(f"{what} has a malformed entry") from None
    return entries


def encode_root(root: Root) -> bytes:
    """The plaintext of a root manifest. Raises TooLargeError."""
    return _pack(
        {
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
            "shards": root.shards,
            "deltas": root.deltas,
            "packs": [[pack, *usage] for pack, usage in root.packs.items()],
        }
    )


def decode_root(data: bytes, what: str) -> Root:
    """The root manifest, strictly checked. Raises IntegrityError."""
    value = canonical.fields(
        _unpack(data, what),
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
        shards=_rows(_is_bound, _is_id, _is_digest, *[canonical.count] * 5, _is_digest),
        deltas=_rows(_is_id, _is_digest, *[canonical.count] * 3),
        packs=_rows(_is_id, canonical.count, canonical.count),
    )
    root = Root(
        value["tenant"],
        value["zone"],
        value["seq"],
        value["epoch"],
        value["prev"],
        value["cutTime"],
        value["keyId"],
        value["source"],
        tuple(Shard(*row) for row in value["shards"]),
        tuple(Delta(*row) for row in value["deltas"]),
        {pack: Usage(size, live) for pack, size, live in value["packs"]},
    )
    if (root.objects, root.bytes) != (value["objects"], value["bytes"]):
        raise IntegrityError(f"the totals of {what} are not those of its shards")
    if not all(a.after < b.after for a, b in pairwise(root.shards)) or (root.shards and root.shards[0].after):
        raise IntegrityError(f"the shards of {what} do not cover all names once")
    return root


def _pack(value: Any) -> bytes:
    text = canonical.encode(value)
    if len(text) > MAX_PLAINTEXT:
        raise TooLargeError(f"a manifest of {len(text)} bytes is larger than the {MAX_PLAINTEXT} that a reader takes")
    return zlib.compress(text, _LEVEL)


def _unpack(data: bytes, what: str) -> Any:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, MAX_PLAINTEXT)
    except zlib.error:
        raise IntegrityError(f"{what} is not a zlib stream") from None
    if not inflate.eof or inflate.unused_data:
        raise IntegrityError(f"{what} is cut off, followed by something, or too large")
    return canonical.decode(text, what)


_is_id = canonical.hexadecimal(32)
_is_digest = canonical.hexadecimal(64)


def _is_version(value: Any) -> bool:
    return type(value) is int and value == FORMAT_VERSION


def _is_name(value: Any) -> bool:
    try:
        return isinstance(value, str) and 1 <= len(value.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


def _is_bound(value: Any) -> bool:
    return value == "" or _is_name(value)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= canonical.MAX_COUNT for n in value)


def _rows(*checks: Any) -> Any:
    return lambda value: (
        isinstance(value, list)
        and all(
            isinstance(row, list)
            and len(row) == len(checks)
            and all(check(v) for check, v in zip(checks, row, strict=True))
            for row in value
        )
    )


_COLUMNS: dict[str, Any] = {
    "version": _is_version,
    "names": lambda v: isinstance(v, list) and all(map(_is_name, v)),
    "versions": lambda v: isinstance(v, list) and all(n == "" or canonical.text(n) for n in v),
    "sizes": _counts,
    "crcs": lambda v: _counts(v) and all(n < _CRC for n in v),
    "packs": _rows(_is_id, canonical.count),
    "parts": lambda v: isinstance(v, list) and all(_counts(p) and len(p) % 3 == 0 for p in v),
}
