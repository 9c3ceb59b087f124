"""AWS's credentials of a site: static keys, or a role for a projected token, from the STS of the region alone.

Nothing else is asked: not the environment, not profiles, not the metadata address.
Source: AWS STS API reference (AssumeRoleWithWebIdentity), AWS General Reference (STS endpoints).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import botocore.exceptions as boto
import botocore.session
from botocore import UNSIGNED, loaders
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleWithWebIdentityCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)

from domicile.backup.stores import way_out
from domicile.backup.stores.accounts import Account
from domicile.backup.stores.deadlines import Deadlines

METHOD = "assume-role-with-web-identity"
SESSION = "domicile"
_PASSING = {"Throttling", "ThrottlingException", "IDPCommunicationError", "ServiceUnavailable"}


def domain(region: str) -> str:
    """Domain of a region's endpoints (the European Sovereign Cloud has one of its own)."""
    return "amazonaws.eu" if region.startswith("eusc-") else "amazonaws.com"


def sts_endpoint(region: str) -> str:
    """URL of the STS of a region."""
    return f"https://sts.{region}.{domain(region)}"


def session(account: Account | None, region: str, deadlines: Deadlines) -> Any:
    """A session of botocore with one source of credentials, None: with none. Raises KeyError for malformed keys."""
    if account is not None and "roleArn" in account:
        return _bare(deadlines, _Role(account, region, deadlines))
    core = _bare(deadlines)
    if account is not None:
        core.set_credentials(account["accessKeyId"], account["secretAccessKey"], account.get("sessionToken"))
    return core


def sts(region: str, deadlines: Deadlines, config: Config | None = None) -> Any:
    """A client of the region's STS that signs nothing: a web identity proves itself."""
    unsigned = Config(signature_version=UNSIGNED)
    return _bare(deadlines).create_client(
        "sts",
        region_name=region,
        endpoint_url=sts_endpoint(region),
        config=unsigned.merge(config) if config else unsigned,
    )


def token(account: Account) -> str:
    """The projected token. Raises CredentialRetrievalError."""
    try:
        return Path(account["tokenFile"]).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise boto.CredentialRetrievalError(provider=METHOD, error_msg="the projected token can't be read") from None


@contextmanager
def retrieving() -> Iterator[None]:
    """What STS refuses is CredentialRetrievalError, what it leaves open HTTPClientError; neither quotes its answer."""
    try:
        yield
    except boto.ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= 500 or status == 429 or code in _PASSING:
            raise boto.HTTPClientError(error=f"STS: HTTP {status} {code}") from None
        raise boto.CredentialRetrievalError(provider=METHOD, error_msg=f"STS refuses ({code})") from None


class _Role(CredentialProvider):
    """Credentials of a role, renewed before they end."""

    METHOD = METHOD  # type: ignore[assignment]

    def __init__(self, account: Account, region: str, deadlines: Deadlines) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
            client_creator=lambda _, config: sts(region, deadlines, config),
            web_identity_token_loader=partial(token, account),
            role_arn=account["roleArn"],
            extra_args={"RoleSessionName": SESSION},
        )

    def load(self) -> Any:
        return DeferredRefreshableCredentials(method=METHOD, refresh_using=self._fetch)

    def _fetch(self) -> Any:
        with retrieving():
            return self._fetcher.fetch_credentials()


def _bare(deadlines: Deadlines, *providers: Any) -> Any:
    core = botocore.session.get_session()
    core.register_component("data_loader", _descriptions())
    core.register_component("credential_provider", CredentialResolver(providers=list(providers)))
    # The mode "auto" asks the metadata address where it runs.
    core.set_config_variable("defaults_mode", "legacy")
    # The default of every client of the session.
    core.set_default_client_config(
        Config(
            connect_timeout=deadlines.connect,
            read_timeout=deadlines.read,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=16,
            # None: as the environment says.
            proxies=way_out.proxies() or None,
        )
    )
    return core


@cache
def _descriptions() -> Any:
    """What botocore knows of the APIs, read once for all sessions: each would parse for 0.1 s to make its client."""
    return loaders.create_loader(botocore.session.get_session().get_config_variable("data_path"))
