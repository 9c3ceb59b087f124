"""A bucket of Google Cloud Storage, or of a server that speaks its JSON API.

Source: Cloud Storage JSON API v1 reference (objects, buckets; request preconditions) and its regional endpoints.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from itertools import count
from typing import Any, TypeVar

import requests
import urllib3
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.oauth2 import service_account

from domicile.api.zone import Site
from domicile.backup.stores import accounts, authorities, fast, google_identity, listing, way_out
from domicile.backup.stores.accounts import Account
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
from domicile.backup.stores.gcs_config import GcsConfig, endpoint
from domicile.backup.stores.parts import PART_BYTES, parts

_SCOPES = ["https://www.googleapis.com/auth/devstorage.full_control"]
_PAGE_FIELDS = "kind,items(name,generation,size,crc32c),nextPageToken"
_TYPE = "application/octet-stream"
_T = TypeVar("_T")


def client(site: Site, account: Account | None, deadlines: Deadlines) -> Any:
    """A thread-safe client of the site's endpoint that follows no redirects.

    ``account`` as ``accounts.load`` gives it; None: anonymous. Raises ValueError for a malformed key.
    """
    credentials: Any
    project: str | None
    if account is None:
        credentials, project = AnonymousCredentials(), site.name
    elif account.get("type") == "external_account":
        credentials, project = google_identity.Federated(account, _SCOPES), accounts.project_of(account)
    elif "accessToken" in account:
        credentials, project = google_identity.Given(account["accessToken"]), None
    else:
        credentials = service_account.Credentials.from_service_account_info(account, scopes=_SCOPES)
        project = credentials.project_id
    # google-auth's own session waits two minutes, tries again thrice and follows redirects.
    renew = google_identity.asking(deadlines)
    session = AuthorizedSession(credentials, refresh_timeout=deadlines.read, auth_request=renew)
    session.max_redirects = 0
    way_out.equip(session, endpoint(site), authorities.file(site))
    # The URL at which an upload goes on is what the store says, and the token would go with it.
    session.adapters.clear()
    home = endpoint(site).rstrip("/") + "/"
    session.mount(home, requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=32))
    made: Any = storage.Client(
        project=project, credentials=credentials, _http=session, client_options={"api_endpoint": endpoint(site)}
    )
    # The library's tracing looks up every bucket in threads of its own, past our deadlines, retries and error counts.
    made._bucket_metadata_cache = None
    return made


class GcsBucket:
    """``Bucket`` on Cloud Storage. Versions are generations."""

    def __init__(self, site: Site, name: str, gcs: Any, deadlines: Deadlines) -> None:
        self._site = site
        self._name = name
        self._gcs = gcs
        self._deadlines = deadlines
        self._bucket = gcs.bucket(name)
        self._single: dict[str, Any] = {"timeout": (deadlines.connect, deadlines.read), "retry": None}
        self._config = GcsConfig(site, name, gcs, deadlines, self._translated)

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

        def ask(token: str | None) -> tuple[Page, str | None]:
            page, following = self._call(partial(self._page, prefix, after, token))
            # startOffset includes the name itself.
            return (page.cut(1) if token is None and page.names[:1] == [after] else page), following

        return listing.in_order(self._where, ask, prefix, after)

    def read(self, name: str, *, version: str | None = None, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object or a range of it, pinned by generation. Raises NotFoundError, ChangedError."""

        def get() -> bytes:
            found = self._fast.read(name, version, start, length)
            if found is not None:
                return found
            blob, pin = self._bucket.blob(name), None if version is None else int(version)
            if length == 0:
                blob.reload(if_generation_match=pin, **self._single)
                data = b""
            else:
                data = blob.download_as_bytes(
                    # Explicit None asks for the whole object, whose CRC32C is then verified.
                    start=start or None if length is None else start,
                    end=None if length is None else start + length - 1,
                    raw_download=True,
                    if_generation_match=pin,
                    checksum="crc32c",
                    **self._single,
                )
            # Some compatible servers ignore preconditions of reads, but all name the generation that they served.
            if pin is not None and blob.generation is not None and int(blob.generation) != pin:
                raise ChangedError(f"{self._where}: an object has changed")
            return data

        try:
            return self._call(get)
        except _BeyondEndError:
            return b""

    @cached_property
    def _fast(self) -> fast.GcsObjects:
        keys = self._gcs._credentials
        token = (
            (lambda: None)
            if isinstance(keys, AnonymousCredentials)
            else fast.Tokens(keys, self._gcs._http._auth_request)
        )
        roots = self._site.store_ca_bundle
        return fast.GcsObjects(self._where, endpoint(self._site), self._name, token, self._deadlines, roots)

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist (ifGenerationMatch=0). Raises AlreadyExistsError, UnavailableError."""

        def put() -> None:
            kept = self._fast.create(name, data)
            if kept is None:
                self._put(name, data, 0)
            else:
                self._require_kept(kept, fast.crc32c(data))

        self._call(put, AlreadyExistsError)

    def write(self, name: str, data: Iterator[bytes], size: int, *, new: bool = False) -> str:
        """Write or overwrite an object; above 8 MiB as a resumable upload that holds one part in memory."""
        pin, conflict = (0, AlreadyExistsError) if new else (None, ChangedError)
        pieces = parts(data, size, PART_BYTES)
        if size <= PART_BYTES:
            whole = next(pieces)
            return self._call(lambda: self._put(name, whole, pin), conflict)
        blob = self._bucket.blob(name, chunk_size=PART_BYTES)
        more = {"content_type": _TYPE, "checksum": "crc32c", "if_generation_match": pin, **self._single}
        stream = _Stream(pieces)
        try:
            with self._translated(conflict):
                blob.upload_from_file(stream, size=size, **more | {"retry": self._again(size)})
        except ValueError:
            if stream.failed:
                raise
            # A part of a part, which the library can't go on from.
            raise UnavailableError(f"{self._where}: an upload was kept in part only") from None
        self._config.require_written(blob.kms_key_name)
        return str(blob.generation)

    def _again(self, size: int) -> Retry:
        """What the library, which alone knows how far an upload came, does after a request without an outcome."""
        left = count(self._deadlines.retries * (2 + size // PART_BYTES), -1)

        def may(error: Exception) -> bool:
            try:
                with self._translated(ChangedError):
                    raise error
            except UnavailableError:
                return next(left) > 0
            except Exception:  # noqa: BLE001  whatever else it is, the library raises it
                return False

        return Retry(may, initial=0.2, maximum=self._deadlines.read, timeout=None)

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        with suppress(NotFoundError):
            self._call(lambda: self._bucket.delete_blob(name, **self._single))

    def facts(self) -> BucketFacts:
        """What the store says of the bucket. Raises NotFoundError where it is missing."""
        return self._config.facts()

    def create_bucket(self) -> None:
        """Create the bucket as ``GcsConfig.create`` does. Raises AlreadyExistsError."""
        self._config.create()

    @property
    def _where(self) -> str:
        return f"bucket {self._name} of site {self.site}"

    def _page(self, prefix: str, after: str, token: str | None) -> tuple[Page, str | None]:
        """One page and the token of the next; the library would make an object of every item."""
        asked = {"fields": _PAGE_FIELDS, "maxResults": "1000", "prefix": prefix, "startOffset": after}
        asked = {key: value for key, value in {**asked, "pageToken": token}.items() if value}
        found = self._fast.listed(asked)
        if found is None:
            answer = self._gcs._http.get(
                f"{endpoint(self._site)}/storage/v1/b/{self._name}/o", params=asked, timeout=self._single["timeout"]
            )
            if answer.status_code != 200:
                raise api.from_http_response(answer)
            found = answer.content
        return listing.of_gcs(found)

    def _put(self, name: str, data: bytes, generation: int | None) -> str:
        asked = {"uploadType": "media", "name": name, "ifGenerationMatch": generation}
        checksum = fast.crc32c(data)
        answer = self._gcs._http.post(
            f"{endpoint(self._site)}/upload/storage/v1/b/{self._name}/o",
            params={key: value for key, value in asked.items() if value is not None},
            data=data,
            headers={"Content-Type": _TYPE, "X-Goog-Hash": f"crc32c={checksum}"},
            timeout=self._single["timeout"],
        )
        if answer.status_code != 200:
            raise api.from_http_response(answer)
        kept = answer.json()
        self._require_kept(kept, checksum)
        return str(kept["generation"])

    def _require_kept(self, kept: Mapping[str, Any], checksum: str) -> None:
        if kept.get("crc32c") != checksum:
            raise StoreError(f"{self._where} kept other bytes than were sent")
        self._config.require_written(kept.get("kmsKeyName"))

    def _call(self, call: Callable[[], _T], conflict: type[StoreError] = ChangedError) -> _T:
        def once() -> _T:
            with self._translated(conflict):
                return call()

        return self._deadlines.run(once)

    @contextmanager
    def _translated(self, conflict: type[StoreError]) -> Iterator[None]:
        try:
            yield
        except api.GoogleAPICallError as error:
            raise self._refusal(error, conflict) from None
        except (requests.TooManyRedirects, requests.exceptions.InvalidSchema):
            raise DeniedError(f"{self._where}: its store redirects elsewhere; redirects are not followed") from None
        except DataCorruption:
            raise StoreError(f"{self._where}: an object does not match its CRC32C") from None
        except InvalidResponse as error:
            raise self._refusal(api.from_http_response(error.response), conflict) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, auth.TransportError, OSError) as error:
            raise UnavailableError(f"{self._where}: no answer ({type(error).__name__})") from None
        except auth.GoogleAuthError as error:
            raise DeniedError(f"{self._where}: no usable credentials for its store ({type(error).__name__})") from None

    def _refusal(self, error: api.GoogleAPICallError, conflict: type[StoreError]) -> StoreError:
        status = int(error.code or 0)
        if status in {409, 412}:
            return conflict(f"{self._where}: it or an object has changed or exists already")
        if status == 404:
            return NotFoundError(f"there is no such object in {self._where}, or no such bucket")
        if status in {401, 403}:
            return DeniedError(f"{self._where}: refused (HTTP {status}); check the site's credentials and IAM")
        if status == 416:
            return _BeyondEndError(f"{self._where}: range beyond the end of an object")
        if status in {408, 429} or (status >= 500 and status != 501):
            return UnavailableError(f"{self._where}: no outcome (HTTP {status})")
        return StoreError(f"{self._where}: HTTP {status}")


class _BeyondEndError(StoreError):
    """The range starts behind the last byte."""


class _Stream(io.RawIOBase):
    """A readable, forward-only view of pieces, as the resumable upload wants it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._position = 0
        self.failed = False

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._held) < size:
            try:
                piece = next(self._pieces, None)
            except BaseException:
                self.failed = True
                raise
            if piece is None:
                break
            self._held += piece
        size = len(self._held) if size < 0 else size
        taken, self._held = self._held[:size], self._held[size:]
        self._position += len(taken)
        return taken
