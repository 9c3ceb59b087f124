"""Who a site's pods are to its cloud: ``<site>.json`` of the mounted credentials folder, checked before it is used.

Sources: AIP-4117 (external account credentials), AWS STS API reference (AssumeRoleWithWebIdentity). Beside the file
lies the projected token of the pods' ServiceAccount, ``<site>.token``. No file names another one, nor a host.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domicile.api.zone import Cloud, Profile, Site

Account = Mapping[str, Any]

ROLE = re.compile(r"arn:(aws[a-z-]*):iam::[0-9]{12}:role/(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,64}", re.ASCII)
SERVICE_ACCOUNT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]@([a-z][a-z0-9-]{4,28}[a-z0-9])\.iam\.gserviceaccount\.com")
_PROVIDER = re.compile(
    r"//iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}"
    r"/providers/[a-z0-9-]{4,32}"
)
_UNIVERSE = "googleapis.com"
# Where a service account's key is exchanged, as Google writes it into the key.
KEY_TOKEN_URLS = frozenset({"https://oauth2.googleapis.com/token"})
_TOKEN_TYPES = {"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"}


class MalformedError(ValueError):
    """An account that can't be used. The message names fields, and quotes no value."""


def load(folder: Path, site: Site) -> tuple[str, Account | None]:
    """SHA-256 of the site's file (hex) and its content, None where there is none. Raises OSError, MalformedError."""
    try:
        content = (folder / f"{site.name}.json").read_bytes()
    except FileNotFoundError:
        return "", None
    return hashlib.sha256(content).hexdigest(), _parse(content, folder / f"{site.name}.token", site)


def _parse(content: bytes, token: Path, site: Site) -> Account:
    try:
        account = json.loads(content)
    except ValueError:
        raise MalformedError("it is no JSON") from None
    if not isinstance(account, dict):
        raise MalformedError("it is no JSON object")
    if site.cloud is Cloud.GCP and account.get("type") == "external_account":
        _check_federation(account, token, site.region)
    elif "roleArn" in account:
        if site.cloud is not Cloud.AWS:
            raise MalformedError(f"roleArn is for sites on aws, not on {site.cloud}")
        _only(account, "roleArn", "tokenFile")
        _require(account, "roleArn", lambda arn: ROLE.fullmatch(arn) is not None, "is the ARN of an IAM role")
        account.setdefault("tokenFile", str(token))
        _require(account, "tokenFile", lambda path: path == str(token), f"is {token}, or left out")
    elif not all(isinstance(value, str) for value in account.values()):
        raise MalformedError("it is no object of strings")
    elif site.stores.profile is Profile.CLOUD and "private_key" in account:
        _require(account, "token_uri", KEY_TOKEN_URLS.__contains__, f"is one of {', '.join(sorted(KEY_TOKEN_URLS))}")
        account.setdefault("universe_domain", _UNIVERSE)
        _require(account, "universe_domain", lambda v: v == _UNIVERSE, f"is {_UNIVERSE}")
    return account


def _check_federation(account: dict[str, Any], token: Path, region: str) -> None:
    """Raises MalformedError for whatever would read another file or ask another host than Google's."""
    _only(
        account,
        "type",
        "audience",
        "subject_token_type",
        "token_url",
        "token_info_url",
        "credential_source",
        "service_account_impersonation_url",
        "universe_domain",
    )
    _require(account, "audience", lambda v: _PROVIDER.fullmatch(v) is not None, "names a provider of a workload pool")
    _require(account, "subject_token_type", _TOKEN_TYPES.__contains__, "is the type of a JWT")
    token_urls = {f"https://{host}/v1/token" for host in google_hosts("sts", region)}
    _require(account, "token_url", token_urls.__contains__, f"is one of {', '.join(sorted(token_urls))}")
    # Nothing asks there.
    infos = {url.replace("/v1/token", "/v1/introspect") for url in token_urls}
    account.setdefault("token_info_url", min(infos))
    _require(account, "token_info_url", infos.__contains__, f"is one of {', '.join(sorted(infos))}, or left out")
    account.setdefault("universe_domain", _UNIVERSE)
    _require(account, "universe_domain", lambda v: v == _UNIVERSE, f"is {_UNIVERSE}")
    source = account.get("credential_source")
    if source not in ({"file": str(token)}, {"file": str(token), "format": {"type": "text"}}):
        raise MalformedError(f"credential_source must be a file, as text, and that file is {token}")
    if "service_account_impersonation_url" in account:
        _require(
            account,
            "service_account_impersonation_url",
            lambda v: any(v == impersonation_url(host, _email(v)) for host in google_hosts("iamcredentials", region)),
            f"is generateAccessToken of a service account at {' or '.join(google_hosts('iamcredentials', region))}",
        )


def google_hosts(service: str, region: str) -> tuple[str, str]:
    """Hosts of a service of Google's: for the world, and of one region."""
    return f"{service}.googleapis.com", f"{service}.{region}.rep.googleapis.com"


def impersonation_url(host: str, email: str) -> str:
    """Where a service account's tokens come from (IAM Service Account Credentials API v1)."""
    return f"https://{host}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"


def _email(url: str) -> str:
    found = url.rsplit("/", 1)[-1].removesuffix(":generateAccessToken")
    return found if SERVICE_ACCOUNT.fullmatch(found) else ""


def project_of(account: Account) -> str | None:
    """The project of the service account that a checked external account becomes, if it becomes one."""
    found = SERVICE_ACCOUNT.fullmatch(_email(account.get("service_account_impersonation_url", "")))
    return found[1] if found else None


def _only(account: Account, *known: str) -> None:
    if others := sorted(account.keys() - set(known)):
        raise MalformedError(f"these fields are not taken: {', '.join(map(repr, others))}")


def _require(account: Account, name: str, holds: Any, what: str) -> None:
    value = account.get(name)
    if not isinstance(value, str) or not holds(value):
        raise MalformedError(f"{name} must be there, and {what}")
