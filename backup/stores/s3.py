"""A bucket of an S3 store: AWS, or any compatible one.

Source: Amazon S3 API reference (PutObject, GetObject, ListObjectsV2, HeadBucket, GetBucketLocation and others).
"""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NoReturn

import google_crc32c
import urllib3
from botocore import exceptions as boto

from domicile.api.zone import Site
from domicile.backup.stores import fast, listing, s3_client
from domicile.backup.stores.base import (
    AlreadyExistsError,
    BucketFacts,
    ChangedError,
    DeniedError,
    NotFoundError,
    ObjectInfo,
    Page,
    StoreError,
    UnavailableError,
    infos_of,
)
from domicile.backup.stores.deadlines import Deadlines
from domicile.backup.stores.parts import PART_BYTES, parts
from domicile.backup.stores.s3_config import OwnedError, S3Config, code_of, owner, status_of

_MAX_PARTS = 10_000
_PARTS_AT_ONCE = 2
_DENIED_CODES = {"AccessDenied", "ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_ELSEWHERE_CODES = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}
# ConditionalRequestConflict: another writer was in flight, and the store wants a retry (PutObject, 409).
_RETRY_CODES = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}
# EndpointConnectionError is a ConnectionError, ReadTimeoutError an HTTPClientError; a body may also break off midway.
_NO_ANSWER = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
    urllib3.exceptions.HTTPError,
    OSError,
)


class _BeyondEndError(StoreError):
    """The range starts behind the last byte."""


