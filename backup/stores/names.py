"""Which names are those of plain buckets."""

from __future__ import annotations

import re

from domicile.api.zone import Site

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
# Reserved suffixes of access points, object lambdas, multi-region access points and directory buckets
# (Amazon S3 User Guide, bucket naming rules): what they point at can lie anywhere.
_ALIASES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def require_plain(site: Site, bucket: str) -> None:
    """Raises ValueError for a name that is not a plain bucket's (ARNs, access points, directory buckets)."""
    if not _NAME.fullmatch(bucket) or bucket.endswith(_ALIASES):
        raise ValueError(f"site {site.name}: {bucket!r} is not the name of a plain bucket; name the bucket itself")
