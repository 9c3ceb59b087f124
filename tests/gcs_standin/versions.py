"""Versions of objects: live, noncurrent and soft-deleted ones, and how writes, deletes and restores move them.

Source: Cloud Storage, Object Versioning, Soft delete, Bucket lock and Object holds.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import google_crc32c

from tests.gcs_standin.refusal import RefusedError


@lru_cache(maxsize=1024)  # four of an object's fields are the same moment
def timestamp(moment: datetime) -> str:
    """RFC 3339 with milliseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def crc32c(data: bytes) -> str:
    """CRC32C as the API writes it: base64 of four big-endian bytes."""
    return base64.b64encode(struct.pack(">I", google_crc32c.value(data))).decode()


class Place(NamedTuple):
    """Where objects are shown to be: their bucket, the server's URL, and the bucket's retention in seconds."""

    bucket: str
    base: str
    retention: int

    def of(self, version: Version) -> str:
        """Path of an object below the API's version."""
        return f"b/{self.bucket}/o/{quote(version.name, safe='')}"


@dataclass(slots=True)
class Version:
    """One generation of an object; ``settings`` are the fields that clients may set."""

    name: str
    data: bytes
    generation: int
    created: datetime
    settings: dict[str, Any]
    kms_key: str | None = None
    metageneration: int = 1
    updated: datetime | None = None
    noncurrent: datetime | None = None
    soft_deleted: datetime | None = None
    hard_deleted: datetime | None = None
    retained_from: datetime | None = None
    crc32c: str = ""
    md5: bytes = b""

    def __post_init__(self) -> None:
        if not self.md5:
            self.crc32c = crc32c(self.data)
            self.md5 = hashlib.md5(self.data).digest()

    @property
    def etag(self) -> str:
        """The JSON API's ETag: of data and metadata."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    @property
    def content_type(self) -> str:
        """What it is served as."""
        return str(self.settings.get("contentType") or "application/octet-stream")

    def shown(self, place: Place, names: Collection[str] | None = None) -> dict[str, Any]:
        """The Object resource, or those of its fields that are named."""
        shown = {name: _SHOWN[name](self, place) for name in names or _SHOWN if name in _SHOWN}
        shown |= {name: value for name, value in self.settings.items() if names is None or name in names}
        return {name: value for name, value in shown.items() if value is not None}

    def retained_until(self, retention: int) -> datetime | None:
        """When a retention of so many seconds ends; None while an event-based hold keeps it from starting."""
        if self.settings.get("eventBasedHold"):
            return None
        return (self.retained_from or self.created) + timedelta(seconds=retention)

    def check_removable(self, bucket: str, retention: int, now: datetime) -> None:
        """Raise RefusedError (403) while a hold or the retention forbids to delete, overwrite or archive it."""
        for hold, word in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
            if self.settings.get(hold):
                message = f"Object '{bucket}/{self.name}' is under active {word} hold and cannot be deleted,"
                raise RefusedError(
                    403, "objectUnderActiveHold", f"{message} overwritten or archived until hold is removed."
                )
        until = self.retained_until(retention)
        if retention and until and until > now:
            message = f"Object '{bucket}/{self.name}' is subject to bucket's retention policy and cannot be deleted"
            raise RefusedError(403, "retentionPolicyNotMet", f"{message} or overwritten until {timestamp(until)}")


def _moment(moment: datetime | None) -> str | None:
    return timestamp(moment) if moment else None


# How the fields of an Object resource are made, but those that clients set; None: there is no such field.
_SHOWN: dict[str, Callable[[Version, Place], str | None]] = {
    "kind": lambda version, place: "storage#object",
    "id": lambda version, place: f"{place.bucket}/{version.name}/{version.generation}",
    "selfLink": lambda version, place: f"{place.base}/storage/v1/{place.of(version)}",
    "mediaLink": lambda version, place: (
        f"{place.base}/download/storage/v1/{place.of(version)}?generation={version.generation}&alt=media"
    ),
    "name": lambda version, place: version.name,
    "bucket": lambda version, place: place.bucket,
    "generation": lambda version, place: str(version.generation),
    "metageneration": lambda version, place: str(version.metageneration),
    "size": lambda version, place: str(len(version.data)),
    "md5Hash": lambda version, place: base64.b64encode(version.md5).decode(),
    "crc32c": lambda version, place: version.crc32c,
    "etag": lambda version, place: version.etag,
    "timeCreated": lambda version, place: timestamp(version.created),
    "updated": lambda version, place: timestamp(version.updated or version.created),
    "timeStorageClassUpdated": lambda version, place: timestamp(version.created),
    "timeFinalized": lambda version, place: timestamp(version.created),
    "timeDeleted": lambda version, place: _moment(version.noncurrent),
    "softDeleteTime": lambda version, place: _moment(version.soft_deleted),
    "hardDeleteTime": lambda version, place: _moment(version.hard_deleted),
    "retentionExpirationTime": lambda version, place: (
        _moment(version.retained_until(place.retention)) if place.retention else None
    ),
    "kmsKeyName": lambda version, place: f"{version.kms_key}/cryptoKeyVersions/1" if version.kms_key else None,
}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a page of a listing is of: ``which`` is live, versions or softDeleted."""

    which: str
    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    trailing: bool = False


