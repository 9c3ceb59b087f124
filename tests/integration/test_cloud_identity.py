"""Who pods are to the clouds: projected tokens, exchanged at the region's endpoints, and nothing else asked."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import botocore.session
import pytest
import requests
from botocore.awsrequest import AWSResponse

from domicile.api.live_credentials import GoogleToken, S3Keys, render
from domicile.backup.kek import KeyUnavailableError, provider_for
from domicile.backup.stores import Deadlines, gcs, live, open_bucket
from domicile.backup.stores.base import DeniedError, UnavailableError
from tests import gcs_standin
from tests.gcs_standin.accounts import ADMIN
from tests.gkms_standin import USE_TO_DECRYPT, USE_TO_ENCRYPT
from tests.google_identity_standin import PROVIDER, Issued
from tests.integration.clouds import AWS_REGION, GCP_HOST, GCP_REGION, Clouds
from tests.integration.stores_fixture import make_site
from tests.unit.key_sites import zone

QUICK = Deadlines(connect=1.0, read=2.0, retries=0)
GCP = make_site("one", "gcp", GCP_REGION, None)
AWS = make_site("two", "aws", AWS_REGION, None, accountId="123456789012")
OPERATOR = "system:serviceaccount:domicile:domicile-operator"
PLATFORM = "platform@project-1.iam.gserviceaccount.com"
ROLE = "arn:aws:iam::123456789012:role/domicile"
STS, IAM = f"sts.{GCP_REGION}.rep.googleapis.com", f"iamcredentials.{GCP_REGION}.rep.googleapis.com"
AWS_STS = f"sts.{AWS_REGION}.amazonaws.com"


def federation(folder: Path, **others: Any) -> dict[str, Any]:
    """What Google's own tool writes, at the regional endpoints."""
    account = {
        "universe_domain": "googleapis.com",
        "type": "external_account",
        "audience": PROVIDER,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"https://{STS}/v1/token",
        "credential_source": {"file": str(folder / "one.token"), "format": {"type": "text"}},
        "service_account_impersonation_url": f"https://{IAM}/v1/projects/-/serviceAccounts/{PLATFORM}:generateAccessToken",
    }
    return {name: value for name, value in (account | others).items() if value is not None}


class Cluster:
    """The folder of credentials that pods see, with projected tokens."""

    def __init__(self, folder: Path, clouds: Clouds) -> None:
        self.folder = folder
        clouds.google.workloads["a.projected.token"] = OPERATOR
        clouds.google.accounts[OPERATOR] = {PLATFORM}
        clouds.google.issued = self._issued
        self.clouds = clouds
        self.gcs: gcs_standin.State | None = None
        for name in ("one", "two"):
            (folder / f"{name}.token").write_text("a.projected.token\n")

    def write(self, site: str, account: dict[str, Any]) -> None:
        (self.folder / f"{site}.json").write_text(json.dumps(account))

    def _issued(self, token: str, made: Issued) -> None:
        self.clouds.gcp.tokens[token] = made.principal
        if self.gcs is not None:
            self.gcs.accounts.admit(token, made.principal, made.end, made.boundary)


@pytest.fixture
def cluster(tmp_path: Path, clouds: Clouds) -> Cluster:
    return Cluster(tmp_path, clouds)


