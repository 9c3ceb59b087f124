"""Keys of sites, as one site may use them: it encrypts for every site of its zones and decrypts with its own key only.

A KMS key is asked at the regional endpoint of its own region, with the credentials of its site's store.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.auth.exceptions import GoogleAuthError

from domicile.api.sites import ServedZone
from domicile.api.zone import KeyRef, Site
from domicile.backup.kek import aws, gcp
from domicile.backup.kek.aws import AwsKmsKey
from domicile.backup.kek.base import Context, Kek, KeyUnavailableError
from domicile.backup.kek.gcp import GcpKmsKey
from domicile.backup.kek.local import LocalFileKey, generate
from domicile.backup.residency import ResidencyError
from domicile.backup.stores import accounts
from domicile.backup.stores.accounts import MalformedError
from domicile.backup.stores.deadlines import Deadlines

__all__ = ["Context", "Kek", "KeyRing", "KeyUnavailableError", "OwnKey", "PeerKey", "generate", "provider_for"]

_clients: dict[tuple[Any, ...], tuple[str, Any]] = {}
_lock = threading.Lock()


class PeerKey:
    """The key of another site: it encrypts. There is no way to decrypt with it, whatever an identity is allowed to."""

    def __init__(self, kek: Kek) -> None:
        self.digest = kek.digest
        self.encrypt = kek.encrypt


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The own site's key, and those that it had before, which only open."""

    present: Kek
    previous: tuple[Kek, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the present key."""
        return self.present.digest

    def encrypt(self, plaintext: bytes, context: Context) -> bytes:
        """Ciphertext by the present key. Raises KeyUnavailableError."""
        return self.present.encrypt(plaintext, context)

    def decrypt(self, digest: str, ciphertext: bytes, context: Context) -> bytes:
        """Plaintext, by the key of that digest. Raises KeyUnavailableError, WrongKeyError."""
        for kek in (self.present, *self.previous):
            if kek.digest == digest:
                return kek.decrypt(ciphertext, context)
        raise KeyUnavailableError(
            f"a wrap was made with key {digest}, which the zone no longer names for this site (it names"
            f" {', '.join(k.digest for k in (self.present, *self.previous))}); add it to the site's key.previous"
        )


class KeyRing:
    """The keys of the served zones' sites. ``keys`` and ``credentials`` are the mounted folders."""

    def __init__(self, keys: Path, credentials: Path, deadlines: Deadlines | None = None) -> None:
        self._keys = keys
        self._credentials = credentials
        self._deadlines = deadlines or Deadlines()

    def own(self, zone: ServedZone) -> OwnKey:
        """The key of the zone's site that this cluster is. Raises ResidencyError, KeyUnavailableError."""
        site = zone.own
        return OwnKey(self._kek(site.key, site), tuple(self._kek(ref, site) for ref in site.key.previous))

    def peer(self, zone: ServedZone) -> PeerKey | None:
        """The key of the zone's other site, if it has one. Raises ResidencyError, KeyUnavailableError."""
        return None if zone.peer is None else PeerKey(self._kek(zone.peer.key, zone.peer))

    def _kek(self, ref: KeyRef, site: Site) -> Kek:
        return provider_for(ref, site, self._keys, self._credentials, self._deadlines)


def provider_for(ref: KeyRef, site: Site, keys: Path, credentials: Path, deadlines: Deadlines) -> Kek:
    """What encrypts and decrypts with one of a site's keys. No request is sent.

    Raises ResidencyError for a KMS key outside the site's region, KeyUnavailableError for credentials that are missing
    or malformed.
    """
    if ref.aws_kms is not None:
        arn = ref.aws_kms.arn
        region = aws.region_of(arn)
        _require_home(site, region, multi_region=":key/mrk-" in arn)
        return AwsKmsKey(arn, _client("aws", site, region, credentials, deadlines), deadlines)
    if ref.gcp_kms is not None:
        region = gcp.region_of(ref.gcp_kms.name)
        _require_home(site, region)
        return GcpKmsKey(ref.gcp_kms.name, _client("gcp", site, region, credentials, deadlines), deadlines)
    if ref.name is None:
        raise KeyUnavailableError(f"site {site.name} names no key: set one of name, awsKms and gcpKms")
    return LocalFileKey(ref.name, keys)


def _require_home(site: Site, region: str, *, multi_region: bool = False) -> None:
    if region != site.region or multi_region:
        what = "is a multi-region key" if multi_region else f"lies in {region}"
        raise ResidencyError(
            f"the KMS key of site {site.name} {what}; name a single-region key in {site.region}. Nothing was moved", ()
        )


def _client(cloud: str, site: Site, region: str, credentials: Path, deadlines: Deadlines) -> Any:
    """The shared client of a KMS for one identity; a changed credentials file makes a new one."""
    try:
        digest, account = accounts.load(credentials, site)
        key = (cloud, region, site.name, credentials, deadlines)
        with _lock:
            cached = _clients.get(key)
            if cached is None or cached[0] != digest:
                made = aws.client(region, account, deadlines) if cloud == "aws" else gcp.session(account, deadlines)
                cached = _clients[key] = (digest, made)
        return cached[1]
    except MalformedError as error:
        raise KeyUnavailableError(f"site {site.name}: no identity for its KMS; {site.name}.json: {error}") from None
    except (OSError, ValueError, KeyError, GoogleAuthError) as error:
        # The library's text may quote the secret.
        raise KeyUnavailableError(
            f"site {site.name}: no identity for its KMS ({type(error).__name__}); {site.name}.json in the credentials"
            " folder is malformed or missing"
        ) from None