class S3Bucket:
    """``Bucket`` on S3. Versions are ETags without their quotes."""

    def __init__(self, site: Site, name: str, s3: Any, deadlines: Deadlines, kms: Callable[[], Any]) -> None:
        self._site = site
        self._name = name
        self._s3 = s3
        self._deadlines = deadlines
        self._config = S3Config(site, name, s3, deadlines, self._translated, kms)

    @property
    def site(self) -> str:
        """Name of the site."""
        return self._site.name

    @property
    def name(self) -> str:
        """Name of the bucket."""
        return self._name

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects under a prefix, by name. Raises NotFoundError where the bucket is missing."""
        return infos_of(self.pages(prefix))

    def pages(self, prefix: str = "", *, after: str = "") -> Iterator[Page]:
        """The same behind the name ``after``, 1,000 a page."""
        start = {"start-after": after} if after else {}

        def ask(token: str | None) -> tuple[Page, str | None]:
            behind = start if token is None else {"continuation-token": token}
            return self._deadlines.run(lambda: self._listed({"prefix": prefix, **behind}))

        return listing.in_order(self._where, ask, prefix, after)

    def _listed(self, asked: dict[str, str]) -> tuple[Page, str | None]:
        with self._translated(ChangedError):
            answer = self._fast.listed(asked)
            if answer is not None:
                return listing.of_s3(answer)
            names = {"prefix": "Prefix", "start-after": "StartAfter", "continuation-token": "ContinuationToken"}
            behind = {names[key]: value for key, value in asked.items()}
            return listing.of_boto(self._s3.list_objects_v2(Bucket=self._name, **owner(self._site), **behind))

    def read(self, name: str, *, version: str | None = None, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object or a range of it, pinned by If-Match. Raises NotFoundError, ChangedError."""
        pin: dict[str, Any] = {} if version is None else {"IfMatch": f'"{version}"'}
        if length == 0:
            self._call("head_object", Key=name, **pin)
            return b""
        ranged: dict[str, Any] = (
            {}
            if (start, length) == (0, None)
            else {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"}
        )

        def get() -> bytes:
            with self._translated(ChangedError):
                found = self._fast.read(name, version, start, length)
                if found is not None:
                    return found
                answer = self._s3.get_object(
                    Bucket=self._name, Key=name, ChecksumMode="ENABLED", **owner(self._site), **pin, **ranged
                )
                data: bytes = answer["Body"].read()
            # Some compatible servers ignore If-Match, but all name the ETag of what they serve.
            if version is not None and str(answer["ETag"]).strip('"') != version:
                raise ChangedError(f"{self._where}: an object has changed")
            checksum = answer.get("ChecksumCRC32C")
            whole = not ranged and answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
            if whole and checksum and "-" not in checksum and checksum != fast.crc32c(data):
                raise StoreError(f"{self._where}: an object does not match its CRC32C")
            if not ranged:
                self._fast.trust(str(answer["ETag"]).strip('"'), data)
            return data

        try:
            return self._deadlines.run(get)
        except _BeyondEndError:
            return b""

    @cached_property
    def _fast(self) -> fast.S3Objects:
        keys, of = self._s3._request_signer._credentials, self._site.stores.account_id
        roots = self._site.store_ca_bundle
        return fast.S3Objects(self._where, self._url, self._site.region, keys, of, self._deadlines, roots)

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist (If-None-Match: *). Raises AlreadyExistsError, UnavailableError."""

        def put() -> None:
            with self._translated(AlreadyExistsError):
                headers = self._fast.create(name, data)
                if headers is not None:
                    self._config.require_written(headers)
                    return
                where = {"Bucket": self._name, "Key": name, **owner(self._site)}
                self._kept(self._s3.put_object(**where, Body=data, IfNoneMatch="*", ChecksumCRC32C=fast.crc32c(data)))

        self._deadlines.run(put)

    @cached_property
    def _url(self) -> str:
        scheme, _, host = s3_client.endpoint(self._site).partition("://")
        # AWS's certificates hold for one label in front (S3 User Guide, virtual hosting of buckets).
        if s3_client.by_path(self._site) or "." in self._name:
            return f"{scheme}://{host}/{self._name}"
        return f"{scheme}://{self._name}.{host}"

    def _kept(self, answer: Any) -> Any:
        self._config.require_written(answer["ResponseMetadata"]["HTTPHeaders"])
        return answer

    def write(self, name: str, data: Iterator[bytes], size: int, *, new: bool = False) -> str:
        """Write or overwrite an object; above 8 MiB as a multipart upload, two parts at a time."""
        pin, conflict = ({"IfNoneMatch": "*"}, AlreadyExistsError) if new else ({}, ChangedError)
        part_size = max(PART_BYTES, math.ceil(size / _MAX_PARTS))
        pieces = parts(data, size, part_size)
        if size <= part_size:
            body = next(pieces)
            whole = {"Key": name, "Body": body, "ChecksumCRC32C": fast.crc32c(body)}
            answer = self._kept(self._call("put_object", conflict, **whole, **pin))
        else:
            answer = self._multipart(name, pieces, conflict, pin)
        return str(answer["ETag"]).strip('"')

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        self._call("delete_object", Key=name)

    def facts(self) -> BucketFacts:
        """What the store says of the bucket. Raises NotFoundError where it is missing."""
        return self._config.facts()

    def create_bucket(self) -> None:
        """Create the bucket as ``S3Config.create`` does. Raises AlreadyExistsError."""
        self._config.create()

    @property
    def _where(self) -> str:
        return f"bucket {self._name} of site {self.site}"

    def _call(self, operation: str, conflict: type[StoreError] = ChangedError, **arguments: Any) -> Any:
        def once() -> Any:
            with self._translated(conflict):
                return getattr(self._s3, operation)(Bucket=self._name, **owner(self._site), **arguments)

        return self._deadlines.run(once)

    @contextmanager
    def _translated(self, conflict: type[StoreError]) -> Iterator[None]:
        try:
            yield
        except boto.ClientError as error:
            self._raise(error, conflict)
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError):
            raise DeniedError(f"{self._where}: no usable credentials for its store") from None
        except _NO_ANSWER as error:
            raise UnavailableError(f"{self._where}: no answer ({type(error).__name__})") from None
        except boto.BotoCoreError as error:
            raise StoreError(f"{self._where}: {type(error).__name__}") from None

    def _raise(self, error: boto.ClientError, conflict: type[StoreError]) -> NoReturn:
        status, code = status_of(error), code_of(error)
        if status in {301, 302, 307, 308} or code in _ELSEWHERE_CODES:
            raise DeniedError(
                f"{self._where} is not in region {self._site.region}; redirects are not followed: correct the zone"
            ) from None
        if code == "RequestTimeTooSkewed":
            raise DeniedError(
                f"{self._where}: refused, for the clock of this machine is more than 15 minutes wrong; set it"
            ) from None
        if status in {401, 403} or code in _DENIED_CODES:
            raise DeniedError(f"{self._where}: refused ({code}); check the site's credentials and policy") from None
        if status == 404:
            what = f"there is no {self._where}" if code == "NoSuchBucket" else f"no such object in {self._where}"
            raise NotFoundError(what) from None
        if status == 412:
            raise conflict(f"{self._where}: an object has changed or exists already") from None
        if status == 416:
            raise _BeyondEndError(f"{self._where}: range beyond the end of an object") from None
        if code in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
            kind = OwnedError if code == "BucketAlreadyOwnedByYou" else AlreadyExistsError
            raise kind(f"{self._where} exists already") from None
        if status in {408, 429} or (status >= 500 and status != 501) or code in _RETRY_CODES:
            raise UnavailableError(f"{self._where}: no outcome (HTTP {status} {code})") from None
        raise StoreError(f"{self._where}: HTTP {status} {code}") from None

    def _multipart(self, name: str, pieces: Iterator[bytes], conflict: type[StoreError], pin: dict[str, str]) -> Any:
        upload = self._call("create_multipart_upload", Key=name, ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT")
        handle: dict[str, Any] = {"Key": name, "UploadId": upload["UploadId"]}
        under_way: deque[Future[dict[str, Any]]] = deque()
        done: list[dict[str, Any]] = []
        whole = google_crc32c.Checksum()
        try:
            with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
                for number, piece in enumerate(pieces, start=1):
                    whole.update(piece)
                    if len(under_way) == _PARTS_AT_ONCE:
                        done.append(under_way.popleft().result())
                    under_way.append(pool.submit(self._part, handle, number, piece))
                    del piece
                done.extend(part.result() for part in under_way)
            return self._kept(self._completed(handle, done, base64.b64encode(whole.digest()).decode(), conflict, pin))
        except BaseException:
            self._abort(handle)
            raise

    def _completed(
        self,
        handle: dict[str, Any],
        done: Sequence[dict[str, Any]],
        checksum: str,
        conflict: type[StoreError],
        pin: dict[str, str],
    ) -> Any:
        more = {"MultipartUpload": {"Parts": done}, "ChecksumType": "FULL_OBJECT", "ChecksumCRC32C": checksum}
        try:
            return self._call("complete_multipart_upload", conflict, **handle, **pin, **more)
        except NotFoundError:
            # Where the answer was lost, who asks again is told that there is no such upload.
            kept = self._call("head_object", Key=handle["Key"], ChecksumMode="ENABLED")
            if kept.get("ChecksumCRC32C") != checksum:
                raise
            return kept

    def _part(self, handle: dict[str, Any], number: int, piece: bytes) -> dict[str, Any]:
        checksum = fast.crc32c(piece)

        def put() -> str:
            with self._translated(ChangedError):
                etag = self._fast.put_part(handle["Key"], handle["UploadId"], number, piece)
                if etag is not None:
                    return etag
                where = {"Bucket": self._name, **handle, **owner(self._site)}
                part = self._s3.upload_part(**where, PartNumber=number, Body=piece, ChecksumCRC32C=checksum)
                return str(part["ETag"])

        return {"PartNumber": number, "ETag": self._deadlines.run(put), "ChecksumCRC32C": checksum}

    def _abort(self, handle: dict[str, Any]) -> None:
        try:
            with self._translated(ChangedError):
                self._s3.abort_multipart_upload(Bucket=self._name, **handle)
        except StoreError:
            pass  # The caller gets the first error; the bucket's lifecycle rule removes what is left.
