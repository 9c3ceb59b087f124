"""What opens a live bucket: the file's formats, what a cloud is asked for, and when it is renewed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest

from domicile.api.live_credentials import GoogleKey, GoogleToken, S3Keys, parse, render
from domicile.api.sites import ServedZone
from domicile.api.tenant import Role
from domicile.backup.stores.live import boundary, session_policy
from domicile.controllers.tenant import access, builders, policies
from domicile.controllers.tenant.minting import Minting
from domicile.controllers.tenant.view import LiveAccess, TenantView
from tests.unit.views import view, zone_spec

END = datetime(2099, 1, 1, 12, tzinfo=UTC)
S3 = S3Keys("AKIA", "secret-key", "session", END)
GOOGLE = GoogleToken("ya29.token", END)
STATIC = {"accessKeyId": "a", "secretAccessKey": "b"}
LIVE = "live-data@project-1.iam.gserviceaccount.com"


@pytest.mark.parametrize("credentials", [S3, GOOGLE])
def test_what_is_written_is_read(credentials: S3Keys | GoogleToken) -> None:
    assert parse(render(credentials)) == credentials
    for secret in ("secret-key", "session", "ya29"):
        assert secret not in repr(credentials)


def test_static_keys_are_read_and_never_written() -> None:
    assert parse(json.dumps(STATIC).encode()) == S3Keys("a", "b")
    key = {"type": "service_account", "private_key": "hush"}
    assert parse(json.dumps(key).encode()) == GoogleKey(key)
    assert "hush" not in repr(GoogleKey(key))
    with pytest.raises(ValueError, match="that end"):
        render(S3Keys("a", "b"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"accessKeyId": "hush"}',
        '{"accessKeyId": "hush", "secretAccessKey": ""}',
        '{"accessKeyId": "hush", "secretAccessKey": 1}',
        '{"accessKeyId": "hush", "secretAccessKey": "b", "sessionToken": "c"}',
        '{"accessKeyId": "hush", "secretAccessKey": "b", "expiresAt": "2099-01-01T00:00:00Z"}',
        '{"accessKeyId": "hush", "secretAccessKey": "b", "sessionToken": "c", "expiresAt": "hush"}',
        '{"accessToken": "hush"}',
        '{"accessToken": "hush", "expiresAt": "2099-01-01T00:00:00"}',
        '{"type": "external_account", "audience": "hush"}',
    ],
)
def test_what_makes_no_sense_is_refused_and_not_quoted(content: str) -> None:
    with pytest.raises(ValueError, match=r"credentials|expiresAt") as refused:
        parse(content.encode())
    assert "hush" not in str(refused.value)


def allowed(policy: dict[str, Any], action: str, arn: str, owner: str = "111122223333") -> bool:
    """Whether a statement allows it for a bucket of that account; IAM's ``*`` and ``?`` match as a shell's do."""
    ours = {"StringEquals": {"aws:ResourceAccount": owner}}
    for statement in policy["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        if statement["Condition"] == ours and action in actions and fnmatchcase(arn, statement["Resource"]):
            return True
    return False


def test_a_session_policy_opens_one_buckets_objects_and_no_others() -> None:
    policy = session_policy("eu-live-1", "eu-central-1", "aws", "111122223333")
    mine = "arn:aws:s3:::eu-live-1"
    for action in ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts"):
        assert allowed(policy, f"s3:{action}", f"{mine}/a/b//c")
        assert not allowed(policy, f"s3:{action}", f"{mine}/a/b//c", "444455556666"), "somebody took the name"
        for other in ("eu-live-10", "eu-live-", "eu-live-1x", "xeu-live-1", "eu-live-2"):
            assert not allowed(policy, f"s3:{action}", f"arn:aws:s3:::{other}/a")
            assert not allowed(policy, f"s3:{action}", f"arn:aws:s3:::{other}/eu-live-1/a")
        for point in ("arn:aws:s3:eu-central-1:123456789012:accesspoint/eu-live-1/object/a", mine):
            assert not allowed(policy, f"s3:{action}", point)
    assert allowed(policy, "s3:ListBucket", mine)
    assert not allowed(policy, "s3:ListBucket", f"{mine}0")
    for action in ("GetObjectVersion", "DeleteObjectVersion", "PutBucketPolicy", "PutObjectAcl", "ListAllMyBuckets"):
        assert not allowed(policy, f"s3:{action}", mine)
        assert not allowed(policy, f"s3:{action}", f"{mine}/a")
    assert len(json.dumps(session_policy("b" * 63, "eusc-de-east-1", "aws-eusc", "1" * 12))) < 2048, "what STS takes"


def test_a_key_opens_what_s3_encrypted_for_that_bucket_only() -> None:
    *_, keys = session_policy("b-1", "eusc-de-east-1", "aws-eusc", "111122223333")["Statement"]
    assert keys["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert keys["Condition"] == {
        "StringEquals": {"kms:ViaService": "s3.eusc-de-east-1.amazonaws.eu"},
        "StringLike": {"kms:EncryptionContext:aws:s3:arn": ["arn:aws-eusc:s3:::b-1", "arn:aws-eusc:s3:::b-1/*"]},
    }


def test_a_boundary_names_one_bucket() -> None:
    assert boundary("eu-live-1") == {
        "accessBoundary": {
            "accessBoundaryRules": [
                {
                    "availableResource": "//storage.googleapis.com/projects/_/buckets/eu-live-1",
                    "availablePermissions": ["inRole:roles/storage.objectUser"],
                }
            ]
        }
    }


def minting(**changes: Any) -> TenantView:
    """A tenant whose site has a live identity."""
    spec = zone_spec()
    own = spec.sites[0].model_copy(update={"live_identity": LIVE})
    zone = ServedZone(name="eu", site=own.name, spec=spec.model_copy(update={"sites": [own, *spec.sites[1:]]}))
    return view(zone=zone, **changes)


def minted(hours: float = 12, left: float = 12, **changes: Any) -> TenantView:
    """One whose credentials have ``left`` of ``hours`` left."""
    now = minting().now
    end = now + timedelta(hours=left)
    content = render(GoogleToken("ya29.token", end))
    # Seconds are the file's finest.
    found = LiveAccess(content, end.replace(microsecond=0) - timedelta(hours=hours), end.replace(microsecond=0))
    return minting(live_access=found, **changes)


def secret(at: TenantView) -> dict[str, Any]:
    [found] = [o for o in builders.build(at) if (o["kind"], o["metadata"]["name"]) == ("Secret", "store-credentials")]
    return found


def test_minted_credentials_are_the_pods_and_are_known_again() -> None:
    at = minted()
    made = secret(at)
    assert base64.b64decode(made["data"]["store.json"]) == at.live_access.content  # type: ignore[union-attr]
    assert access.look_at(at, made) == at.live_access
    [pod] = [o["spec"]["template"]["spec"] for o in builders.build(at) if o["metadata"]["name"] == "helpdesk"
             and o["kind"] == "Deployment"]  # fmt: skip
    assert {"name": "ASSISTANT_STORE_CREDENTIALS", "value": "/etc/assistant/store.json"} in pod["containers"][0]["env"]


def test_pods_don_t_change_with_their_credentials() -> None:
    def deployments(at: TenantView) -> list[dict[str, Any]]:
        return [o for o in builders.build(at) if o["kind"] == "Deployment"]

    assert deployments(minted()) == deployments(minted(left=6)) == deployments(minting())


def test_where_none_count_the_secret_is_empty() -> None:
    for at in (minting(), minting(live_access=LiveAccess(fault="refused"))):
        assert secret(at)["data"] == {}
        assert secret(at)["metadata"]["annotations"] == {}
        assert access.look_at(at, secret(at)) is None


def test_a_static_key_is_not_handed_out_where_credentials_are_minted() -> None:
    assert secret(minting(live_credentials=json.dumps(STATIC).encode()))["data"] == {}


def test_credentials_of_something_else_don_t_count() -> None:
    at, made = minted(), secret(minted())
    static = {"store.json": base64.b64encode(json.dumps(STATIC).encode()).decode()}
    for other in (
        None,
        {},
        made | {"data": {}},
        made | {"data": static},
        made | {"data": {"store.json": "*"}},
        made | {"data": {"store.json": secret(minted(left=11))["data"]["store.json"]}},
        made | {"metadata": {"annotations": None}},
        made | {"metadata": {"annotations": made["metadata"]["annotations"] | {access.ISSUED: "yesterday"}}},
        made | {"metadata": {"annotations": made["metadata"]["annotations"] | {access.ISSUED: "2026-01-01T00:00:00"}}},
        made | {"metadata": {"annotations": made["metadata"]["annotations"] | {access.OPENS: "0" * 64}}},
    ):
        assert access.look_at(at, other) is None
    assert access.look_at(minted(live_bucket="another"), made) is None
    assert access.look_at(minted(left=-1), secret(minted(left=-1))) is None, "ended"


@pytest.mark.parametrize(("left", "due", "told"), [(12, False, False), (4.1, False, False), (3.9, True, False),
                                                   (2.1, True, False), (1.9, True, True), (0, True, True)])  # fmt: skip
def test_a_third_of_the_life_is_for_renewing_and_a_sixth_for_telling(left: float, due: bool, told: bool) -> None:
    at = minted(left=left)
    assert at.live_access is not None
    assert access.renewable(at.live_access, at.now) is due
    assert access.ends_soon(at.live_access, at.now) is told


def storage_ready(at: TenantView) -> Any:
    return next(v for v in policies.judge(at) if v.type == "StorageReady")


def test_what_can_t_be_renewed_is_told_before_it_ends() -> None:
    for left, status in ((3, "True"), (1, "False")):
        at = minted(left=left)
        at = minting(live_access=LiveAccess(**{f: getattr(at.live_access, f) for f in ("content", "issued", "end")},
                                            fault="site one: no answer of its STS"))  # fmt: skip
        assert storage_ready(at).status == status
    assert storage_ready(at).reason == "AccessNotRenewed"
    assert "ends at" in storage_ready(at).message
    assert "no answer of its STS" in storage_ready(at).message
    assert "ya29" not in storage_ready(at).message
    never = storage_ready(minting(live_access=LiveAccess(fault="refused")))
    assert (never.status, never.reason) == ("False", "AccessNotRenewed")
    assert "has ended, or never began" in never.message
    assert storage_ready(minted(left=1)).status == "True", "nobody said that it fails"


class Untouched:
    """What raises whenever it is used."""


async def test_a_standby_mints_nothing_and_keeps_nothing() -> None:
    at = minted(claim=None)
    assert at.role is Role.STANDBY
    nobody: Any = Untouched()
    seen = await Minting(nobody, nobody).see_to(at)
    assert seen.live_access is None
    assert secret(seen)["data"] == {}


async def test_without_a_live_identity_nothing_is_minted() -> None:
    nobody: Any = Untouched()
    static = view(live_credentials=b"{}")
    assert await Minting(nobody, nobody).see_to(static) == static
