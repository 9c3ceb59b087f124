"""Endpoints, names and credentials of stores: all that needs no server."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from domicile.backup.stores import Deadlines, endpoint, fast, open_bucket, s3_client
from domicile.backup.stores.base import AlreadyExistsError, DeniedError, NotFoundError, UnavailableError, create_once
from domicile.backup.stores.parts import parts
from domicile.backup.stores.wire import Answer
from tests.integration.stores_fixture import make_site
from tests.memory_bucket import MemoryBucket

AWS = make_site("aws-frankfurt", "aws", "eu-central-1", None)
GCP = make_site("gcp-frankfurt", "gcp", "europe-west3", None)
NEAR = make_site("near", "aws", "eu-central-1", "http://127.0.0.1:9")
KEYS = {"accessKeyId": "id", "secretAccessKey": "very-secret"}


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    for site in (AWS, NEAR):
        (tmp_path / f"{site.name}.json").write_text(json.dumps(KEYS))
    return tmp_path


def test_clouds_are_spoken_to_at_their_regional_endpoints_only() -> None:
    assert endpoint(AWS) == "https://s3.eu-central-1.amazonaws.com"
    assert endpoint(GCP) == "https://storage.europe-west3.rep.googleapis.com"
    assert endpoint(make_site("n", "aws", "us-east-1", None)) == "https://s3.us-east-1.amazonaws.com"
    assert endpoint(make_site("n", "aws", "eusc-de-east-1", None)) == "https://s3.eusc-de-east-1.amazonaws.eu"
    assert endpoint(NEAR) == "http://127.0.0.1:9"
    with pytest.raises(ValueError, match="profile compatible"):
        endpoint(make_site("n", "onprem", "dc-berlin-1", None))


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"])
def test_no_environment_leads_a_client_away(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "https://elsewhere.example" if "URL" in variable else "us-east-1")
    client = s3_client.client(AWS, KEYS, Deadlines())
    home = "s3.eu-central-1.amazonaws.com"
    for bucket, host in (("plain-bucket", f"plain-bucket.{home}"), ("dotted.bucket", home)):
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
        assert urlsplit(url).netloc == host


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:s3:us-east-1:123456789012:accesspoint/x",
        "arn:aws:s3::123456789012:accesspoint/x.mrap",
        "x.mrap",
        "metadata-abc-s3alias",
        "reader--ol-s3",
        "bucket--euc1-az1--x-s3",
        "a/b",
        "../b",
        "UPPER",
        "",
        "b?versioning",
    ],
)
def test_only_plain_bucket_names_are_opened(name: str, credentials: Path) -> None:
    with pytest.raises(ValueError, match="plain bucket"):
        open_bucket(AWS, name, credentials)


def test_clients_are_shared_and_renewed_with_their_credentials(credentials: Path) -> None:
    def client(deadlines: Deadlines | None = None) -> object:
        return open_bucket(NEAR, "bucket", credentials, deadlines)._s3  # type: ignore[attr-defined]

    first = client()
    assert client() is first
    assert client(Deadlines(retries=0)) is not first
    (credentials / "near.json").write_text(json.dumps(KEYS | {"accessKeyId": "new"}))
    assert client() is not first


@pytest.mark.parametrize("content", ["", "{}", "[1]", '"x"', '{"secretAccessKey": "very-secret"', '{"accessKeyId": 1}'])
@pytest.mark.parametrize("site", [NEAR, GCP])
def test_malformed_credentials_are_refused_without_being_quoted(site: object, content: str, tmp_path: Path) -> None:
    (tmp_path / f"{site.name}.json").write_text(content)  # type: ignore[attr-defined]
    with pytest.raises(DeniedError, match="not a credentials file") as refused:
        open_bucket(site, "bucket", tmp_path)  # type: ignore[arg-type]
    assert "very-secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_authorities_that_are_none_are_named(credentials: Path) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for site in (NEAR, make_site("gcp-frankfurt", "gcp", "europe-west3", "https://gcs.example.com")):
        spoiled = site.model_copy(update={"store_ca_bundle": broken})
        with pytest.raises(DeniedError, match="its storeCaBundle holds something that is no certificate"):
            open_bucket(spoiled, "b-one", credentials)


def test_a_compatible_s3_store_needs_a_credentials_file(tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match=r"near\.json is missing"):
        open_bucket(NEAR, "bucket", tmp_path)


def test_deadlines_retry_only_what_has_no_outcome() -> None:
    calls = itertools.count(1)

    def fail(error: Exception, until: int) -> int:
        number = next(calls)
        if number < until:
            raise error
        return number

    assert Deadlines(retries=2).run(lambda: fail(UnavailableError("x"), 3)) == 3
    calls = itertools.count(1)
    with pytest.raises(UnavailableError):
        Deadlines(retries=2).run(lambda: fail(UnavailableError("x"), 9))
    assert next(calls) == 4
    calls = itertools.count(1)
    with pytest.raises(NotFoundError):
        Deadlines(retries=2).run(lambda: fail(NotFoundError("x"), 9))
    assert next(calls) == 2


@given(st.lists(st.binary(max_size=20), max_size=12), st.integers(1, 24))
def test_parts_join_to_the_stream(chunks: list[bytes], part: int) -> None:
    whole = b"".join(chunks)
    pieces = list(parts(iter(chunks), len(whole), part))
    assert b"".join(pieces) == whole
    assert all(len(piece) == part for piece in pieces[:-1])
    assert len(pieces[-1]) <= part
    assert len(pieces) == 1 or pieces[-1]


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12), st.integers(1, 24), st.integers(-9, 9).filter(bool))
def test_a_stream_of_another_size_never_yields_its_last_part(chunks: list[bytes], part: int, off: int) -> None:
    size = max(0, len(b"".join(chunks)) + off)
    if size == len(b"".join(chunks)):
        return
    got: list[bytes] = []
    with pytest.raises(ValueError, match="announced"):
        got.extend(parts(iter(chunks), size, part))
    assert len(b"".join(got)) < max(size, 1)


@given(st.sampled_from(["request", "answer"]), st.booleans())
def test_create_once_tells_its_own_success_from_anothers(lost: str, taken: bool) -> None:
    bucket = MemoryBucket()
    if taken:
        bucket.create("slot", b"theirs")
    bucket.fail("create", lost=lost)
    if lost == "request" and not taken:
        with pytest.raises(UnavailableError):
            create_once(bucket, "slot", b"ours")
        assert create_once(bucket, "slot", b"ours")
    else:
        assert create_once(bucket, "slot", b"ours") is not taken


def test_the_memory_bucket_exists_only_once_created() -> None:
    bucket = MemoryBucket(exists=False)
    with pytest.raises(NotFoundError):
        list(bucket.list())
    bucket.create_bucket()
    with pytest.raises(AlreadyExistsError):
        bucket.create_bucket()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("size", [0, 1, fast._SIGNED_BYTES, fast._SIGNED_BYTES + 1])
def test_a_body_is_signed_whole_where_nothing_else_protects_it(
    scheme: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, sent = Credentials("id", "very-secret"), dict[str, str]()
    objects = fast.S3Objects("bucket b", f"{scheme}://127.0.0.1:9/b", "eu-central-1", keys, None, Deadlines())

    def ask(_method: str, _target: str, headers: dict[str, str], *_: object, **__: object) -> Answer:
        sent.update(headers)
        return Answer(200, {}, b"")

    monkeypatch.setattr(objects._wire, "ask", ask)
    body = bytes(size)
    assert objects.create("x", body) is not None
    whole = size == 0 or (scheme == "http" and size <= fast._SIGNED_BYTES)
    assert sent["x-amz-content-sha256"] == (hashlib.sha256(body).hexdigest() if whole else "UNSIGNED-PAYLOAD")
    assert sent["x-amz-checksum-crc32c"] == fast.crc32c(body)
    assert "x-amz-checksum-crc32c" in sent["Authorization"]
