"""Reading and creating objects at a tenth of the clouds' clients' cost.

Optimistic: what a server does exactly as asked is served from here. To anything else it gives None, and the caller asks
the cloud's own client, which knows every error and how to say it. What has no outcome is raised, to be tried again.

Source: Amazon S3 API reference (GetObject, PutObject) and AWS Signature Version 4 in its headers; Cloud Storage JSON
API v1 (objects get and insert).
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import struct
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import md5, sha256
from typing import Any
from urllib.parse import quote, urlsplit

import google_crc32c

from domicile.backup.stores.base import ChangedError, StoreError, UnavailableError
from domicile.backup.stores.deadlines import Deadlines, wait_of
from domicile.backup.stores.wire import MAX_BODY, Answer, Wire

# Servers, and the libraries of the careful clients, take these segments of a path for a way.
_DOTS = re.compile(r"(?:^|/)\.\.?(?:/|$)")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)
_MD5 = re.compile(r"[0-9a-f]{32}")
_EMPTY = sha256().hexdigest()
# Above, over plain HTTP, only the CRC32C is signed: a SHA-256 takes as long as all the rest, here and at the store.
# Claims and other records are smaller, packs are sealed.
_SIGNED_BYTES = 1 << 16
_CRC_HEADER = "x-amz-checksum-crc32c"
# A page of 1,000 names of 1,024 bytes, each byte of which may be quoted twice; what is said of a write, or against it.
_LIST_BYTES = 16 << 20
_SAID_BYTES = 1 << 20


def crc32c(data: bytes) -> str:
    """CRC32C as both clouds write it."""
    return base64.b64encode(struct.pack(">I", google_crc32c.value(data))).decode()


class _Objects:
    """What both clouds have in common."""

    def __init__(self, where: str, url: str, deadlines: Deadlines, roots: str | None) -> None:
        self._where = where
        self._wire = Wire(url, deadlines, roots)

    def _suits(self, name: str) -> bool:
        return self._wire.direct and not _DOTS.search(name)

    def _judged(self, answer: Answer) -> Answer:
        if answer.status in {408, 429, 500, 502, 503, 504}:
            raise UnavailableError(f"{self._where}: no outcome (HTTP {answer.status})", wait_of(answer.headers))
        return answer

    def _part(self, answer: Answer, start: int, length: int | None) -> bytes | None:
        """The bytes of a range, or of the whole object, if this is what came. Raises StoreError, ChangedError."""
        if answer.status == 412:
            raise ChangedError(f"{self._where}: an object has changed")
        if answer.body is None or answer.status not in {200, 206}:
            return None
        if length is None:
            return answer.body if answer.status == 200 else None
        if answer.status == 200 and start == 0 and len(answer.body) <= length:
            return answer.body
        span = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if span and answer.status == 206:
            first, last, size = map(int, span.groups())
            if first == start and last == min(start + length, size) - 1 and len(answer.body) == last - first + 1:
                return answer.body
        raise StoreError(f"{self._where}: its store answered with other bytes of an object than were asked for")


def _most(length: int | None) -> int:
    # Whoever ignores the range of a small object sends all of it.
    return MAX_BODY if length is None else max(length, _SAID_BYTES)


def _segment(name: str) -> str:
    # A tenth of the time that quoting takes where one character of a name is not safe.
    return quote(name).replace("/", "%2F")


def query_of(arguments: Mapping[str, str]) -> str:
    """A query in the one form that signatures are made of."""
    return "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in sorted(arguments.items()))


class S3Objects(_Objects):
    """Objects of one bucket of an S3 store; ``keys`` are botocore's credentials, which renew themselves."""

    def __init__(
        self,
        where: str,
        url: str,
        region: str,
        keys: Any,
        owner: str | None,
        deadlines: Deadlines,
        roots: str | None = None,
    ) -> None:
        super().__init__(where, url, deadlines, roots)
        self._path = urlsplit(url).path
        self._region = region
        self._keys = keys
        self._always = {"x-amz-expected-bucket-owner": owner} if owner else {}
        self._secret_way = url.startswith("https://")
        self._etags_opaque = False

    def read(self, name: str, version: str | None, start: int, length: int | None) -> bytes | None:
        """The bytes, or None. Raises ChangedError, StoreError, UnavailableError, OSError."""
        if not self._suits(name) or length == 0 or (length is None and start):
            return None
        extra = {} if version is None else {"If-Match": f'"{version}"'}
        if length is not None:
            extra["Range"] = f"bytes={start}-{start + length - 1}"
        whole = {"x-amz-checksum-mode": "ENABLED"} if length is None else {}
        answer = self._ask("GET", self._target(name), whole, extra, most=_most(length))
        data = self._part(answer, start, length) if answer else None
        if answer is None or data is None:
            return None
        served = answer.headers.get("etag", "").strip('"')
        if version is not None and served != version:
            raise ChangedError(f"{self._where}: an object has changed")
        return data if length is not None or self._matches(answer.headers, served, data) else None

    def listed(self, arguments: Mapping[str, str]) -> bytes | None:
        """The answer to ListObjectsV2, or None. Raises UnavailableError, OSError."""
        if not self._wire.direct:
            return None
        query = query_of({"list-type": "2", "encoding-type": "url", **arguments})
        answer = self._ask("GET", f"{self._path or '/'}?{query}", {}, {}, most=_LIST_BYTES)
        return answer.body if answer and answer.status == 200 else None

    def create(self, name: str, data: bytes) -> Mapping[str, str] | None:
        """The answer's headers where the object did not exist and does now, or None. Raises as ``read``."""
        if not self._suits(name):
            return None
        answer = self._ask("PUT", self._target(name), {_CRC_HEADER: crc32c(data)}, {"If-None-Match": "*"}, data)
        return answer.headers if answer and answer.status == 200 else None

    def put_part(self, name: str, upload: str, number: int, data: bytes) -> str | None:
        """The ETag of a part (UploadPart), or None. Raises as ``read``."""
        if not self._suits(name):
            return None
        target = f"{self._target(name)}?{query_of({'partNumber': str(number), 'uploadId': upload})}"
        answer = self._ask("PUT", target, {_CRC_HEADER: crc32c(data)}, {}, data)
        return answer.headers.get("etag") if answer and answer.status == 200 else None

    def trust(self, etag: str, data: bytes) -> None:
        """Told of what was read carefully: of a bucket with SSE-KMS no ETag is an MD5 (API_Object)."""
        self._etags_opaque |= not _is_md5(etag, data)

    def _matches(self, headers: Mapping[str, str], etag: str, data: bytes) -> bool:
        sent = headers.get(_CRC_HEADER)
        if sent and headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT" and "-" not in sent:
            return sent == crc32c(data)
        return self._etags_opaque or _is_md5(etag, data)

    def _target(self, name: str) -> str:
        return f"{self._path}/{quote(name, safe='/~')}"

    def _ask(
        self,
        method: str,
        target: str,
        signed: Mapping[str, str],
        extra: Mapping[str, str],
        body: bytes = b"",
        *,
        most: int = _SAID_BYTES,
    ) -> Answer | None:
        if self._keys is None:
            return None
        keys = self._keys.get_frozen_credentials()
        if not body:
            payload = _EMPTY
        elif self._secret_way or len(body) > _SIGNED_BYTES:
            payload = "UNSIGNED-PAYLOAD"
        else:
            payload = sha256(body).hexdigest()
        headers = {**self._always, **signed, "x-amz-content-sha256": payload}
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        headers |= signature(method, self._wire.host, target, headers, keys.access_key, keys.secret_key, self._region)
        return self._judged(self._wire.ask(method, target, {**headers, **extra}, body, most=most))


