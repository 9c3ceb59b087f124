"""Bytes of objects: downloads of the JSON API, and the XML API's paths that obstore uses.

Source: Cloud Storage JSON API v1, Objects: get; XML API, GET, HEAD, PUT and DELETE Object; Transcoding of gzip files.
"""

from __future__ import annotations

import base64
import gzip
import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from tests.gcs_standin import conditions, objects, uploads
from tests.gcs_standin.protocol import Call, operation
from tests.gcs_standin.refusal import Answer, RefusedError
from tests.gcs_standin.versions import Version


@lru_cache(maxsize=1024)
def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def _headers(call: Call, version: Version) -> dict[str, str]:
    settings = version.settings
    made = {
        "Content-Type": version.content_type,
        "ETag": f'"{version.md5.hex()}"' if call.operation.xml else version.etag,
        "Last-Modified": _http_date(version.created.replace(microsecond=0)),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": str(version.generation),
        "X-Goog-Metageneration": str(version.metageneration),
        "X-Goog-Hash": f"crc32c={version.crc32c},md5={base64.b64encode(version.md5).decode()}",
        "X-Goog-Storage-Class": str(settings.get("storageClass", "STANDARD")),
        "X-Goog-Stored-Content-Encoding": str(settings.get("contentEncoding", "identity")),
        "X-Goog-Stored-Content-Length": str(len(version.data)),
    }
    names = {"contentEncoding": "Content-Encoding", "cacheControl": "Cache-Control"}
    made |= {header: settings[name] for name, header in names.items() if settings.get(name)}
    if version.kms_key:
        made["X-Goog-Encryption-Kms-Key-Name"] = f"{version.kms_key}/cryptoKeyVersions/1"
    if call.operation.xml:
        made |= {f"X-Goog-Meta-{name}": value for name, value in settings.get("metadata", {}).items()}
    return made


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte that were asked for; None: all. Raises RefusedError (416, 501)."""
    single = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if header is None or single is None or single.groups() == ("", ""):
        if header and "," in header:
            raise RefusedError(501, "notImplemented", "The stand-in knows one range at a time")
        return None
    first, last = single.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or (first and last and int(last) < start) or (not first and int(last) == 0):
        message = "The requested range cannot be satisfied."
        raise RefusedError(416, "requestedRangeNotSatisfiable", message, {"Content-Range": f"bytes */{size}"})
    return start, end


def _download(call: Call) -> Answer:
    version = objects.found(call)
    headers = _headers(call, version)
    conditions.check_etag(call, headers["ETag"])
    no_transform = "no-transform" in version.settings.get("cacheControl", "")
    packed = version.settings.get("contentEncoding") == "gzip" and not no_transform
    if packed and "gzip" not in call.headers.get("Accept-Encoding", ""):
        # Decompressive transcoding: the bytes are others than those stored, and ranges are ignored.
        del headers["Content-Encoding"]
        return Answer(200, gzip.decompress(version.data), headers | {"Warning": "214 UploadServer gunzipped"})
    span = _range(call.headers.get("Range"), len(version.data))
    if span is None:
        return Answer(200, version.data, headers)
    headers["Content-Range"] = f"bytes {span[0]}-{span[1]}/{len(version.data)}"
    return Answer(206, version.data[span[0] : span[1] + 1], headers)


@operation(
    "objects.get",
    *("GET", "/storage/v1/b/{bucket}/o/{object}", "storage.objects.get"),
    *("generation", "softDeleted", "projection", *conditions.OBJECT),
)
def get(call: Call) -> Answer:
    soft_deleted = call.flag("softDeleted")
    if call.query.get("alt") == "media":
        if soft_deleted:
            raise RefusedError(400, "invalid", "A soft-deleted object can't be read; restore it first")
        return _download(call)
    version = objects.found(call, soft_deleted=soft_deleted)
    conditions.check_etag(call, version.etag)
    answer = call.json(objects.shown(call, version), objects.SCHEMA)
    return Answer(answer.status, answer.body, {**answer.headers, "ETag": version.etag})


@operation(
    "objects.get",
    *("GET", "/download/storage/v1/b/{bucket}/o/{object}", "storage.objects.get"),
    *("generation", "projection", *conditions.OBJECT),
)
def download(call: Call) -> Answer:
    if call.query.get("alt") != "media":
        raise RefusedError(400, "invalidAltValue", "Downloads need alt=media")
    return _download(call)


@operation("objects.get", "GET", "/{bucket}/{key}", "storage.objects.get", "generation")
def xml_get(call: Call) -> Answer:
    return _download(call)


@operation("objects.get", "HEAD", "/{bucket}/{key}", "storage.objects.get", "generation")
def xml_head(call: Call) -> Answer:
    return _download(call)


@operation("objects.insert", "PUT", "/{bucket}/{key}", "storage.objects.create")
def xml_put(call: Call) -> Answer:
    conditions.refuse_etags(call)
    names = {"Content-Type": "contentType", "Content-Encoding": "contentEncoding", "Cache-Control": "cacheControl"}
    settings: dict[str, object] = {
        name: call.headers[header] for header, name in names.items() if header in call.headers
    }
    own = {
        header.lower()[12:]: call.headers[header]
        for header in call.headers
        if header.lower().startswith("x-goog-meta-")
    }
    if own:
        settings["metadata"] = own
    made = uploads.insert(call, call.object_name, call.body, settings, uploads.declared(call, {}))
    headers = _headers(call, made)
    kept = ("ETag", "X-Goog-Generation", "X-Goog-Metageneration", "X-Goog-Hash", "X-Goog-Encryption-Kms-Key-Name")
    return Answer(200, b"", {name: headers[name] for name in kept if name in headers})


@operation("objects.delete", "DELETE", "/{bucket}/{key}", "storage.objects.delete", "generation")
def xml_delete(call: Call) -> Answer:
    return objects.remove(call)
