"""Buckets and accounts of a site's store, as a platform team would prepare them.

On S3 the site's own account may do everything with its buckets; the peer's may get, list and create in three of them
and never delete; a live bucket has one more account, which reaches that bucket only. fake-gcs-server knows no accounts.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed.store import Store

Account = dict[str, str]
_PEER_OBJECT = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
_PEER_BUCKET = [
    "s3:ListBucket",
    "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
    "s3:GetBucketPolicyStatus",
    "s3:GetBucketAcl",
    "s3:GetEncryptionConfiguration",
    "s3:GetBucketPublicAccessBlock",
    "s3:ListBucketMultipartUploads",
]
_LIVE_OBJECT = [
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
]


@dataclass(frozen=True)
class Buckets:
    """Names of a site's buckets; live ones are opaque."""

    replica: str
    keys: str
    control: str
    live: tuple[str, ...]

    @classmethod
    def of(cls, site: str, pool: int) -> Buckets:
        """The names for a site and a pool of so many live buckets."""
        live = tuple(f"b{hashlib.sha256(f'{site}/{n}'.encode()).hexdigest()[:20]}" for n in range(pool))
        return cls(f"{site}-replica", f"{site}-keys", f"{site}-control", live)

    @property
    def shared(self) -> tuple[str, str, str]:
        """The buckets that the peer reaches, too."""
        return self.replica, self.keys, self.control


def create(store: Store, buckets: Buckets) -> None:
    """Create all buckets that don't exist. Live ones are versioned where the server can do it."""
    if store.site.is_gcs:
        client = store.gcs()
        present = {b.name for b in client.list_buckets()}
        for name in (*buckets.shared, *buckets.live):
            if name not in present:
                client.create_bucket(name, location=store.site.region)
        return
    client = store.s3()
    present = {b["Name"] for b in client.list_buckets()["Buckets"]}
    where = {"LocationConstraint": store.site.region}
    for name in (*buckets.shared, *buckets.live):
        if name not in present:
            extra = {} if store.site.region == "us-east-1" else {"CreateBucketConfiguration": where}
            client.create_bucket(Bucket=name, **extra)
    for name in buckets.live:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def grant(store: Store, buckets: Buckets, peers: list[str], folder: Path) -> dict[str, Path]:
    """Make the accounts of an S3 store and say who may do what; ``folder`` keeps them for the next call.

    Returns files of ``{"accessKeyId", "secretAccessKey"}`` by ``own``, ``lease`` (reads the control bucket), the name
    of each peer, and ``live-<bucket>``.
    """
    names = ["own", "lease", *peers, *(f"live-{b}" for b in buckets.live)]
    files = {name: _account(store, folder / f"{name}.json") for name in names}
    access = {name: str(json.loads(path.read_text())["accessKeyId"]) for name, path in files.items()}
    client = store.s3()
    for bucket in (*buckets.shared, *buckets.live):
        arn = f"arn:aws:s3:::{bucket}"
        statements = [_allow(access["own"], ["s3:*"], arn, f"{arn}/*")]
        if bucket in buckets.live:
            user = access[f"live-{bucket}"]
            statements += [_allow(user, _PEER_BUCKET, arn), _allow(user, _LIVE_OBJECT, f"{arn}/*")]
        else:
            if bucket == buckets.control:
                statements += [_allow(access["lease"], ["s3:ListBucket"], arn)]
                statements += [_allow(access["lease"], ["s3:GetObject"], f"{arn}/*")]
            for peer in peers:
                statements += [_allow(access[peer], _PEER_BUCKET, arn), _allow(access[peer], _PEER_OBJECT, f"{arn}/*")]
        policy = {"Version": "2012-10-17", "Statement": statements}
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return files


def _allow(user: str, actions: list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"AWS": [user]}, "Action": actions, "Resource": list(resources)}


def _account(store: Store, path: Path) -> Path:
    if not path.exists():
        account = {"accessKeyId": f"u{secrets.token_hex(8)}", "secretAccessKey": secrets.token_hex(20)}
        user = ["--access", account["accessKeyId"], "--secret", account["secretAccessKey"], "--role", "user"]
        store.admin("create-user", *user)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(account))
        path.chmod(0o600)
    return path
