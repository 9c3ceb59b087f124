"""The clouds' KMS under their real names: who opens what, where requests go, and what a KMS that fails does."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from domicile.backup import keys
from domicile.backup.errors import WrongKeyError
from domicile.backup.kek import Kek, KeyRing, KeyUnavailableError, OwnKey, PeerKey, provider_for
from domicile.backup.keys import mint_tenant_key, open_tenant_key
from domicile.backup.stores.deadlines import Deadlines
from tests.gkms_standin import USE_TO_DECRYPT, USE_TO_ENCRYPT
from tests.integration.clouds import AWS_REGION, GCP_HOST, Clouds
from tests.memory_bucket import MemoryBucket
from tests.unit.key_sites import TENANT, zone

CONTEXT = {"tenant": TENANT}
QUICK = Deadlines(connect=1.0, read=1.0, retries=2)
AWS_HOST = f"kms.{AWS_REGION}.amazonaws.com"
STS_HOST = f"sts.{AWS_REGION}.amazonaws.com"


class Aws:
    """What an administrator does at AWS, and the identities that he makes."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds
        self._session = boto3.session.Session("admin", "admin-secret", region_name=AWS_REGION)
        self.kms = self._session.client("kms")
        self.enforce("inf")

    def create_key(self) -> str:
        return str(self.kms.create_key()["KeyMetadata"]["Arn"])

    def user(self, *actions: str) -> dict[str, str]:
        """Static keys of a new user who may do these actions."""
        iam = self._session.client("iam", endpoint_url=f"https://iam.{AWS_REGION}.amazonaws.com")
        name = f"u{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name)
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"accessKeyId": made["AccessKeyId"], "secretAccessKey": made["SecretAccessKey"]}

    def enforce(self, after_requests: str = "0") -> None:
        """From now on moto checks signatures and policies."""
        url = f"https://127.0.0.1:{self._clouds.proxy.routes[AWS_HOST]}/moto-api/reset-auth"
        with requests.Session() as direct:
            direct.trust_env = False
            done = direct.post(
                url, data=after_requests.encode(), verify=self._clouds.environment["AWS_CA_BUNDLE"], timeout=10
            )
        assert done.status_code == 200


@pytest.fixture
def aws(clouds: Clouds) -> Iterator[Aws]:
    admin = Aws(clouds)
    yield admin
    admin.enforce("inf")


class Identity:
    """One cluster's folder of credentials."""

    def __init__(self, folder: Path, **accounts: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for site, account in accounts.items():
            (folder / f"{site}.json").write_text(json.dumps(account))

    def kek(self, site: str, ref: dict[str, Any], deadlines: Deadlines = QUICK) -> Kek:
        at = zone(site, **{site: ref}).own
        return provider_for(at.key, at, self.folder, self.folder, deadlines)


@pytest.fixture
def gcp_key(clouds: Clouds, tmp_path: Path) -> tuple[str, Kek]:
    name = clouds.gcp.create_key(tmp_path.name)
    account = clouds.gcp.create_account("operator")
    clouds.gcp.grant(account, name, USE_TO_ENCRYPT, USE_TO_DECRYPT)
    return name, Identity(tmp_path / "id", one=account).kek("one", {"gcpKms": {"name": name}})


@pytest.fixture
def aws_key(aws: Aws, clouds: Clouds, tmp_path: Path) -> tuple[str, Kek]:
    arn = aws.create_key()
    user = aws.user("kms:Encrypt", "kms:Decrypt")
    clouds.proxy.asked.clear()
    return arn, Identity(tmp_path / "id", two=user).kek("two", {"awsKms": {"arn": arn}})


@pytest.fixture(params=["aws", "gcp"])
def kek(request: pytest.FixtureRequest) -> Kek:
    return request.getfixturevalue(f"{request.param}_key")[1]  # type: ignore[no-any-return]


def test_a_wrap_opens_under_its_context_only(kek: Kek) -> None:
    wrapped = kek.encrypt(b"secret", CONTEXT)
    assert b"secret" not in wrapped
    assert kek.decrypt(wrapped, CONTEXT) == b"secret"
    for ciphertext, context in (
        (wrapped, {"tenant": "other"}),
        (wrapped, {}),
        (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), CONTEXT),
    ):
        with pytest.raises(WrongKeyError, match="made with another key, for another tenant or zone"):
            kek.decrypt(ciphertext, context)


