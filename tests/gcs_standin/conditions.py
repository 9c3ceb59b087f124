"""Preconditions: the same on every verb of an object, and those of buckets.

Source: Cloud Storage, Request preconditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gcs_standin.protocol import Call
from tests.gcs_standin.refusal import RefusedError

if TYPE_CHECKING:
    from tests.gcs_standin.versions import Version

OBJECT = ("ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch")
BUCKET = ("ifMetagenerationMatch", "ifMetagenerationNotMatch")
_XML = {"ifGenerationMatch": "x-goog-if-generation-match", "ifMetagenerationMatch": "x-goog-if-metageneration-match"}


def check_object(call: Call, version: Version | None) -> None:
    """Raise RefusedError (304, 412) unless the version (None: there is no live one) is as the caller demands."""
    generation, metageneration = (version.generation, version.metageneration) if version else (0, None)
    for name, actual in (("ifGenerationMatch", generation), ("ifMetagenerationMatch", metageneration)):
        wanted = _number(call, name)
        if wanted is not None and wanted != actual:
            raise _not_met(name)
    for name, actual in (("ifGenerationNotMatch", generation), ("ifMetagenerationNotMatch", metageneration)):
        refused = _number(call, name)
        if refused is not None and version is None:
            raise _not_met(name)
        if refused is not None and refused == actual:
            raise RefusedError(304, "notModified", "Not Modified")


def check_bucket(call: Call, metageneration: int) -> None:
    """Raise RefusedError (304, 412) unless the bucket's metageneration is as the caller demands."""
    wanted, refused = call.integer("ifMetagenerationMatch"), call.integer("ifMetagenerationNotMatch")
    if wanted is not None and wanted != metageneration:
        raise _not_met("ifMetagenerationMatch")
    if refused == metageneration:
        raise RefusedError(304, "notModified", "Not Modified")


def check_etag(call: Call, etag: str) -> None:
    """The conditional headers of reads. Raises RefusedError (304, 412; 501 for dates, which the stand-in lacks)."""
    for name in ("If-Modified-Since", "If-Unmodified-Since", "If-Range"):
        if name in call.headers:
            raise RefusedError(501, "notImplemented", f"The stand-in does not know header {name}")
    wanted, refused = call.headers.get("If-Match"), call.headers.get("If-None-Match")
    if wanted is not None and not _matches(wanted, etag):
        raise _not_met("If-Match")
    if refused is not None and _matches(refused, etag):
        raise RefusedError(304, "notModified", "Not Modified", {"ETag": etag})


def refuse_etags(call: Call) -> None:
    """Raise RefusedError (501): conditional headers are for requests that retrieve data."""
    if "If-Match" in call.headers or "If-None-Match" in call.headers:
        raise RefusedError(501, "notImplemented", "If-Match and If-None-Match apply to reads only")


def _matches(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag.strip('"') in {entry.strip().strip('"') for entry in header.split(",")}


def _number(call: Call, name: str) -> int | None:
    if not call.operation.xml:
        return call.integer(name)
    value = call.headers.get(_XML.get(name, ""))
    if value is None:
        return None
    if not value.isdigit():
        raise RefusedError(400, "invalid", f"Invalid value of {_XML[name]}")
    return int(value)


def _not_met(name: str) -> RefusedError:
    return RefusedError(
        412, "conditionNotMet", f"At least one of the pre-conditions you specified did not hold: {name}"
    )
