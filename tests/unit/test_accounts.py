"""What a credentials file may say of a site's identity: one projected token, and hosts of its own cloud only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from domicile.backup.kek import KeyUnavailableError, provider_for
from domicile.backup.stores import Deadlines, open_bucket
from domicile.backup.stores.accounts import MalformedError, load
from domicile.backup.stores.base import DeniedError
from tests.integration.stores_fixture import make_site
from tests.unit.key_sites import zone

GCP, AWS = make_site("g", "gcp", "europe-west3", None), make_site("a", "aws", "eu-central-1", None, accountId="1" * 12)
ROLE = "arn:aws:iam::123456789012:role/path/domicile"
IAM = "iamcredentials.europe-west3.rep.googleapis.com"
EMAIL = "platform@project-1.iam.gserviceaccount.com"


def become(host: str = IAM, email: str = EMAIL, verb: str = "generateAccessToken") -> str:
    return f"https://{host}/v1/projects/-/serviceAccounts/{email}:{verb}"


def external(token: str, **others: Any) -> dict[str, Any]:
    pool = "//iam.googleapis.com/projects/1234567/locations/global/workloadIdentityPools/clusters"
    return {
        "type": "external_account",
        "audience": f"{pool}/providers/cluster-one",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.europe-west3.rep.googleapis.com/v1/token",
        "credential_source": {"file": token},
    } | others


def given(folder: Path, site: Any, account: Any) -> Any:
    (folder / f"{site.name}.json").write_text(json.dumps(account))
    return load(folder, site)[1]


def test_what_googles_tool_writes_is_taken(tmp_path: Path) -> None:
    token = str(tmp_path / "g.token")
    for others in (
        {},
        {"universe_domain": "googleapis.com"},
        {"token_info_url": "https://sts.googleapis.com/v1/introspect"},
        {"credential_source": {"file": token, "format": {"type": "text"}}},
        {"token_url": "https://sts.googleapis.com/v1/token"},
        {"service_account_impersonation_url": become()},
        {"service_account_impersonation_url": become("iamcredentials.googleapis.com")},
    ):
        assert given(tmp_path, GCP, external(token, **others))["credential_source"]["file"] == token


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_url", "http://sts.googleapis.com/v1/token"),
        ("token_url", "https://sts.googleapis.com.evil.example/v1/token"),
        ("token_url", "https://evil.example/v1/token"),
        ("token_url", "https://sts.googleapis.com@evil.example/v1/token"),
        ("token_url", "https://sts.googleapis.com:8443/v1/token"),
        ("token_url", "https://sts.googleapis.com/v1/token?x=1"),
        ("token_url", "https://sts.us-east1.rep.googleapis.com/v1/token"),
        ("token_url", "https://sts.googleapis.com/v1/oauthtoken"),
        ("token_url", ["https://sts.googleapis.com/v1/token"]),
        ("token_url", None),
        ("service_account_impersonation_url", become("evil.example")),
        ("service_account_impersonation_url", become("iamcredentials.us-east1.rep.googleapis.com")),
        ("service_account_impersonation_url", become(verb="signBlob")),
        ("service_account_impersonation_url", become(email="a/../b@project-1.iam.gserviceaccount.com")),
        ("service_account_impersonation_url", become(email="someone@gmail.com")),
        ("service_account_impersonation_url", become().replace("https", "http")),
        ("service_account_impersonation_url", ""),
        ("service_account_impersonation_url", 1),
        ("audience", "//iam.googleapis.com/locations/global/workforcePools/people/providers/idps"),
        ("audience", "identitynamespace:project:cluster"),
        ("subject_token_type", "urn:ietf:params:aws:token-type:aws4_request"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"),
        ("universe_domain", "evil.example"),
        ("universe_domain", ""),
        ("credential_source", {"url": "http://169.254.169.254/token"}),
        ("credential_source", {"executable": {"command": "/bin/sh"}}),
        ("credential_source", {"environment_id": "aws1"}),
        ("credential_source", {"file": "/etc/passwd"}),
        ("credential_source", {"file": "TOKEN", "url": "http://169.254.169.254/"}),
        ("credential_source", {"file": "TOKEN", "format": {"type": "json", "subject_token_field_name": "x"}}),
        ("credential_source", {"certificate": {"use_default_certificate_config": True}}),
        ("credential_source", "TOKEN"),
        ("credential_source", None),
        ("token_info_url", "https://evil.example/introspect"),
        ("client_id", "somebody"),
        ("client_secret", "hush-hush"),
        ("workforce_pool_user_project", "p"),
        ("quota_project_id", "p"),
        ("service_account_impersonation", {"token_lifetime_seconds": 43200}),
        ("trust_boundary", "x"),
        ("cloud_resource_manager_url", "https://evil.example"),
    ],
)
def test_nothing_else_is(tmp_path: Path, field: str, value: Any) -> None:
    token = str(tmp_path / "g.token")
    if isinstance(value, dict) and value.get("file") == "TOKEN":
        value = value | {"file": token}
    with pytest.raises(MalformedError, match=field) as refused:
        given(tmp_path, GCP, external(token, **{field: value}))
    for unquoted in ("evil", "passwd", "hush", "169.254"):
        assert unquoted not in str(refused.value)
    with pytest.raises(DeniedError, match=rf"site g: g\.json is not a credentials file of cloud gcp: .*{field}"):
        open_bucket(GCP, "bucket", tmp_path)


def test_a_folder_above_is_no_way_to_another_file(tmp_path: Path) -> None:
    sideways = f"{tmp_path}/../{tmp_path.name}/g.token"
    with pytest.raises(MalformedError, match="credential_source"):
        given(tmp_path, GCP, external(sideways))


def test_a_role_is_taken_with_the_sites_own_token(tmp_path: Path) -> None:
    token = str(tmp_path / "a.token")
    for account in ({"roleArn": ROLE}, {"roleArn": ROLE, "tokenFile": token}):
        assert given(tmp_path, AWS, account) == {"roleArn": ROLE, "tokenFile": token}


@pytest.mark.parametrize(
    "account",
    [
        {"roleArn": ROLE, "tokenFile": "/etc/passwd"},
        {"roleArn": ROLE, "tokenFile": None},
        {"roleArn": ROLE, "endpoint": "https://evil.example"},
        {"roleArn": ROLE, "accessKeyId": "hush", "secretAccessKey": "hush"},
        {"roleArn": "arn:aws:iam::123456789012:user/domicile"},
        {"roleArn": "arn:aws:iam::*:role/domicile"},
        {"roleArn": f"{ROLE}\n"},
        {"roleArn": 1},
        {"roleArn": ""},
    ],
)
def test_no_other_role_nor_token_is(tmp_path: Path, account: dict[str, Any]) -> None:
    with pytest.raises(MalformedError) as refused:
        given(tmp_path, AWS, account)
    assert "hush" not in str(refused.value)
    site = zone("two", two={"awsKms": {"arn": f"arn:aws:kms:eu-central-1:{'1' * 12}:key/{'a' * 36}"}}).own
    (tmp_path / "two.json").write_text(json.dumps(account))
    with pytest.raises(KeyUnavailableError, match=r"site two: .*two\.json"):
        provider_for(site.key, site, tmp_path, tmp_path, Deadlines())


def test_each_cloud_has_its_own_kind(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="sites on aws"):
        given(tmp_path, GCP, {"roleArn": ROLE})
    with pytest.raises(MalformedError, match="object of strings"):
        given(tmp_path, AWS, external(str(tmp_path / "a.token")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_uri", "https://evil.example/token"),
        ("token_uri", "http://169.254.169.254/token"),
        ("token_uri", ""),
        ("universe_domain", "evil.example"),
    ],
)
def test_a_key_names_no_other_place_either(tmp_path: Path, field: str, value: str) -> None:
    key = {"type": "service_account", "private_key": "hush", "token_uri": "https://oauth2.googleapis.com/token"}
    assert given(tmp_path, GCP, key)
    with pytest.raises(MalformedError, match=field) as refused:
        given(tmp_path, GCP, key | {field: value})
    assert "evil" not in str(refused.value)