# Where a page ended: a name and its generation, or a prefix that stood for all below it.
Mark = tuple[str, int, bool]


@dataclass
class Versions:
    """All versions of all objects of a bucket, in the order of their names' UTF-8 (which is that of str)."""

    live: dict[str, Version] = field(default_factory=dict)
    old: dict[str, list[Version]] = field(default_factory=dict)
    soft: dict[str, list[Version]] = field(default_factory=dict)
    # The live names in order, until one comes or goes.
    _names: list[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.live or self.old)

    def find(self, name: str, generation: int | None) -> Version | None:
        """The live version, or the one of a generation that is live or noncurrent."""
        live = self.live.get(name)
        if generation is None or (live and live.generation == generation):
            return live
        return next((version for version in self.old.get(name, ()) if version.generation == generation), None)

    def put(self, version: Version, *, versioned: bool, soft_seconds: int) -> None:
        """Make it the live version."""
        self.remove(version.name, None, version.created, versioned=versioned, soft_seconds=soft_seconds)
        self.live[version.name] = version
        self._names = None

    def remove(self, name: str, generation: int | None, now: datetime, *, versioned: bool, soft_seconds: int) -> None:
        """Delete the live version (kept as noncurrent where versioned), or for good the one of a generation."""
        gone = self.find(name, generation)
        if gone is None:
            return
        if self.live.get(name) is gone:
            del self.live[name]
            self._names = None
        else:
            self.old[name].remove(gone)
            if not self.old[name]:
                del self.old[name]
        if generation is None and versioned:
            self.old.setdefault(name, []).append(replace(gone, noncurrent=now))
        elif soft_seconds:
            end = now + timedelta(seconds=soft_seconds)
            self.soft.setdefault(name, []).append(replace(gone, soft_deleted=now, hard_deleted=end))

    def restorable(self, name: str, generation: int, now: datetime) -> Version | None:
        """The soft-deleted version of a generation, unless its time is over."""
        self._expire(now)
        return next((version for version in self.soft.get(name, ()) if version.generation == generation), None)

    def page(
        self, wanted: Listing, after: Mark | None, limit: int, now: datetime
    ) -> tuple[list[Version], list[str], Mark | None]:
        """Up to ``limit`` items plus prefixes after a mark, and the mark of the last if there are more."""
        items: list[Version] = []
        prefixes: list[str] = []
        last: Mark | None = None
        for found in self._walk(wanted, after, now):
            if len(items) + len(prefixes) == limit:
                return items, prefixes, last
            if isinstance(found, str):
                prefixes.append(found)
                last = (found, 0, True)
            else:
                items.append(found)
                last = (found.name, found.generation, False)
        return items, prefixes, None

    def _walk(self, wanted: Listing, after: Mark | None, now: datetime) -> Iterator[Version | str]:
        names = self._ordered(wanted.which, now)
        at = bisect_left(names, max(wanted.prefix, wanted.start, after[0] if after else ""))
        while at < len(names) and names[at].startswith(wanted.prefix) and not (wanted.end and names[at] >= wanted.end):
            name = names[at]
            cut = name.find(wanted.delimiter, len(wanted.prefix)) if wanted.delimiter else -1
            group = name[: cut + len(wanted.delimiter)] if cut >= 0 else None
            passed = after == (group, 0, True)
            if (group is None or (wanted.trailing and name == group)) and not passed:
                since = after[1] if after and after[0] == name else -1
                yield from (version for version in self._of(wanted.which, name) if version.generation > since)
            at += 1
            if group is not None:
                if not passed:
                    yield group
                size = len(group)
                at = bisect_right(names, group, lo=at, key=lambda entry: entry[:size])

    def _ordered(self, which: str, now: datetime) -> list[str]:
        if which == "live":
            self._names = self._names or sorted(self.live)
            return self._names
        if which == "versions":
            return sorted(self.live.keys() | self.old.keys())
        self._expire(now)
        return sorted(self.soft)

    def _of(self, which: str, name: str) -> list[Version]:
        if which == "softDeleted":
            return self.soft[name]
        live = [self.live[name]] if name in self.live else []
        return live if which == "live" else self.old.get(name, []) + live

    def _expire(self, now: datetime) -> None:
        kept: Mapping[str, list[Version]] = {
            name: [version for version in versions if version.hard_deleted and version.hard_deleted > now]
            for name, versions in self.soft.items()
        }
        self.soft = {name: versions for name, versions in kept.items() if versions}
