"""What the engine relies on at a store's raw API, asked of every test server, and what each of them does instead.

A capability is a probe that says in a word what happened. The clouds' answer (by their public references) is the
expected one; where a server differs, GAPS holds its own word, so that a mended server fails here, too. Programs are
tested against a server only for what it can do: https://cloud.google.com/storage/docs/json_api and the Amazon S3 API
reference say what the clouds do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.integration.store_contract.aws import AWS, AWS_SERVICES
from tests.integration.store_contract.both import BOTH
from tests.integration.store_contract.clients import REGION, S3, Gcs, RefusedError, word
from tests.integration.store_contract.gcs import GCS
from tests.integration.stores_fixture import StandinSite, StoreSites, moto

_NOT_IMPLEMENTED = "unset 501 NotImplemented, put 501 NotImplemented"
# What a server does instead of what the cloud does, in the word of the capability's probe.
GAPS: dict[tuple[str, str], str] = {
    # fake-gcs-server: one location for all buckets; its filesystem backend keeps no versions (500).
    ("fake-gcs", "each bucket has its own location"): "EUROPE-WEST3 region, EUROPE-WEST3 region",
    ("fake-gcs", "a custom dual-region names its regions"): "region ",
    ("fake-gcs", "a deleted name can be created again"): "500",
    ("fake-gcs", "an overwritten version is kept where versioning is on"): "500",
    ("fake-gcs", "a deleted version is kept where versioning is on"): "500",
    ("fake-gcs", "a bucket says what protects it"): "500",
    # Preconditions count for uploads only.
    ("fake-gcs", "a pinned read refuses another version"): "reads other",
    ("fake-gcs", "a conditional delete spares another version"): "deletes",
    ("fake-gcs", "a bucket is changed if its metageneration matches"): "changed",
    ("fake-gcs", "metadata are changed if the metageneration matches"): "200",
    ("fake-gcs", "an unchanged object is not sent again"): "200",
    ("fake-gcs", "a wrong checksum is refused"): "200",
    ("fake-gcs", "an interrupted upload says how far it came"): "200 bytes=0-262144, broken",
    ("fake-gcs", "a partial answer holds only what was asked for"): "more",
    ("fake-gcs", "an unknown field is refused"): "200",
    ("fake-gcs", "access logs show where they go"): "forgotten",
    ("fake-gcs", "notifications show where they go"): "201",
    ("fake-gcs", "an object names the KMS key it is sealed with"): "unsaid",
    ("fake-gcs", "a KMS key of another place is refused"): "200",
    ("fake-gcs", "soft delete is on unless it is turned off"): "None, None",
    ("fake-gcs", "a soft-deleted object is listed and restored"): "not listed",
    ("fake-gcs", "retention forbids to delete and to overwrite"): "200, 200",
    ("fake-gcs", "a hold forbids to delete until it is released"): "200, 404",
    # It keeps objects as files of a directory tree.
    ("fake-gcs", "name a//b"): "another name",
    ("fake-gcs", "name dir/"): "another name",
    ("fake-gcs", "name /lead"): "another name",
    ("fake-gcs", "name ./here"): "another name",
    ("fake-gcs", "name up/../down"): "another name",
    ("fake-gcs", "name a name below a name"): "refused",
    ("fake-gcs", "name 1,024 bytes"): "refused",
    # versitygw: so does it; in a versioned bucket its If-None-Match takes a delete marker for an object.
    ("versitygw", "name a//b"): "another name",
    ("versitygw", "name dir/"): "refused",
    ("versitygw", "name /lead"): "another name",
    ("versitygw", "name ./here"): "another name",
    ("versitygw", "name up/../down"): "another name",
    ("versitygw", "name a name below a name"): "refused",
    ("versitygw", "name 1,024 bytes"): "refused",
    ("versitygw", "a deleted name can be created again"): "refused",
    ("versitygw", "a list encodes names where asked, and says so"): "a+b, unsaid",
    ("versitygw", "a PUT says how it was encrypted"): "None, None",
    ("versitygw", "bucket_encryption is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "public_access_block is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_replication is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_logging is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_notification_configuration is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_inventory_configuration is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_analytics_configuration is shown"): _NOT_IMPLEMENTED,
    ("versitygw", "bucket_lifecycle_configuration is shown"): _NOT_IMPLEMENTED,
    # moto: the defaults of AWS before 2023 (no encryption, no public access block), and nothing is checked.
    ("moto", "a PUT says how it was encrypted"): "None, aws:kms arn:aws:kms:eu-central-1:1:key/k",
    ("moto", "bucket_encryption is shown"): "unset 404 ServerSideEncryptionConfigurationNotFoundError, set shown",
    ("moto", "public_access_block is shown"): "unset 404 NoSuchPublicAccessBlockConfiguration, set shown",
    ("moto", "bucket_analytics_configuration is shown"): "unset answered, put 400 IllegalLocationConstraintException",
    ("moto", "a wrong checksum is refused"): "200",
    ("moto", "a read brings the stored CRC32C"): "None",
    ("moto", "another owner's bucket is refused"): "answered, answered",
    ("moto", "a KMS key names its region and whether it is multi-region"): "eu-central-1, None",
    ("moto", "a disabled KMS key opens nothing"): "answered",
}

CAPABILITIES = {
    "standin": BOTH | GCS,
    "fake-gcs": BOTH | GCS,
    "versitygw": BOTH | AWS,
    "moto": BOTH | AWS | AWS_SERVICES,
}


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto() as server:
        yield server.url


def _aws(service: str, url: str) -> Any:
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test-secret",
        config=Config(
            retries={"total_max_attempts": 1},
            read_timeout=20,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


def _client(request: pytest.FixtureRequest, server: str, name: str) -> Any:
    if server == "standin":
        standin: StandinSite = request.getfixturevalue("standin_site")
        return Gcs(standin.state.url)
    if server == "moto":
        url = request.getfixturevalue("moto_url")
        if name in AWS_SERVICES:
            return lambda service: _aws(service, url)
        return S3(_aws("s3", url))
    sites: StoreSites = request.getfixturevalue("store_sites")
    if server == "fake-gcs":
        return Gcs(sites.gcp_server.url)
    return S3(_aws("s3", sites.aws_server.url))


@pytest.mark.parametrize(
    ("server", "name"), [(server, name) for server in CAPABILITIES for name in CAPABILITIES[server]]
)
def test_a_server_does_what_is_known_of_it(request: pytest.FixtureRequest, server: str, name: str) -> None:
    expected, probe = CAPABILITIES[server][name]
    try:
        happened = probe(_client(request, server, name))
    except ClientError as error:
        happened = word(error)
    except RefusedError as error:
        happened = f"{error.status}"
    assert happened == GAPS.get((server, name), expected)


def test_gaps_are_of_known_servers_and_differ_from_what_is_expected() -> None:
    for (server, name), instead in GAPS.items():
        assert instead != CAPABILITIES[server][name][0], (server, name)
