"""Object stores: one ``Bucket`` over S3 and Google Cloud Storage, always at the site's own regional endpoint."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from google.auth.exceptions import GoogleAuthError

from domicile.api.zone import Cloud, Profile, Site
from domicile.backup.stores import accounts, authorities, gcs, gcs_config, s3, s3_client
from domicile.backup.stores.accounts import Account, MalformedError
from domicile.backup.stores.base import Bucket, DeniedError
from domicile.backup.stores.deadlines import Deadlines
from domicile.backup.stores.names import require_plain

__all__ = ["Deadlines", "endpoint", "open_bucket"]

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
    require_plain(site, bucket)
    deadlines = deadlines or Deadlines()
    try:
        digest, account = accounts.load(credentials, site)
    except OSError as error:
        raise DeniedError(f"site {site.name}: its credentials file can't be read ({error.strerror})") from None
    except MalformedError as error:
        raise DeniedError(f"site {site.name}: {_not_of(site)}: {error}") from None
    # The whole site: zones that share one may name other owners and other buckets of keys.
    key = (site.model_dump_json(), str(credentials), deadlines)
    with _lock:
        cached = _clients.get(key)
        if cached is None or cached[0] != digest:
            cached = _clients[key] = (digest, *_opened(site, account, deadlines), {})
        # One object a bucket: its connections are worth keeping.
        if bucket not in cached[3]:
            cached[3][bucket] = (
                gcs.GcsBucket(site, bucket, cached[1], deadlines)
                if site.cloud is Cloud.GCP
                else s3.S3Bucket(site, bucket, cached[1], deadlines, cached[2])
            )
        return cached[3][bucket]


def _opened(site: Site, account: Account | None, deadlines: Deadlines) -> tuple[Any, Callable[[], Any]]:
    """The store's client, and what opens the one of its region's KMS (S3 only)."""
    if account is None and (site.cloud is not Cloud.GCP or site.stores.profile is Profile.CLOUD):
        raise DeniedError(f"site {site.name}: {site.name}.json is missing from the credentials directory")
    try:
        authorities.context(site.store_ca_bundle)
        if site.cloud is Cloud.GCP:
            return gcs.client(site, account, deadlines), lambda: None
        return s3_client.client(site, account or {}, deadlines), cache(partial(_kms, site, account, deadlines))
    except ssl.SSLError:
        raise DeniedError(f"site {site.name}: its storeCaBundle holds something that is no certificate") from None
    except (ValueError, KeyError, GoogleAuthError):
        # The library's text may quote the secret.
        raise DeniedError(f"site {site.name}: {_not_of(site)}") from None


def _not_of(site: Site) -> str:
    return f"{site.name}.json is not a credentials file of cloud {site.cloud}"


def _kms(site: Site, account: Account | None, deadlines: Deadlines) -> Any:
    # Keys of sites build on stores, so this package can't need theirs before it is whole.
    from domicile.backup.kek import aws

    return aws.client(site.region, account, deadlines)
