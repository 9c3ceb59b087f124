"""The live bucket: list, read, create once, delete, on S3 and on Google Cloud Storage.

Synchronous and thread-safe: the server calls it in threads. Every call ends within about ten seconds and raises one of
the errors below; their messages name no object.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from .settings import SettingsError, StoreUrl

CONNECT_SECONDS, READ_SECONDS, RETRY_SECONDS = 2, 5, 4


class StoreError(Exception):
    """The store gave no answer, or one that makes no sense: the outcome of a write is unknown."""


class NotFoundError(StoreError):
    """There is no such object, or no such bucket."""


class ExistsError(StoreError):
    """An object of that name, not this one, is there already."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing. ``version`` is the GCS generation or the S3 ETag; ``size`` is in bytes."""

    name: str
    version: str
    size: int


class Store(Protocol):
    """What the assistant needs of its bucket. All methods raise StoreError."""

    def each(self, prefix: str) -> Iterator[Entry]:
        """All objects under the prefix, by name, fetched a page at a time."""

    def list(self, prefix: str) -> list[Entry]:
        """All objects under the prefix, by name."""

    def read(self, name: str) -> bytes:
        """The whole object. Raises NotFoundError."""

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet; returns once it is durable. Raises ExistsError.

        ``data`` must hold something random: after a lost answer the object is read back, and its bytes say whose it is.
        """

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""


def open_store(url: StoreUrl, credentials: Path | None, authorities: str | None = None) -> Store:
    """The bucket of ``url``. Raises SettingsError where the credentials file is missing or malformed.

    ``credentials``: a JSON file, which may change: {"accessKeyId", "secretAccessKey"} for S3, a service-account key for
    GCS, or short-lived ones (docs/assistant-contract.md). Without one the pod's own identity is used, or none on a
    plain-http GCS endpoint, which must never see a token. ``authorities``: PEM, in place of the system's.
    """
    roots = None if authorities is None else _in_memory(authorities)
    return _opened(url, None, roots) if credentials is None else RenewedStore(url, credentials, roots)


def _opened(url: StoreUrl, key: dict[str, Any] | None, roots: str | None) -> Store:
    return S3Store(url, key, roots) if url.scheme == "s3" else GcsStore(url, key, roots)


def _in_memory(text: str) -> str:
    """Path of a file that is nowhere but in memory (memfd_create(2)): the clients take nothing else."""
    descriptor = os.memfd_create("authorities", os.MFD_CLOEXEC)
    os.write(descriptor, text.encode())
    return f"/proc/{os.getpid()}/fd/{descriptor}"


class RenewedStore:
    """The bucket by what the credentials file says now; Kubernetes swaps the file while we run."""

    def __init__(self, url: StoreUrl, credentials: Path, roots: str | None) -> None:
        self._url = url
        self._roots = roots
        self._path = credentials
        self._lock = threading.Lock()
        self._content = b""
        self._store: Store | None = None
        self._follow()

    def _follow(self) -> Store:
        try:
            content = self._path.read_bytes()
            with self._lock:
                if self._store is None or content != self._content:
                    key = json.loads(content)
                    if not isinstance(key, dict):
                        raise ValueError("not an object")
                    self._content, self._store = content, _opened(self._url, key, self._roots)
                return self._store
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"ASSISTANT_STORE_CREDENTIALS: {type(error).__name__} while reading {self._path}; mount a JSON file"
            ) from None

    def _now(self) -> Store:
        try:
            return self._follow()
        except SettingsError as error:
            raise StoreError(str(error)) from None

    def each(self, prefix: str) -> Iterator[Entry]:
        return self._now().each(prefix)

    def list(self, prefix: str) -> list[Entry]:
        return self._now().list(prefix)

    def read(self, name: str) -> bytes:
        return self._now().read(name)

    def create(self, name: str, data: bytes) -> None:
        self._now().create(name, data)

    def delete(self, name: str) -> None:
        self._now().delete(name)


def _settle(store: Store, name: str, data: bytes, error: StoreError) -> None:
    try:
        found = store.read(name)
    except NotFoundError:
        raise error from None
    if found != data:
        raise ExistsError("an object of that name is there already")


class S3Store:
    """S3 by boto3 (https://docs.aws.amazon.com/AmazonS3/latest/API/); conditional writes by ``If-None-Match: *``."""

    def __init__(self, url: StoreUrl, key: dict[str, Any] | None, roots: str | None) -> None:
        boto3: Any = import_module("boto3")
        config: Any = import_module("botocore.config")

        identity = {}
        if key is not None:
            try:
                identity = {"aws_access_key_id": key["accessKeyId"], "aws_secret_access_key": key["secretAccessKey"]}
                identity["aws_session_token"] = key.get("sessionToken")
            except (KeyError, TypeError):
                raise SettingsError("ASSISTANT_STORE_CREDENTIALS must hold accessKeyId and secretAccessKey") from None
        self._bucket = url.bucket
        self._client = boto3.client(
            "s3",
            region_name=url.region or "us-east-1" if url.endpoint else url.region,
            endpoint_url=url.endpoint,
            verify=roots,
            config=config.Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 2, "mode": "standard"},
                s3={"addressing_style": "path" if url.endpoint else "virtual"},
                max_pool_connections=16,
            ),
            **identity,
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise NotFoundError("no such object or bucket") from None
            # 409: a concurrent conditional write of the same name; it is read back like a 412.
            if status in {409, 412}:
                raise ExistsError("an object of that name is there already") from None
            raise StoreError(f"the store answered {status}") from None
        except BotoCoreError as error:
            raise StoreError(f"the store gave no answer ({type(error).__name__})") from None

    def each(self, prefix: str) -> Iterator[Entry]:
        with self._errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                yield from (Entry(o["Key"], o["ETag"], o["Size"]) for o in page.get("Contents", []))

    def list(self, prefix: str) -> list[Entry]:
        return list(self.each(prefix))

    def read(self, name: str) -> bytes:
        with self._errors():
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
            return body

    def create(self, name: str, data: bytes) -> None:
        try:
            with self._errors():
                self._client.put_object(
                    Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*", ContentType="application/json"
                )
        except StoreError as error:
            _settle(self, name, data, error)

    def delete(self, name: str) -> None:
        with self._errors():
            self._client.delete_object(Bucket=self._bucket, Key=name)


