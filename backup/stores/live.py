"""Short-lived credentials that open one live bucket's objects, minted from the site's live identity.

Sources: AWS STS API reference (AssumeRoleWithWebIdentity, session policies) and service authorization reference (S3,
KMS condition keys); Google's Credential Access Boundaries for Cloud Storage.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions as boto
import requests
from google.auth.exceptions import GoogleAuthError, TransportError

from domicile.api.live_credentials import GoogleToken, S3Keys
from domicile.api.zone import Site
from domicile.backup.stores import accounts, aws_identity, google_identity
from domicile.backup.stores.accounts import Account, MalformedError
from domicile.backup.stores.base import DeniedError, UnavailableError
from domicile.backup.stores.deadlines import Deadlines
from domicile.backup.stores.names import require_plain

# The longest that the clouds give, and what they give unless somebody allowed more.
LIVES_SECONDS = (12 * 3600, 3600)
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def mint(site: Site, bucket: str, folder: Path, deadlines: Deadlines) -> S3Keys | GoogleToken:
    """What opens the objects of ``bucket`` at the site, and of no other one.

    Raises ValueError for what is no plain bucket's name, DeniedError, UnavailableError; they quote no token.
    """
    require_plain(site, bucket)
    try:
        _, account = accounts.load(folder, site)
    except (OSError, MalformedError):
        raise DeniedError(f"site {site.name}: {site.name}.json can't be read, or is malformed") from None
    if account is None or not (account.keys() & {"roleArn", "credential_source"}):
        raise DeniedError(
            f"site {site.name}: liveIdentity is assumed with a projected token; give {site.name}.json a roleArn (AWS)"
            " or an external_account (Google), and the site an audience in cloudIdentity of the chart"
        )
    if "roleArn" in account:
        return _at_aws(site, bucket, account, deadlines)
    return _at_google(site, bucket, account, deadlines)


def session_policy(bucket: str, region: str, partition: str, owner: str) -> dict[str, Any]:
    """What a session may do with a bucket: its objects as they are, and the key with which S3 encrypts just them.

    ``owner``: its account. Of somebody else's bucket that took its name nothing is open.
    """
    arn = f"arn:{partition}:s3:::{bucket}"
    ours = {"StringEquals": {"aws:ResourceAccount": owner}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn, "Condition": ours},
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
                "Resource": f"{arn}/*",
                "Condition": ours,
            },
            {
                "Effect": "Allow",
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": {
                    "StringEquals": {"kms:ViaService": f"s3.{region}.{aws_identity.domain(region)}"},
                    "StringLike": {"kms:EncryptionContext:aws:s3:arn": [arn, f"{arn}/*"]},
                },
            },
        ],
    }


def boundary(bucket: str) -> dict[str, Any]:
    """The same as a Credential Access Boundary."""
    rule = {
        "availableResource": f"//storage.googleapis.com/projects/_/buckets/{bucket}",
        "availablePermissions": ["inRole:roles/storage.objectUser"],
    }
    return {"accessBoundary": {"accessBoundaryRules": [rule]}}


def _at_aws(site: Site, bucket: str, account: Account, deadlines: Deadlines) -> S3Keys:
    role = site.live_identity or ""
    sts = aws_identity.sts(site.region, deadlines)
    _, partition, _, _, owner, _ = role.split(":")
    policy = json.dumps(session_policy(bucket, site.region, partition, owner))

    def assume(seconds: int) -> dict[str, Any]:
        with aws_identity.retrieving():
            answer: dict[str, Any] = sts.assume_role_with_web_identity(
                RoleArn=role,
                # It stands in the cloud's logs, as the bucket does.
                RoleSessionName=bucket,
                WebIdentityToken=aws_identity.token(account),
                Policy=policy,
                DurationSeconds=seconds,
            )
            return answer

    try:
        answer = _longest(assume, boto.CredentialRetrievalError)
    except boto.CredentialRetrievalError as error:
        raise DeniedError(
            f"site {site.name}: the STS of {site.region} does not let the operator assume liveIdentity"
            f" ({error.kwargs['error_msg']}); its trust policy must name the operator's ServiceAccount"
        ) from None
    except boto.BotoCoreError as error:
        raise UnavailableError(f"site {site.name}: no answer of its STS ({type(error).__name__})") from None
    keys = answer["Credentials"]
    return S3Keys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], keys["Expiration"])


def _at_google(site: Site, bucket: str, account: Account, deadlines: Deadlines) -> GoogleToken:
    asking = google_identity.asking(deadlines)
    own = account.get("service_account_impersonation_url")
    host = str(urlsplit(own).hostname) if own else "iamcredentials.googleapis.com"
    url = accounts.impersonation_url(host, site.live_identity or "")

    def become(seconds: int) -> tuple[str, datetime]:
        return google_identity.impersonated(account, url, [_SCOPE], seconds, asking)

    try:
        token, end = _longest(become, google_identity.RefusedError)
        return GoogleToken(google_identity.downscoped(account, token, boundary(bucket), asking), end)
    except (TransportError, requests.RequestException) as error:
        raise UnavailableError(f"site {site.name}: no answer of Google's STS or IAM ({type(error).__name__})") from None
    except GoogleAuthError as error:
        raise DeniedError(
            f"site {site.name}: the operator may not become liveIdentity ({error}); it needs"
            " roles/iam.serviceAccountTokenCreator on it"
        ) from None


def _longest(ask: Any, refused: type[Exception]) -> Any:
    """The longest life that is allowed here; a cloud refuses more instead of giving less."""
    for seconds in LIVES_SECONDS[:-1]:
        try:
            return ask(seconds)
        except refused:
            continue
    return ask(LIVES_SECONDS[-1])
