"""What stores do when a server is dead, silent, damaged, elsewhere or loses answers; and residency at real servers."""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import google_crc32c
import pytest

from domicile.api.zone import ResidencyZoneSpec, Site, Subject
from domicile.backup.residency import Purpose, ResidencyError, Verdict, judge, require
from domicile.backup.stores import Deadlines, accounts, gcs, open_bucket
from domicile.backup.stores.base import (
    Bucket,
    ChangedError,
    DeniedError,
    StoreError,
    UnavailableError,
    create_once,
)
from tests.gcs_standin import State
from tests.integration.faulty import Answer, link, scripted
from tests.integration.stores_fixture import StoreSites, free_port, make_site, versitygw

SHORT = Deadlines(connect=0.3, read=0.3, retries=0)
ANY: Answer = (200, {}, b"{}")
TODAY = date(2026, 3, 10)
KINDS = [("aws", "eu-central-1"), ("gcp", "europe-west3")]
OPERATIONS: dict[str, Callable[[Bucket], object]] = {
    "list": lambda bucket: list(bucket.list()),
    "read": lambda bucket: bucket.read("secret-name"),
    "create": lambda bucket: bucket.create("secret-name", b"x"),
    "write": lambda bucket: bucket.write("secret-name", iter([b"x"]), 1),
    "delete": lambda bucket: bucket.delete("secret-name"),
    "facts": lambda bucket: bucket.facts(),
    "create_bucket": lambda bucket: bucket.create_bucket(),
}


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    content = json.dumps({"accessKeyId": "test", "secretAccessKey": "test-secret"})
    (tmp_path / "aws.json").write_text(content)
    return tmp_path


