"""Object stores: one ``Bucket`` over S3 and Google Cloud Storage, always at the site's own regional endpoint."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from google.auth.exceptions import GoogleAuthError

from domicile.api.zone import Cloud, Profile, Site
from domicile.backup.stores import gcs, gcs_config, s3, s3_client
from domicile.backup.stores.base import Bucket, DeniedError
from domicile.backup.stores.deadlines import Deadlines

__all__ = ["Deadlines", "endpoint", "open_bucket"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
# Reserved suffixes of access points, object lambdas, multi-region access points and directory buckets
# (Amazon S3 User Guide, bucket naming rules): what they point at can lie anywhere.
_ALIASES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

_clients: dict[tuple[Any, ...], tuple[str, Any, Callable[[], Any], dict[str, Bucket]]] = {}
_lock = threading.Lock()


def endpoint(site: Site) -> str:
    """URL of the site's store. Raises ValueError for a site whose endpoint can't be derived."""
    return gcs_config.endpoint(site) if site.cloud is Cloud.GCP else s3_client.endpoint(site)


def open_bucket(site: Site, bucket: str, credentials: Path, deadlines: Deadlines | None = None) -> Bucket:
    """The bucket at the site's store. Buckets of the same store, credentials and deadlines share one client.

    ``credentials`` is the directory that may hold ``<site>.json``; a changed file makes a new client. No request is
    sent. Raises ValueError for a name that is not a plain bucket's (ARNs, access points, directory buckets) and
    DeniedError for credentials that are missing or malformed.
    """
    if not _NAME.fullmatch(bucket) or bucket.endswith(_ALIASES):
        raise ValueError(f"site {site.name}: {bucket!r} is not the name of a plain bucket; name the bucket itself")
    deadlines = deadlines or Deadlines()
    account = credentials / f"{site.name}.json"
    content: bytes | None
    try:
        content = account.read_bytes()
    except FileNotFoundError:
        content = None
    except OSError as error:
        raise DeniedError(f"site {site.name}: its credentials file can't be read ({error.strerror})") from None
    digest = hashlib.sha256(content or b"").hexdigest()
    # The whole site: zones that share one may name other owners and other buckets of keys.
    key = (site.model_dump_json(), str(account), deadlines)
    with _lock:
        cached = _clients.get(key)
        if cached is None or cached[0] != digest:
            cached = _clients[key] = (digest, *_opened(site, account, content, deadlines), {})
        # One object a bucket: its connections are worth keeping.
        if bucket not in cached[3]:
            cached[3][bucket] = (
                gcs.GcsBucket(site, bucket, cached[1], deadlines)
                if site.cloud is Cloud.GCP
                else s3.S3Bucket(site, bucket, cached[1], deadlines, cached[2])
            )
        return cached[3][bucket]


def _opened(site: Site, account: Path, content: bytes | None, deadlines: Deadlines) -> tuple[Any, Callable[[], Any]]:
    """The store's client, and what opens the one of its region's KMS (S3 only)."""
    try:
        keys = None if content is None else json.loads(content)
        if keys is not None and not (isinstance(keys, dict) and all(isinstance(value, str) for value in keys.values())):
            raise ValueError("not an object of strings")
        if site.cloud is Cloud.GCP:
            return gcs.client(site, keys, deadlines), lambda: None
        if keys is None and site.stores.profile is Profile.COMPATIBLE:
            raise DeniedError(f"site {site.name}: {account.name} is missing from the credentials directory")
        return s3_client.client(site, keys, deadlines), cache(partial(_kms, site, keys, deadlines))
    except (ValueError, KeyError, GoogleAuthError):
        # The library's text may quote the secret.
        what = (
            f"{account.name} is not a credentials file of cloud {site.cloud}"
            if content is not None
            else "it has no workload identity"
        )
        raise DeniedError(f"site {site.name}: {what}") from None


def _kms(site: Site, keys: Mapping[str, str] | None, deadlines: Deadlines) -> Any:
    # Keys of sites build on stores, so this package can't need theirs before it is whole.
    from domicile.backup.kek import aws

    return aws.client(site.region, keys, deadlines)