def test_only_the_regional_endpoints_are_asked(
    clouds: Clouds, aws_key: tuple[str, Kek], gcp_key: tuple[str, Kek]
) -> None:
    for _, kek in (aws_key, gcp_key):
        assert kek.decrypt(kek.encrypt(b"secret", CONTEXT), CONTEXT) == b"secret"
    assert set(clouds.proxy.asked) == {AWS_HOST, GCP_HOST}


def test_neither_environment_nor_profile_leads_elsewhere(
    clouds: Clouds, aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = aws.create_key()
    other = tmp_path / "other"
    other.write_text("the token of somebody else")
    profile = tmp_path / "config"
    profile.write_text(
        "[default]\nendpoint_url = https://elsewhere.example\nsts_regional_endpoints = legacy\nregion = us-east-1\n"
    )
    for name, value in {
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/other",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(other),
        "AWS_DEFAULTS_MODE": "auto",
        "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "https://elsewhere.example",
        "AWS_ENDPOINT_URL_STS": "https://sts.amazonaws.com",
        "AWS_ENDPOINT_URL_KMS": "https://kms.us-east-1.amazonaws.com",
        "AWS_CONFIG_FILE": str(profile),
    }.items():
        monkeypatch.setenv(name, value)
    clouds.proxy.asked.clear()
    identity = Identity(tmp_path / "id", two={"roleArn": "arn:aws:iam::123456789012:role/operator"})
    (identity.folder / "two.token").write_text("a.projected.token")
    kek = identity.kek("two", {"awsKms": {"arn": arn}})
    assert kek.decrypt(kek.encrypt(b"secret", CONTEXT), CONTEXT) == b"secret"
    assert set(clouds.proxy.asked) == {STS_HOST, AWS_HOST}


def test_without_any_identity_the_key_is_unavailable(clouds: Clouds, aws: Aws, tmp_path: Path) -> None:
    arn = aws.create_key()
    with pytest.raises(KeyUnavailableError, match="no usable credentials"):
        Identity(tmp_path / "id").kek("two", {"awsKms": {"arn": arn}}).encrypt(b"x", CONTEXT)
    name = clouds.gcp.create_key(tmp_path.name)
    stranger = Identity(tmp_path / "stranger", one=clouds.gcp.create_account("stranger"))
    with pytest.raises(KeyUnavailableError, match=r"HTTP 403 PERMISSION_DENIED.*useToEncrypt"):
        stranger.kek("one", {"gcpKms": {"name": name}}).encrypt(b"x", CONTEXT)


def test_the_home_site_wraps_for_its_peer_and_cannot_open_that(clouds: Clouds, aws: Aws, tmp_path: Path) -> None:
    arn, name = aws.create_key(), clouds.gcp.create_key(tmp_path.name)
    at_home, at_peer = (clouds.gcp.create_account(a) for a in ("home", "peer"))
    clouds.gcp.grant(at_home, name, USE_TO_ENCRYPT, USE_TO_DECRYPT)
    clouds.gcp.grant(at_peer, name, USE_TO_ENCRYPT)
    home = Identity(tmp_path / "home", one=at_home, two=aws.user("kms:Encrypt"))
    peer = Identity(tmp_path / "peer", one=at_peer, two=aws.user("kms:Encrypt", "kms:Decrypt"))
    aws.enforce()
    refs = {"one": {"gcpKms": {"name": name}}, "two": {"awsKms": {"arn": arn}}}
    here, there = zone("one", **refs), zone("two", **refs)
    one_keys, two_keys = MemoryBucket("one", "one-keys"), MemoryBucket("two", "two-keys")
    ring, peers = (KeyRing(i.folder, i.folder, QUICK) for i in (home, peer))
    mint_tenant_key(ring.own(here), one_keys, TENANT, "eu", ring.peer(here), two_keys)
    assert {(c, o) for c, o, _ in clouds.gcp.calls} == {(at_home["client_email"], o) for o in ("encrypt", "decrypt")}
    clouds.gcp.calls.clear()
    key = open_tenant_key(peers.own(there), two_keys, TENANT, "eu")
    # The primary cloud was not asked: the standby opens with its own KMS alone.
    assert clouds.gcp.calls == []
    assert key == open_tenant_key(ring.own(here), one_keys, TENANT, "eu")

    [wrap] = keys.wraps(two_keys, TENANT)
    forced = OwnKey(home.kek("two", refs["two"]))
    with pytest.raises(KeyUnavailableError, match=r"refuses to decrypt .*kms:Decrypt"):
        keys.open_wrap(forced, two_keys, TENANT, "eu", wrap)
    [wrap] = keys.wraps(one_keys, TENANT)
    forced = OwnKey(peer.kek("one", refs["one"]))
    with pytest.raises(KeyUnavailableError, match=r"PERMISSION_DENIED.*useToDecrypt"):
        keys.open_wrap(forced, one_keys, TENANT, "eu", wrap)
    assert isinstance(peers.peer(there), PeerKey)


def test_what_google_is_told_of_a_wrap_is_opaque(clouds: Clouds, gcp_key: tuple[str, Kek]) -> None:
    bucket = MemoryBucket("one", "one-keys")
    mint_tenant_key(OwnKey(gcp_key[1]), bucket, TENANT, "customer-bank")
    [aad] = clouds.gcp.seen_aad
    assert json.loads(aad).keys() == {"format", "keyId", "tenant", "zone"}
    assert b"customer" not in aad


def test_a_new_version_of_a_key_opens_older_wraps(clouds: Clouds, gcp_key: tuple[str, Kek]) -> None:
    name, kek = gcp_key
    old = kek.encrypt(b"secret", CONTEXT)
    clouds.gcp.rotate(name)
    new = kek.encrypt(b"secret", CONTEXT)
    assert kek.decrypt(old, CONTEXT) == kek.decrypt(new, CONTEXT) == b"secret"
    clouds.gcp.keys[name][0].enabled = False
    assert kek.decrypt(new, CONTEXT) == b"secret"
    with pytest.raises(KeyUnavailableError, match="FAILED_PRECONDITION"):
        kek.decrypt(old, CONTEXT)


def test_a_missing_aws_key_is_unavailable(aws: Aws, aws_key: tuple[str, Kek], tmp_path: Path) -> None:
    arn, _ = aws_key
    missing = Identity(tmp_path / "other", two=aws.user("kms:*")).kek("two", {"awsKms": {"arn": f"{arn[:-4]}0000"}})
    with pytest.raises(KeyUnavailableError, match=r"NotFoundException.*enabled"):
        missing.encrypt(b"secret", CONTEXT)


def answers(
    *given: tuple[int, Callable[[dict[str, Any]], dict[str, Any]]],
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Tamper with the next answers, one change each."""
    left = list(given)

    def tamper(status: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not left:
            return status, body
        code, change = left.pop(0)
        return code, change(body)

    return tamper


def broken(_: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": 503, "status": "UNAVAILABLE", "message": "try later"}}


def test_a_passing_fault_is_retried_and_a_lasting_one_said(clouds: Clouds, gcp_key: tuple[str, Kek]) -> None:
    kek = gcp_key[1]
    clouds.gcp.tamper = answers((503, broken), (429, broken))
    wrapped = kek.encrypt(b"secret", CONTEXT)
    assert len(clouds.gcp.calls) == 3
    clouds.gcp.tamper = lambda _, body: (503, broken(body))
    with pytest.raises(KeyUnavailableError, match="Cloud KMS in europe-west3: no outcome \\(HTTP 503 UNAVAILABLE\\)"):
        kek.decrypt(wrapped, CONTEXT)
    assert len(clouds.gcp.calls) == 6


def test_an_answer_that_was_damaged_on_its_way_is_not_believed(clouds: Clouds, gcp_key: tuple[str, Kek]) -> None:
    kek = gcp_key[1]
    wrapped = kek.encrypt(b"secret", CONTEXT)
    other = base64.b64encode(b"other!").decode()
    for spoil in ({"plaintext": other}, {"plaintextCrc32c": "1"}, {"plaintextCrc32c": None}, {"plaintext": "*"}):
        clouds.gcp.tamper = lambda status, body, spoil=spoil: (status, body | spoil)
        with pytest.raises(KeyUnavailableError, match="does not match its checksum"):
            kek.decrypt(wrapped, CONTEXT)
    clouds.gcp.tamper = lambda status, body: (status, body | {"ciphertextCrc32c": "1"})
    with pytest.raises(KeyUnavailableError, match="does not match its checksum"):
        kek.encrypt(b"secret", CONTEXT)
    clouds.gcp.tamper = lambda status, body: (status, body | {"name": "projects/p/other"})
    with pytest.raises(KeyUnavailableError, match="another key"):
        kek.encrypt(b"secret", CONTEXT)


@pytest.mark.parametrize("field", ["verifiedPlaintextCrc32c", "verifiedAdditionalAuthenticatedDataCrc32c"])
def test_a_request_that_was_damaged_on_its_way_is_sent_again(
    clouds: Clouds, gcp_key: tuple[str, Kek], field: str
) -> None:
    kek = gcp_key[1]
    clouds.gcp.tamper = answers((200, lambda body: body | {field: False}))
    assert kek.decrypt(kek.encrypt(b"secret", CONTEXT), CONTEXT) == b"secret"
    assert [operation for _, operation, _ in clouds.gcp.calls] == ["encrypt", "encrypt", "decrypt"]


def test_redirects_are_not_followed(clouds: Clouds, gcp_key: tuple[str, Kek]) -> None:
    kek = gcp_key[1]
    elsewhere = {"location": "https://cloudkms.us-central1.rep.googleapis.com/"}
    clouds.gcp.tamper = lambda *_: (307, elsewhere)
    with pytest.raises(KeyUnavailableError, match="HTTP 307"):
        kek.encrypt(b"secret", CONTEXT)
    assert set(clouds.proxy.asked) == {GCP_HOST}


def test_aws_is_not_followed_elsewhere_either(clouds: Clouds, aws_key: tuple[str, Kek]) -> None:
    _, kek = aws_key
    clouds.proxy.routes[AWS_HOST], before = clouds.proxy.routes[GCP_HOST], clouds.proxy.routes[AWS_HOST]
    clouds.gcp.tamper = lambda *_: (307, {"location": "https://kms.us-east-1.amazonaws.com/"})
    try:
        with pytest.raises(KeyUnavailableError):
            kek.encrypt(b"secret", CONTEXT)
    finally:
        clouds.proxy.routes[AWS_HOST] = before
    assert set(clouds.proxy.asked) == {AWS_HOST}


@pytest.mark.parametrize("host", [AWS_HOST, GCP_HOST])
def test_a_kms_that_never_answers_costs_a_deadline(clouds: Clouds, aws: Aws, tmp_path: Path, host: str) -> None:
    name = clouds.gcp.create_key(tmp_path.name)
    identity = Identity(tmp_path / "id", one=clouds.gcp.create_account("o"), two=aws.user("kms:*"))
    site, ref = (
        ("two", {"awsKms": {"arn": aws.create_key()}}) if host == AWS_HOST else ("one", {"gcpKms": {"name": name}})
    )
    kek = identity.kek(site, ref, Deadlines(connect=0.2, read=0.2, retries=1))
    before = clouds.proxy.routes[host]
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        clouds.proxy.routes[host] = silent.getsockname()[1]
        try:
            with pytest.raises(KeyUnavailableError, match="no answer"):
                kek.encrypt(b"secret", CONTEXT)
        finally:
            clouds.proxy.routes[host] = before
    assert kek.digest


def test_a_region_without_an_endpoint_is_no_reason_to_ask_another(clouds: Clouds, tmp_path: Path) -> None:
    account = clouds.gcp.create_account("operator")
    at = zone("one").own.model_copy(update={"region": "europe-west4"})
    ref = {"gcpKms": {"name": "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"}}
    key = zone("one", one=ref).own.key
    identity = Identity(tmp_path / "id", one=account)
    kek = provider_for(key, at, identity.folder, identity.folder, QUICK)
    with pytest.raises(KeyUnavailableError, match="Cloud KMS in europe-west4: no answer"):
        kek.encrypt(b"secret", CONTEXT)
    assert set(clouds.proxy.asked) == {"cloudkms.europe-west4.rep.googleapis.com"}


def test_renewed_credentials_are_used(clouds: Clouds, gcp_key: tuple[str, Kek], tmp_path: Path) -> None:
    name, kek = gcp_key
    wrapped = kek.encrypt(b"secret", CONTEXT)
    renewed = clouds.gcp.create_account("renewed")
    clouds.gcp.grant(renewed, name, USE_TO_DECRYPT)
    (tmp_path / "id" / "one.json").write_text(json.dumps(renewed))
    at = zone("one", one={"gcpKms": {"name": name}}).own
    again = provider_for(at.key, at, tmp_path / "id", tmp_path / "id", QUICK)
    assert again.decrypt(wrapped, CONTEXT) == b"secret"
    assert clouds.gcp.calls[-1][0] == renewed["client_email"]
