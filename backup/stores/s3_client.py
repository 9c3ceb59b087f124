"""The boto3 client of a site's S3 store: one endpoint, short deadlines, no redirects to other regions.

Source: botocore Config reference; AWS General Reference, Amazon S3 and STS endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import urllib3
from botocore import loaders
from botocore.config import Config

from domicile.api.zone import Cloud, Profile, Site
from domicile.backup.stores.base import DeniedError
from domicile.backup.stores.deadlines import Deadlines


def endpoint(site: Site) -> str:
    """URL of the site's store; of AWS always the regional one (AWS General Reference, S3 endpoints)."""
    if site.stores.endpoint:
        return site.stores.endpoint
    if site.cloud is not Cloud.AWS:
        raise ValueError(f"site {site.name}: an on-premises store needs stores.endpoint and profile compatible")
    domain = "amazonaws.eu" if site.region.startswith("eusc-") else "amazonaws.com"
    return f"https://s3.{site.region}.{domain}"


def _session(site: Site, keys: Mapping[str, str] | None, deadlines: Deadlines) -> Any:
    """Session that exchanges a workload's identity at the STS of the site's region, whatever the environment says."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _descriptions())
    core.set_config_variable("sts_regional_endpoints", "regional")
    core.set_config_variable("ignore_configured_endpoint_urls", True)
    # The default of every client of the session: the one of STS, which botocore makes by itself, has deadlines, too.
    core.set_default_client_config(
        Config(
            connect_timeout=deadlines.connect,
            read_timeout=deadlines.read,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
    )
    return boto3.session.Session(
        aws_access_key_id=None if keys is None else keys["accessKeyId"],
        aws_secret_access_key=None if keys is None else keys["secretAccessKey"],
        region_name=site.region,
        botocore_session=core,
    )


@cache
def _descriptions() -> Any:
    """What botocore knows of the APIs, read once for all sessions: each would parse for 0.1 s to make its client."""
    return loaders.create_loader(botocore.session.get_session().get_config_variable("data_path"))


def client(site: Site, keys: Mapping[str, str] | None, deadlines: Deadlines) -> Any:
    """A thread-safe boto3 client that talks to the site's endpoint only; ``keys`` None: ambient workload identity."""
    url = endpoint(site)
    made = _session(site, keys, deadlines).client(
        "s3",
        endpoint_url=url,
        config=Config(
            signature_version="s3v4",
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "path" if site.stores.profile is Profile.COMPATIBLE else "virtual",
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


@cache
def plain(deadlines: Deadlines) -> urllib3.PoolManager:
    """A pool for requests that botocore has signed beforehand."""
    timeout = urllib3.Timeout(connect=deadlines.connect, read=deadlines.read)
    return urllib3.PoolManager(num_pools=8, maxsize=32, timeout=timeout, retries=False)


def _redirect_nowhere(context: dict[str, Any], **_: Any) -> None:
    # botocore would follow a bucket to whatever region the store names, unless it has been redirected once already.
    context.setdefault("s3_redirect", {})["redirected"] = True