def _google_identity(key: dict[str, Any]) -> Any:
    credentials: Any = import_module("google.oauth2.credentials")
    service_account: Any = import_module("google.oauth2.service_account")
    scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
    try:
        if "accessToken" in key:
            # Without its end, near which the library would renew it, and can't: the next one comes by file.
            return credentials.Credentials(str(key["accessToken"]))
        return service_account.Credentials.from_service_account_info(key, scopes=scopes)
    except ValueError:
        raise SettingsError(
            "ASSISTANT_STORE_CREDENTIALS must hold accessToken and expiresAt, or be a Google service-account key"
        ) from None


class GcsStore:
    """Google Cloud Storage (https://cloud.google.com/storage/docs/json_api); conditional writes by generation 0."""

    def __init__(self, url: StoreUrl, key: dict[str, Any] | None, roots: str | None) -> None:
        auth: Any = import_module("google.auth.credentials")
        storage: Any = import_module("google.cloud.storage")
        retry: Any = import_module("google.cloud.storage.retry")

        # The default endpoint is a global one; a region's own keeps the data's way in the region.
        regional = f"https://storage.{url.region}.rep.googleapis.com" if url.region else None
        endpoint = url.endpoint or regional
        plain = url.endpoint is not None and url.endpoint.startswith("http:")
        identity: Any = auth.AnonymousCredentials() if plain else None
        if key is not None and not plain:
            identity = _google_identity(key)
        options = {"api_endpoint": endpoint} if endpoint else None
        # No call here is of a project; a name given keeps the client from asking for one.
        self._client = storage.Client(project="none", credentials=identity, client_options=options)
        if roots is not None:
            utils: Any = import_module("requests.utils")
            session = self._client._http
            session.proxies.update(utils.get_environ_proxies(endpoint or ""))
            # The environment's authorities would win over these.
            session.trust_env, session.verify = False, roots
        self._bucket = self._client.bucket(url.bucket)
        self._limits = {
            "timeout": (CONNECT_SECONDS, READ_SECONDS),
            "retry": retry.DEFAULT_RETRY.with_timeout(RETRY_SECONDS),
        }

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            yield
        except NotFound:
            raise NotFoundError("no such object or bucket") from None
        except PreconditionFailed:
            raise ExistsError("an object of that name is there already") from None
        except GoogleAPICallError as error:
            raise StoreError(f"the store answered {error.code}") from None
        except (RetryError, GoogleAuthError, RequestException, OSError) as error:
            raise StoreError(f"the store gave no answer ({type(error).__name__})") from None

    def each(self, prefix: str) -> Iterator[Entry]:
        with self._errors():
            blobs = self._client.list_blobs(
                self._bucket, prefix=prefix, fields="items(name,generation,size),nextPageToken", **self._limits
            )
            yield from (Entry(b.name, str(b.generation), b.size or 0) for b in blobs)

    def list(self, prefix: str) -> list[Entry]:
        return list(self.each(prefix))

    def read(self, name: str) -> bytes:
        with self._errors():
            data: bytes = self._bucket.blob(name).download_as_bytes(**self._limits)
            return data

    def create(self, name: str, data: bytes) -> None:
        try:
            with self._errors():
                self._bucket.blob(name).upload_from_string(
                    data, content_type="application/json", if_generation_match=0, **self._limits
                )
        except StoreError as error:
            _settle(self, name, data, error)

    def delete(self, name: str) -> None:
        try:
            with self._errors():
                self._bucket.blob(name).delete(**self._limits)
        except NotFoundError:
            return