def at(kind: tuple[str, str], url: str, credentials: Path, deadlines: Deadlines = SHORT) -> Bucket:
    return open_bucket(make_site(kind[0], *kind, url), "bucket", credentials, deadlines)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_dead_server_is_unavailable_at_once(kind: tuple[str, str], operation: str, credentials: Path) -> None:
    bucket = at(kind, f"http://127.0.0.1:{free_port()}", credentials)
    with pytest.raises(UnavailableError) as failed:
        OPERATIONS[operation](bucket)
    assert "secret-name" not in str(failed.value)
    assert failed.value.__suppress_context__


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_server_is_unavailable_within_the_deadline(kind: tuple[str, str], credentials: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        bucket = at(kind, f"http://127.0.0.1:{silent.getsockname()[1]}", credentials)
        for operation in ("list", "read", "create"):
            begun = time.monotonic()
            with pytest.raises(UnavailableError):
                OPERATIONS[operation](bucket)
            assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "error"),
    [(500, UnavailableError), (503, UnavailableError), (429, UnavailableError), (403, DeniedError), (401, DeniedError)],
)
def test_answers_map_to_store_errors(
    kind: tuple[str, str], status: int, error: type[StoreError], credentials: Path
) -> None:
    retrying = Deadlines(connect=0.3, read=0.3, retries=2)
    with scripted(lambda *_: (status, {}, b"")) as server:
        with pytest.raises(error):
            at(kind, server.url, credentials, retrying).create("x", b"1")
        assert len(server.requests) == (3 if error is UnavailableError else 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", ["list", "read", "create", "write", "facts"])
@pytest.mark.parametrize("status", [301, 307])
def test_no_redirect_is_followed(kind: tuple[str, str], operation: str, status: int, credentials: Path) -> None:
    with scripted(lambda *_: (200, {}, b"{}")) as elsewhere:
        headers = {"Location": f"{elsewhere.url}/bucket", "x-amz-bucket-region": "us-east-1"}
        with scripted(lambda *_: (status, headers, b"")) as server:
            bucket = at(kind, server.url, credentials)
            if (kind[0], operation) == ("aws", "facts"):
                # S3 names the region of a bucket that lies elsewhere: that is the fact asked for.
                assert bucket.facts().location == "us-east-1"
            else:
                with pytest.raises(DeniedError):
                    OPERATIONS[operation](bucket)
            assert len(server.requests) in {1, 2}
        assert not elsewhere.requests


@pytest.mark.parametrize("home", [True, False])
def test_an_upload_goes_on_at_its_store_or_not_at_all(home: bool, credentials: Path) -> None:
    """Cloud Storage names the URL of a resumable upload; the token and the data would go wherever that leads."""
    with scripted(lambda *_: (200, {}, b"{}")) as elsewhere:
        url = elsewhere.url

        def answer(method: str, _: str) -> Answer:
            return (200, {"Location": f"{server.url if home else url}/upload?id=1"}, b"") if method == "POST" else ANY

        with scripted(answer) as server:
            bucket = at(("gcp", "europe-west3"), server.url, credentials)
            with pytest.raises(StoreError if home else DeniedError):
                bucket.write("large", iter([bytes(8 << 20), b"x"]), (8 << 20) + 1)
            assert ("PUT" in {method for method, _ in server.requests}) is home
        assert not elsewhere.requests


def test_an_upload_of_which_the_store_kept_less_than_was_sent_has_no_outcome(credentials: Path) -> None:
    def answer(method: str, _: str) -> Answer:
        place = {"Location": f"{server.url}/upload?id=1"}
        return (200, place, b"") if method == "POST" else (308, {"Range": "bytes=0-262143"}, b"")

    with scripted(answer) as server:
        bucket = at(("gcp", "europe-west3"), server.url, credentials)
        with pytest.raises(UnavailableError, match="in part only"):
            bucket.write("large", iter([bytes(8 << 20), b"x"]), (8 << 20) + 1)
        with pytest.raises(ValueError, match="announced"):
            bucket.write("large", iter([bytes(8 << 20)]), (8 << 20) + 1)


def test_a_token_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        key = State(url=url).accounts.add("site@standin.iam.gserviceaccount.com", {})
        (tmp_path / "gcp.json").write_text(json.dumps(key))
        monkeypatch.setattr(gcs, "endpoint", lambda _: url)
        monkeypatch.setattr(accounts, "KEY_TOKEN_URLS", {key["token_uri"]})
        bucket = open_bucket(make_site("gcp", "gcp", "europe-west3", None), "bucket", tmp_path, SHORT)
        for operation in ("list", "read", "create", "write"):
            begun = time.monotonic()
            with pytest.raises(UnavailableError):
                OPERATIONS[operation](bucket)
            assert time.monotonic() - begun < 3


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_not_returned(kind: tuple[str, str], credentials: Path) -> None:
    checksum = base64.b64encode(struct.pack(">I", google_crc32c.value(b"as stored"))).decode()
    headers = {
        "x-amz-checksum-crc32c": checksum,
        "x-amz-checksum-type": "FULL_OBJECT",
        "x-goog-hash": f"crc32c={checksum}",
    }
    body = b"as stored"

    def answer(*_: str) -> Answer:
        return 200, headers, body

    with scripted(answer) as server:
        bucket = at(kind, server.url, credentials)
        assert bucket.read("x") == body
        body = b"as st0red"
        with pytest.raises(StoreError, match="CRC32C") as failed:
            bucket.read("x")
    assert not isinstance(failed.value, UnavailableError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_answer_is_unavailable(kind: tuple[str, str], credentials: Path) -> None:
    headers = {"Content-Length": "100", "Connection": "close"}
    with scripted(lambda *_: (200, headers, b"too short")) as server, pytest.raises(UnavailableError):
        at(kind, server.url, credentials).read("x")


def test_a_server_that_ignores_preconditions_of_reads_is_found_out(credentials: Path) -> None:
    with scripted(lambda *_: (200, {"X-Goog-Generation": "2"}, b"newer")) as server, pytest.raises(ChangedError):
        at(KINDS[1], server.url, credentials).read("x", version="1")


def test_a_list_out_of_order_is_refused(credentials: Path) -> None:
    entries = "".join(f"<Contents><Key>{key}</Key><ETag>e</ETag><Size>1</Size></Contents>" for key in ("b", "a"))
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
    with scripted(lambda *_: (200, {}, page)) as server, pytest.raises(StoreError, match="out of order"):
        list(at(KINDS[0], server.url, credentials).list())


@pytest.mark.parametrize("kind", ["aws", "gcp"])
@pytest.mark.parametrize("retries", [0, 2])
def test_a_write_whose_answer_is_lost_is_recognised_as_our_own(
    kind: str, retries: int, store_sites: StoreSites
) -> None:
    real: Site = getattr(store_sites, kind)
    name = f"t-{uuid.uuid4().hex}"
    open_bucket(real, name, store_sites.credentials).create_bucket()
    with link(real.stores.endpoint or "") as relay:
        site = make_site(real.name, real.cloud, real.region, relay.url)
        bucket = open_bucket(site, name, store_sites.credentials, Deadlines(read=2, retries=retries))
        for number in range(3):
            relay.lose = 1
            assert create_once(bucket, f"slot/{number}", b"ours")
            assert relay.lost == number + 1
            assert open_bucket(real, name, store_sites.credentials).read(f"slot/{number}") == b"ours"
        open_bucket(real, name, store_sites.credentials).create("taken", b"theirs")
        relay.lose = 1
        assert not create_once(bucket, "taken", b"ours")
        relay.lose = 1
        # A connection that was kept and breaks is replaced at once, also where nothing is retried.
        assert bucket.read("taken") == b"theirs"


def test_wrong_credentials_are_denied(store_sites: StoreSites, tmp_path: Path) -> None:
    content = {"accessKeyId": "test", "secretAccessKey": "another"}
    (tmp_path / "aws-frankfurt.json").write_text(json.dumps(content))
    for operation in ("list", "create", "facts"):
        with pytest.raises(DeniedError):
            OPERATIONS[operation](open_bucket(store_sites.aws, "bucket", tmp_path))


def zone(*sites: Site, attested: tuple[Subject, ...] = ()) -> ResidencyZoneSpec:
    return ResidencyZoneSpec.model_validate(
        {
            "jurisdiction": "EU",
            "allowedRegions": [
                {"cloud": "aws", "regions": ["eu-central-1"]},
                {"cloud": "gcp", "regions": ["europe-west3"]},
            ],
            "sites": [site.to_wire() for site in sites],
            "attestations": [
                {
                    "site": site.name,
                    "subject": subject,
                    "statement": "a test server on loopback",
                    "attestedOn": "2026-01-01",
                    "expiresOn": "2027-01-01",
                }
                for site in sites
                for subject in attested
            ],
        }
    )


def test_test_servers_verify_what_they_can_and_need_attestations_for_the_rest(store_sites: StoreSites) -> None:
    aws, gcp = store_sites.aws, store_sites.gcp
    of = zone(aws, gcp, attested=tuple(set(Subject) - {Subject.LOCATION}))
    checked: list[tuple[Site, Bucket, Purpose]] = []
    expected = {
        "aws": {Subject.LOCATION: "Verified", Subject.VERSIONING: "Verified", Subject.RETENTION: "Verified"},
        "gcp": {Subject.LOCATION: "Verified", Subject.VERSIONING: "Attested", Subject.RETENTION: "Attested"},
    }
    unanswered = (Subject.ENCRYPTION, Subject.PUBLIC_ACCESS, Subject.TRANSPORT, Subject.OUTFLOWS)
    for site in (aws, gcp):
        bucket = open_bucket(site, f"t-{uuid.uuid4().hex}", store_sites.credentials)
        bucket.create_bucket()
        findings = judge(of, site, bucket.name, bucket.facts(), Purpose.LIVE, TODAY)
        attested = dict.fromkeys(unanswered, "Attested")
        assert {finding.subject: finding.verdict for finding in findings} == expected[site.cloud] | attested
        checked.append((site, bucket, Purpose.LIVE))
    assert require(of, TODAY, *checked) == require(of, TODAY, *checked)
    with pytest.raises(ResidencyError) as refused:
        require(zone(aws, gcp), TODAY, *checked)
    assert {finding.verdict for finding in refused.value.findings} == {Verdict.UNKNOWN}


def test_a_store_of_another_region_is_refused_before_a_byte_moves(credentials: Path) -> None:
    with versitygw("us-east-1") as server:
        real = make_site("aws", "aws", "us-east-1", server.url)
        open_bucket(real, "bucket", credentials).create_bucket()
        # The zone believes that this endpoint is Frankfurt; the store says what it is.
        claimed = make_site("aws", "aws", "eu-central-1", server.url)
        bucket = open_bucket(claimed, "bucket", credentials)
        with pytest.raises(ResidencyError, match="us-east-1, outside the zone"):
            require(zone(claimed, attested=tuple(Subject)), TODAY, (claimed, bucket, Purpose.REPLICA))
        assert not list((server.root / "data" / "bucket").iterdir())
