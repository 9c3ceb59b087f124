"""The boto3 client of a site's S3 store: one endpoint, short deadlines, no redirects to other regions.

Source: botocore Config reference; AWS General Reference, Amazon S3 and STS endpoints.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from domicile.api.zone import Cloud, Profile, Site
from domicile.backup.stores import authorities, aws_identity, way_out
from domicile.backup.stores.accounts import Account
from domicile.backup.stores.base import DeniedError
from domicile.backup.stores.deadlines import Deadlines


def endpoint(site: Site) -> str:
    """URL of the site's store; of AWS always the regional one (AWS General Reference, S3 endpoints)."""
    if site.stores.endpoint:
        return site.stores.endpoint
    if site.cloud is not Cloud.AWS:
        raise ValueError(f"site {site.name}: an on-premises store needs stores.endpoint and profile compatible")
    return f"https://s3.{site.region}.{aws_identity.domain(site.region)}"


def by_path(site: Site) -> bool:
    """Whether requests name the bucket in the path, not in the host."""
    return site.stores.profile is Profile.COMPATIBLE or way_out.by_path()


def client(site: Site, account: Account, deadlines: Deadlines) -> Any:
    """A thread-safe boto3 client that talks to the site's endpoint, and for a role to its region's STS, only."""
    url = endpoint(site)
    core = aws_identity.session(account, site.region, deadlines)
    made = boto3.session.Session(region_name=site.region, botocore_session=core).client(
        "s3",
        endpoint_url=url,
        verify=authorities.file(site),
        config=Config(
            signature_version="s3v4",
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies=way_out.proxies(url) or None,
            s3={
                "addressing_style": "path" if by_path(site) else "virtual",
                "use_accelerate_endpoint": False,
                "use_arn_region": False,
                "us_east_1_regional_endpoint": "regional",
            },
        ),
    )
    host = urlsplit(url).netloc

    def stay_home(request: Any, **_: Any) -> None:
        target = urlsplit(request.url).netloc
        if target != host and not target.endswith(f".{host}"):
            raise DeniedError(f"site {site.name}: refused to follow its store to another endpoint than {host}")

    made.meta.events.register("before-send.s3", stay_home)
    made.meta.events.register("before-parameter-build.s3", _redirect_nowhere)
    return made


def _redirect_nowhere(context: dict[str, Any], **_: Any) -> None:
    # botocore would follow a bucket to whatever region the store names, unless it has been redirected once already.
    context.setdefault("s3_redirect", {})["redirected"] = True