@pytest.fixture
def google_store(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[gcs_standin.State]:
    with gcs_standin.running() as state:
        state.accounts.grants[PLATFORM] = {"site-bucket": ADMIN}
        state.add_bucket("site-bucket", "EUROPE-WEST3")
        monkeypatch.setattr(gcs, "endpoint", lambda _: state.url)
        cluster.gcs = state
        yield state


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What asks the metadata address: both clouds' libraries are told that it is here, and it would answer."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Metadata-Flavor", "Google")
            self.end_headers()
            self.wfile.write(b"stolen")

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{server.server_address[1]}"
        for name, value in {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{here}",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{here}/container",
            "AWS_DEFAULTS_MODE": "auto",
            "GCE_METADATA_HOST": here,
            "GCE_METADATA_ROOT": here,
            "GCE_METADATA_IP": here,
        }.items():
            monkeypatch.setenv(name, value)
        yield asked
        server.shutdown()


def read(site: Any, bucket: str, folder: Path) -> bytes:
    return open_bucket(site, bucket, folder, QUICK).read("x")


def test_a_projected_token_opens_the_store_at_google(
    cluster: Cluster, google_store: gcs_standin.State, metadata: list[str]
) -> None:
    cluster.write("one", federation(cluster.folder))
    bucket = open_bucket(GCP, "site-bucket", cluster.folder, QUICK)
    bucket.create("x", b"data")
    assert bucket.read("x") == b"data"
    assert [i.name for i in bucket.list()] == ["x"]
    assert bucket.facts()
    assert set(cluster.clouds.proxy.asked) == {STS, IAM}
    assert metadata == []
    [exchange, become] = [asked for _, asked in cluster.clouds.google.asked]
    assert exchange["subject_token"] == "a.projected.token"
    assert become == {"scope": ["https://www.googleapis.com/auth/devstorage.full_control"], "lifetime": "3600s"}


def test_a_workload_need_not_become_a_service_account(
    cluster: Cluster, google_store: gcs_standin.State, metadata: list[str]
) -> None:
    google_store.accounts.grants[OPERATOR] = {"site-bucket": ADMIN}
    cluster.write("one", federation(cluster.folder, service_account_impersonation_url=None))
    open_bucket(GCP, "site-bucket", cluster.folder, QUICK).create("x", b"data")
    assert set(cluster.clouds.proxy.asked) == {STS}
    with pytest.raises(DeniedError, match="of no project"):
        open_bucket(GCP, "new-bucket", cluster.folder, QUICK).create_bucket()
    assert metadata == []


def test_a_token_that_the_cluster_renewed_is_the_one_that_is_shown(
    cluster: Cluster, google_store: gcs_standin.State
) -> None:
    cluster.write("one", federation(cluster.folder))
    bucket = open_bucket(GCP, "site-bucket", cluster.folder, QUICK)
    bucket.create("x", b"data")
    google_store.accounts.expire()
    cluster.clouds.google.workloads = {"the.next.token": OPERATOR}
    (cluster.folder / "one.token").write_text("the.next.token")
    bucket._fast._token._keys.token = None  # type: ignore[attr-defined]
    assert bucket.read("x") == b"data"


def test_a_projected_token_opens_a_key_at_google(cluster: Cluster, metadata: list[str], tmp_path: Path) -> None:
    clouds = cluster.clouds
    name = clouds.gcp.create_key(tmp_path.name)
    clouds.gcp.grant({"client_email": PLATFORM}, name, USE_TO_ENCRYPT, USE_TO_DECRYPT)
    cluster.write("one", federation(cluster.folder))
    site = zone("one", one={"gcpKms": {"name": name}}).own
    kek = provider_for(site.key, site, cluster.folder, cluster.folder, QUICK)
    assert kek.decrypt(kek.encrypt(b"secret", {"a": "b"}), {"a": "b"}) == b"secret"
    assert set(clouds.proxy.asked) == {STS, IAM, GCP_HOST}
    assert metadata == []


def test_a_projected_token_opens_a_key_at_aws(cluster: Cluster, metadata: list[str]) -> None:
    arn = boto3.session.Session("a", "b", region_name=AWS_REGION).client("kms").create_key()["KeyMetadata"]["Arn"]
    # The administrator's own client does ask it.
    metadata.clear()
    cluster.clouds.proxy.asked.clear()
    cluster.write("two", {"roleArn": ROLE, "tokenFile": str(cluster.folder / "two.token")})
    site = zone("two", two={"awsKms": {"arn": arn}}).own
    kek = provider_for(site.key, site, cluster.folder, cluster.folder, QUICK)
    assert kek.decrypt(kek.encrypt(b"secret", {"a": "b"}), {"a": "b"}) == b"secret"
    assert set(cluster.clouds.proxy.asked) == {AWS_STS, f"kms.{AWS_REGION}.amazonaws.com"}
    assert metadata == []


def test_without_an_identity_nobody_is_asked_for_one(
    cluster: Cluster, metadata: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(cluster.folder / "two.token"))
    key = cluster.folder / "ambient.json"
    key.write_text(json.dumps(cluster.clouds.gcp.create_account("ambient")))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    for site in (GCP, AWS):
        with pytest.raises(DeniedError, match=rf"{site.name}\.json is missing"):
            open_bucket(site, "site-bucket", cluster.folder, QUICK)
    name = cluster.clouds.gcp.create_key("nobody")
    site = zone("one", one={"gcpKms": {"name": name}}).own
    with pytest.raises(KeyUnavailableError, match=r"one\.json.*missing"):
        provider_for(site.key, site, cluster.folder, cluster.folder, QUICK)
    arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    site = zone("two", two={"awsKms": {"arn": arn}}).own
    with pytest.raises(KeyUnavailableError, match="no usable credentials"):
        provider_for(site.key, site, cluster.folder, cluster.folder, QUICK).encrypt(b"x", {})
    assert cluster.clouds.proxy.asked == []
    assert metadata == []


@pytest.mark.parametrize("site", [GCP, AWS], ids=["gcp", "aws"])
def test_without_a_projected_token_there_is_no_other_way(site: Any, cluster: Cluster, metadata: list[str]) -> None:
    cluster.write("one", federation(cluster.folder))
    cluster.write("two", {"roleArn": ROLE})
    (cluster.folder / f"{site.name}.token").unlink()
    with pytest.raises(DeniedError, match="no usable credentials"):
        read(site, "site-bucket", cluster.folder)
    assert cluster.clouds.proxy.asked == []
    assert metadata == []


@pytest.mark.parametrize(("status", "error"), [(400, DeniedError), (503, UnavailableError), (307, DeniedError)])
def test_what_the_exchange_answers_is_told_without_being_quoted(
    status: int, error: type[Exception], cluster: Cluster, metadata: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    cluster.write("one", federation(cluster.folder))
    cluster.clouds.google.status = status
    with pytest.raises(error) as refused:
        read(GCP, "site-bucket", cluster.folder)
    assert "projected" not in str(refused.value)
    assert "a.projected.token" not in caplog.text
    assert set(cluster.clouds.proxy.asked) == {STS}
    assert metadata == []


def test_a_workload_that_google_does_not_know_is_refused(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    cluster.write("one", federation(cluster.folder))
    cluster.clouds.google.workloads.clear()
    with pytest.raises(DeniedError, match="no usable credentials"):
        read(GCP, "site-bucket", cluster.folder)
    assert "a.projected.token" not in caplog.text


LIVE = "live-data@project-1.iam.gserviceaccount.com"
LIVE_ROLE = "arn:aws:iam::123456789012:role/live"
MINTING_GCP, MINTING_AWS = (
    site.model_copy(update={"live_identity": identity}) for site, identity in ((GCP, LIVE), (AWS, LIVE_ROLE))
)


class Sts:
    """What STS is asked for, as botocore sends it; ``refuse`` may answer in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, str]] = []
        self.refuse: Callable[[dict[str, str]], str | None] = lambda _: None
        original = botocore.session.get_session

        def watched() -> Any:
            session = original()
            session.get_component("event_emitter").register_first("before-send.sts", self._see)
            return session

        monkeypatch.setattr(botocore.session, "get_session", watched)

    def _see(self, request: Any, **_: Any) -> AWSResponse | None:
        form = {name: values[0] for name, values in parse_qs(request.body).items()}
        self.asked.append(form)
        code = self.refuse(form)
        if code is None:
            return None
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>a.projected.token</Message></Error></ErrorResponse>"

        class Body(io.BytesIO):
            def stream(self, **_: Any) -> Iterator[bytes]:
                yield self.read()

        return AWSResponse(request.url, 503 if code == "ServiceUnavailable" else 400, {}, Body(text.encode()))


@pytest.fixture
def sts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Sts:
    cluster.write("two", {"roleArn": ROLE})
    return Sts(monkeypatch)


def test_aws_is_asked_for_a_session_of_one_bucket_and_half_a_day(
    cluster: Cluster, sts: Sts, metadata: list[str]
) -> None:
    made = live.mint(MINTING_AWS, "live-1", cluster.folder, QUICK)
    assert isinstance(made, S3Keys)
    assert made.session_token
    assert made.expires_at is not None
    assert made.expires_at - datetime.now(UTC) > timedelta(hours=11)
    [asked] = sts.asked
    assert asked["Action"] == "AssumeRoleWithWebIdentity", "a role that another role assumes has an hour at most"
    assert (asked["RoleArn"], asked["RoleSessionName"]) == (LIVE_ROLE, "live-1")
    assert asked["WebIdentityToken"] == "a.projected.token"
    assert json.loads(asked["Policy"]) == live.session_policy("live-1", AWS_REGION, "aws", "123456789012")
    assert set(cluster.clouds.proxy.asked) == {AWS_STS}
    assert metadata == []


def test_a_role_that_gives_an_hour_gives_an_hour(cluster: Cluster, sts: Sts) -> None:
    sts.refuse = lambda form: "ValidationError" if form["DurationSeconds"] != "3600" else None
    made = live.mint(MINTING_AWS, "live-1", cluster.folder, QUICK)
    assert made.expires_at is not None
    assert timedelta(minutes=55) < made.expires_at - datetime.now(UTC) < timedelta(minutes=65)


@pytest.mark.parametrize(
    ("code", "error"),
    [("AccessDenied", DeniedError), ("InvalidIdentityToken", DeniedError), ("ServiceUnavailable", UnavailableError)],
)
def test_what_sts_refuses_is_told_without_being_quoted(
    code: str, error: type[Exception], cluster: Cluster, sts: Sts, caplog: pytest.LogCaptureFixture
) -> None:
    sts.refuse = lambda _: code
    with pytest.raises(error) as refused:
        live.mint(MINTING_AWS, "live-1", cluster.folder, QUICK)
    assert "a.projected.token" not in str(refused.value) + caplog.text


@pytest.fixture
def live_buckets(cluster: Cluster, google_store: gcs_standin.State) -> gcs_standin.State:
    """Two live buckets; the live identity may use both."""
    cluster.write("one", federation(cluster.folder))
    cluster.clouds.google.accounts[OPERATOR].add(LIVE)
    google_store.accounts.grants[LIVE] = {"live-1": ADMIN, "live-10": ADMIN}
    for name in ("live-1", "live-10"):
        google_store.add_bucket(name, "EUROPE-WEST3")
    return google_store


def with_token(state: gcs_standin.State, token: str, method: str, path: str, body: bytes = b"") -> int:
    url = f"{state.url}{path}"
    return requests.request(method, url, data=body, headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code


def test_a_token_of_google_opens_the_tenants_bucket_and_no_other(
    cluster: Cluster, live_buckets: gcs_standin.State, metadata: list[str]
) -> None:
    made = live.mint(MINTING_GCP, "live-1", cluster.folder, QUICK)
    assert isinstance(made, GoogleToken)
    own, other = (
        [
            with_token(live_buckets, made.access_token, "POST", f"/upload/storage/v1/b/{b}/o?uploadType=media&name=x"),
            with_token(live_buckets, made.access_token, "GET", f"/storage/v1/b/{b}/o/x?alt=media"),
            with_token(live_buckets, made.access_token, "GET", f"/storage/v1/b/{b}/o"),
            with_token(live_buckets, made.access_token, "DELETE", f"/storage/v1/b/{b}/o/x"),
            with_token(live_buckets, made.access_token, "GET", f"/storage/v1/b/{b}/iam"),
        ]
        for b in ("live-1", "live-10")
    )
    assert own == [200, 200, 200, 204, 403]
    assert set(other) == {403}
    assert set(cluster.clouds.proxy.asked) == {STS, IAM}
    assert metadata == []


def test_what_is_minted_opens_the_bucket_for_whoever_reads_the_file(
    cluster: Cluster, live_buckets: gcs_standin.State, sts: Sts, tmp_path: Path
) -> None:
    pod = tmp_path / "pod"
    pod.mkdir()
    for _ in range(2):
        made = live.mint(MINTING_GCP, "live-1", cluster.folder, QUICK)
        (pod / "one.json").write_bytes(render(made))
        bucket = open_bucket(MINTING_GCP, "live-1", pod, QUICK)
        bucket.write("x", iter([b"data"]), 4)
        assert bucket.read("x") == b"data"
        assert [i.name for i in bucket.list()] == ["x"]
        bucket.delete("x")
        with pytest.raises(DeniedError):
            open_bucket(MINTING_GCP, "live-10", pod, QUICK).read("x")
        live_buckets.accounts.expire()
        with pytest.raises(DeniedError):
            bucket.read("x")
    keys = live.mint(MINTING_AWS, "live-1", cluster.folder, QUICK)
    assert isinstance(keys, S3Keys)
    (pod / "two.json").write_bytes(render(keys))
    s3: Any = open_bucket(MINTING_AWS, "live-1", pod, QUICK)
    shown = s3._s3._request_signer._credentials.get_frozen_credentials()
    assert shown[:3] == (keys.access_key_id, keys.secret_access_key, keys.session_token)


@pytest.mark.parametrize(("most", "hours"), [(43200, 12), (3600, 1)])
def test_google_is_asked_for_half_a_day_and_takes_an_hour(
    most: int, hours: int, cluster: Cluster, live_buckets: gcs_standin.State
) -> None:
    cluster.clouds.google.most_seconds = most
    made = live.mint(MINTING_GCP, "live-1", cluster.folder, QUICK)
    assert made.expires_at is not None
    assert abs(made.expires_at - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(minutes=2)


def test_who_may_not_become_the_live_identity_is_told(cluster: Cluster, live_buckets: gcs_standin.State) -> None:
    cluster.clouds.google.accounts[OPERATOR].remove(LIVE)
    with pytest.raises(DeniedError, match=r"HTTP 400.*serviceAccountTokenCreator") as refused:
        live.mint(MINTING_GCP, "live-1", cluster.folder, QUICK)
    assert "token" not in str(refused.value).lower().replace("tokencreator", "")
    cluster.clouds.google.status = 503
    with pytest.raises(UnavailableError):
        live.mint(MINTING_GCP, "live-1", cluster.folder, QUICK)


@pytest.mark.parametrize(
    "bucket", ["*", "live-*", "live-?", "live-1/x", "a/../live-1", "${aws:username}", "x-s3alias", ""]
)
@pytest.mark.parametrize("site", [MINTING_GCP, MINTING_AWS], ids=["gcp", "aws"])
def test_no_pattern_is_a_bucket(site: Any, bucket: str, cluster: Cluster, sts: Sts) -> None:
    cluster.write("one", federation(cluster.folder))
    with pytest.raises(ValueError, match="plain bucket"):
        live.mint(site, bucket, cluster.folder, QUICK)
    assert cluster.clouds.proxy.asked == sts.asked == []


@pytest.mark.parametrize("site", [MINTING_GCP, MINTING_AWS], ids=["gcp", "aws"])
def test_static_keys_are_no_identity_to_mint_from(site: Any, cluster: Cluster) -> None:
    cluster.write("one", cluster.clouds.gcp.create_account("static"))
    cluster.write("two", {"accessKeyId": "a", "secretAccessKey": "b"})
    with pytest.raises(DeniedError, match="projected token"):
        live.mint(site, "live-1", cluster.folder, QUICK)
    assert cluster.clouds.proxy.asked == []