def _is_md5(etag: str, data: bytes) -> bool:
    return not _MD5.fullmatch(etag) or md5(data, usedforsecurity=False).hexdigest() == etag


def signature(
    method: str, host: str, target: str, headers: Mapping[str, str], access: str, secret: str, region: str
) -> dict[str, str]:
    """The headers that sign a request; ``headers`` are its others that count, in lower case.

    ``target`` is its path, and its query as ``query_of`` writes it.
    """
    path, _, query = target.partition("?")
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    every = sorted({**headers, "host": host, "x-amz-date": now}.items())
    names = ";".join(name for name, _ in every)
    lines = [method, path, query, *(f"{name}:{value}" for name, value in every), "", names]
    request = sha256("\n".join([*lines, headers["x-amz-content-sha256"]]).encode()).hexdigest()
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{request}"
    made = hmac.new(_signing_key(secret, scope), text.encode(), "sha256").hexdigest()
    given = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={made}"
    return {"x-amz-date": now, "Authorization": given}


@lru_cache(maxsize=8)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for piece in scope.split("/"):
        key = hmac.digest(key, piece.encode(), "sha256")
    return key


class GcsObjects(_Objects):
    """Objects of one bucket of Cloud Storage; ``token`` gives a valid one, or None: anonymous."""

    def __init__(
        self,
        where: str,
        url: str,
        bucket: str,
        token: Callable[[], str | None],
        deadlines: Deadlines,
        roots: str | None = None,
    ) -> None:
        super().__init__(where, url, deadlines, roots)
        self._bucket = bucket
        self._token = token

    def read(self, name: str, version: str | None, start: int, length: int | None) -> bytes | None:
        """The bytes, or None. Raises ChangedError, StoreError, UnavailableError, OSError, GoogleAuthError."""
        if not self._suits(name) or length == 0 or (length is None and start):
            return None
        pin = "" if version is None else f"&ifGenerationMatch={version}"
        # What is kept packed comes as it is kept, not unpacked on the way.
        headers = {"Accept-Encoding": "gzip"}
        if length is not None:
            headers["Range"] = f"bytes={start}-{start + length - 1}"
        target = f"/download/storage/v1/b/{self._bucket}/o/{_segment(name)}?alt=media{pin}"
        answer = self._ask("GET", target, headers, most=_most(length))
        data = self._part(answer, start, length)
        if data is None:
            return None
        if version is not None and answer.headers.get("x-goog-generation") != version:
            raise ChangedError(f"{self._where}: an object has changed")
        sent = re.search(r"crc32c=([\w+/=]+)", answer.headers.get("x-goog-hash", ""))
        return None if length is None and sent and sent[1] != crc32c(data) else data

    def listed(self, arguments: Mapping[str, str]) -> bytes | None:
        """The answer to objects.list, or None. Raises UnavailableError, OSError, GoogleAuthError."""
        if not self._wire.direct:
            return None
        target = f"/storage/v1/b/{self._bucket}/o?{query_of(arguments)}"
        answer = self._ask("GET", target, {}, most=_LIST_BYTES)
        return answer.body if answer.status == 200 else None

    def create(self, name: str, data: bytes) -> dict[str, Any] | None:
        """The object's resource where it did not exist and does now, or None. Raises as ``read``."""
        if not self._wire.direct:
            return None
        target = f"/upload/storage/v1/b/{self._bucket}/o?uploadType=media&name={_segment(name)}"
        headers = {"Content-Type": "application/octet-stream", "X-Goog-Hash": f"crc32c={crc32c(data)}"}
        answer = self._ask("POST", f"{target}&ifGenerationMatch=0", headers, data)
        if answer.status != 200 or answer.body is None:
            return None
        try:
            found = json.loads(answer.body)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b"", *, most: int = _SAID_BYTES
    ) -> Answer:
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self._judged(self._wire.ask(method, target, headers, body, most=most))


class Tokens:
    """Tokens of google-auth's credentials, renewed before they end by requests that ``request`` makes."""

    def __init__(self, keys: Any, request: Any) -> None:
        self._keys = keys
        self._request = request
        self._lock = threading.Lock()

    def __call__(self) -> str | None:
        """Raises GoogleAuthError where there is none to be had."""
        if not self._keys.valid:
            with self._lock:
                if not self._keys.valid:
                    self._keys.refresh(self._request)
        return str(self._keys.token)
