"""Uploads of the JSON API: media, multipart and resumable, and the checksums that clients declare.

Source: Cloud Storage JSON API v1, Objects: insert; Resumable uploads; Data validation.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.gcs_standin import conditions, objects
from tests.gcs_standin.bucket import check_kms_key
from tests.gcs_standin.protocol import Call, operation, parse_object
from tests.gcs_standin.refusal import Answer, RefusedError
from tests.gcs_standin.versions import Version

_PARAMETERS = ("uploadType", "name", "contentEncoding", "kmsKeyName", "projection", *conditions.OBJECT)
_GRANULE = 256 * 1024


@dataclass
class Session:
    """A resumable upload: what it will be, and what has come so far."""

    call: Call
    name: str
    settings: dict[str, Any]
    checks: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    done: Version | None = None


def declared(call: Call, body: Mapping[str, Any]) -> dict[str, str]:
    """The checksums that the client names, by ``crc32c`` and ``md5``. Raises RefusedError (400) if they disagree."""
    found: dict[str, str] = {}
    pairs = [
        entry.strip().partition("=")
        for entry in ",".join(call.headers.getall("X-Goog-Hash", [])).split(",")
        if entry.strip()
    ]
    stated = [(name, value) for name, _, value in pairs]
    stated += [("md5", call.headers["Content-MD5"])] if "Content-MD5" in call.headers else []
    stated += [(name, str(body[key])) for name, key in (("crc32c", "crc32c"), ("md5", "md5Hash")) if body.get(key)]
    for name, value in stated:
        if name not in {"crc32c", "md5"} or found.setdefault(name, value) != value:
            raise RefusedError(400, "invalid", f"Checksums {name} are unknown or disagree")
    return found


def insert(call: Call, name: str, data: bytes, settings: Mapping[str, Any], checks: Mapping[str, str]) -> Version:
    """Store an object. Raises RefusedError (304, 400, 403, 412)."""
    objects.check_name(name)
    key = call.query.get("kmsKeyName") or call.bucket.kms_key
    if call.query.get("kmsKeyName"):
        check_kms_key(call.query["kmsKeyName"], call.bucket.resource["location"])
    storage_class = {"storageClass": call.bucket.resource["storageClass"]}
    kept = storage_class | {field: value for field, value in settings.items() if value is not None}
    made = Version(name, bytes(data), call.state.next_generation(), call.state.now(), kept, key)
    actual = {"crc32c": made.crc32c, "md5": base64.b64encode(made.md5).decode()}
    for kind, value in checks.items():
        if value != actual[kind]:
            message = f'Provided {kind.upper()} "{value}" doesn\'t match calculated {kind.upper()} "{actual[kind]}".'
            raise RefusedError(400, "invalid", message)
    objects.store(call, made)
    return made


@operation("objects.insert", "POST", "/upload/storage/v1/b/{bucket}/o", "storage.objects.create", *_PARAMETERS)
def upload(call: Call) -> Answer:
    conditions.refuse_etags(call)
    match call.query.get("uploadType"):
        case "media":
            made = _media(call)
        case "multipart":
            made = _multipart(call)
        case "resumable":
            return _start(call)
        case other:
            raise RefusedError(400, "invalidParameter", f"Invalid value for parameter uploadType: {other!r}")
    return call.json(objects.shown(call, made), objects.SCHEMA)


def _media(call: Call) -> Version:
    settings = {"contentType": call.headers.get("Content-Type"), "contentEncoding": call.query.get("contentEncoding")}
    return insert(call, _name(call, {}), call.body, settings, declared(call, {}))


def _multipart(call: Call) -> Version:
    kind = call.headers.get("Content-Type", "")
    boundary = re.search(r'boundary="?([^";,]+)"?', kind)
    if not kind.lower().startswith("multipart/related") or not boundary:
        raise RefusedError(400, "badContent", "A multipart upload is multipart/related with a boundary")
    mark = b"--" + boundary[1].encode()
    opening, closing = call.body.find(mark), call.body.rfind(b"\r\n" + mark + b"--")
    middle = call.body.find(b"\r\n" + mark, opening + len(mark))
    if opening < 0 or middle in {-1, closing}:
        raise RefusedError(400, "badContent", "A multipart upload has two parts")
    _, document = _part(call.body[opening + len(mark) : middle])
    headers, data = _part(call.body[middle + 2 + len(mark) : closing])
    body = parse_object(document)
    settings, checks = _described(call, body)
    settings.setdefault("contentType", headers.get("content-type"))
    return insert(call, _name(call, body), data, settings, checks)


def _part(raw: bytes) -> tuple[dict[str, str], bytes]:
    head, found, data = raw.partition(b"\r\n\r\n")
    if not found:
        raise RefusedError(400, "badContent", "A part of the multipart upload has no headers")
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n") if line]
    return {name.strip().lower(): value.strip() for name, _, value in lines}, data


def _described(call: Call, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    own = {"name", "bucket", "crc32c", "md5Hash"}
    if body.get("bucket", call.bucket.name) != call.bucket.name:
        raise RefusedError(400, "invalid", "The metadata names another bucket")
    settings = objects.settings_of({name: value for name, value in body.items() if name not in own})
    if "contentEncoding" in call.query:
        settings["contentEncoding"] = call.query["contentEncoding"]
    return settings, declared(call, body)


def _name(call: Call, body: Mapping[str, Any]) -> str:
    name = call.query.get("name") or body.get("name")
    if not name or not isinstance(name, str):
        raise RefusedError(400, "required", "Required parameter: name")
    return name


def _start(call: Call) -> Answer:
    body = call.document()
    settings, checks = _described(call, body)
    settings.setdefault("contentType", call.headers.get("X-Upload-Content-Type"))
    name = _name(call, body)
    objects.check_name(name)
    conditions.check_object(call, call.bucket.objects.live.get(name))
    identity = secrets.token_urlsafe(24)
    call.state.uploads[identity] = Session(call, name, settings, checks)
    place = f"{call.base}/upload/storage/v1/b/{call.bucket.name}/o?uploadType=resumable&upload_id={identity}"
    return Answer(200, b"", {"Location": place, "X-GUploader-UploadID": identity})


def _session(call: Call) -> Session:
    found = call.state.uploads.get(call.query.get("upload_id", ""))
    if not isinstance(found, Session) or found.call.bucket.name != call.bucket.name:
        raise RefusedError(404, "notFound", "No such upload")
    return found


@operation("objects.insert", "PUT", "/upload/storage/v1/b/{bucket}/o", None, "uploadType", "upload_id")
def resume(call: Call) -> Answer:
    # The session's URI is the permission: no credentials are needed (Resumable uploads: session URIs).
    session = _session(call)
    if session.done is None:
        session.checks |= declared(call, {})
        if not _received(call, session):
            headers = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
            raise RefusedError(308, "resumeIncomplete", "Resume Incomplete", headers)
        session.done = insert(session.call, session.name, bytes(session.data), session.settings, session.checks)
        session.data.clear()
    return call.json(objects.shown(call, session.done), objects.SCHEMA)


def _received(call: Call, session: Session) -> bool:
    """Take what a PUT brings; True once all is there. Raises RefusedError (400, 503)."""
    header = call.headers.get("Content-Range", f"bytes 0-{len(call.body) - 1}/{len(call.body)}")
    if not call.body:
        header = call.headers.get("Content-Range", "bytes */0")
    span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", header)
    if not span:
        raise RefusedError(400, "invalid", f"Invalid Content-Range {header!r}")
    total = None if span[3] == "*" else int(span[3])
    if span[1] is None:
        return total is not None and len(session.data) == total
    first, last = int(span[1]), int(span[2])
    if last - first + 1 != len(call.body) or (total is not None and last >= total):
        raise RefusedError(400, "invalid", "Content-Range does not fit the body")
    if first > len(session.data):
        raise RefusedError(503, "backendError", "Bytes before this chunk are missing")
    final = total is not None and last + 1 == total
    if not final and len(call.body) % _GRANULE:
        raise RefusedError(400, "invalid", "Chunks other than the last are multiples of 256 KiB")
    session.data += call.body[len(session.data) - first :]
    return final


@operation("objects.insert", "DELETE", "/upload/storage/v1/b/{bucket}/o", None, "uploadType", "upload_id")
def cancel(call: Call) -> Answer:
    _session(call)
    del call.state.uploads[call.query["upload_id"]]
    return Answer(499)
