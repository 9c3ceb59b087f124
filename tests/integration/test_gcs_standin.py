"""The stand-in for Cloud Storage where the contract of all servers does not reach: strictness, accounts, faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import AlreadyExistsError as ObstoreExistsError
from obstore.exceptions import PermissionDeniedError, PreconditionError
from obstore.store import GCSStore

from domicile.backup.stores import Deadlines, open_bucket
from domicile.backup.stores.base import Bucket, DeniedError, UnavailableError, create_once, require_create_once
from tests.gcs_standin import Fault, State, running
from tests.gcs_standin.accounts import ADMIN, CREATE, DESCRIBE, READ
from tests.gcs_standin.versions import Listing, Mark, Version, Versions
from tests.integration.stores_fixture import StandinSite, make_site

PEER = "peer@standin.iam.gserviceaccount.com"


@pytest.fixture
def state() -> Iterator[State]:
    with running() as made:
        made.add_bucket("bucket", softDeletePolicy={"retentionDurationSeconds": "0"})
        yield made


def put(state: State, name: str, data: bytes = b"data", bucket: str = "bucket", **query: Any) -> dict[str, Any]:
    answer = requests.post(
        f"{state.url}/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "media", "name": name, **query},
        data=data,
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def listed(state: State, bucket: str = "bucket", **query: Any) -> dict[str, Any]:
    answer = requests.get(f"{state.url}/storage/v1/b/{bucket}/o", params=query, timeout=10)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def as_site(state: State, folder: Path, key: dict[str, str] | None, deadlines: Deadlines | None = None) -> Bucket:
    if key is not None:
        (folder / "gcp-frankfurt.json").write_text(json.dumps(key))
    return open_bucket(make_site("gcp-frankfurt", "gcp", "europe-west3", state.url), "bucket", folder, deadlines)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/storage/v1/b/bucket?nonsense=1", 400),
        ("GET", "/storage/v1/b/bucket/o?prefix=a&prefix=b", 400),
        ("GET", "/storage/v1/b/bucket/o?maxResults=many", 400),
        ("GET", "/storage/v1/b/bucket/o?versions=perhaps", 400),
        ("GET", "/storage/v1/b/bucket/o?pageToken=nonsense", 400),
        ("GET", "/storage/v1/b/bucket/o?versions=true&softDeleted=true", 400),
        ("GET", "/storage/v1/b/bucket/o?fields=items(name", 400),
        ("GET", "/storage/v1/b/bucket/o?fields=items(name)crc32c", 400),
        ("GET", "/storage/v1/b/bucket/o?matchGlob=*", 501),
        ("GET", "/storage/v1/b/bucket?projection=full", 501),
        ("GET", "/storage/v1/b/bucket/acl", 501),
        ("POST", "/storage/v1/b/bucket/o/x/compose", 501),
        ("POST", "/batch/storage/v1", 501),
        ("GET", "/storage/v1/nonsense", 404),
        ("PUT", "/storage/v1/b/bucket", 405),
        ("GET", "/storage/v1/b/bucket/o/%FF", 400),
        ("GET", "/bucket?list-type=2", 501),
        ("GET", "/bucket/x?nonsense=1", 400),
        ("PUT", "/bucket/x?uploadId=1", 501),
        ("POST", "/storage/v1/b", 400),
    ],
)
def test_what_it_does_not_know_it_refuses(state: State, method: str, target: str, status: int) -> None:
    answer = requests.request(method, f"{state.url}{target}", timeout=10)
    assert answer.status_code == status
    if target.startswith("/bucket"):
        assert "<Error><Code>" in answer.text
    else:
        error = answer.json()["error"]
        assert error["code"] == status
        assert error["errors"][0]["reason"]
        assert error["message"]


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        ({"nonsense": 1}, 400),
        ({"versioning": {"enabled": "yes"}}, 400),
        ({"versioning": {"on": True}}, 400),
        ({"cors": []}, 501),
        ({"location": "EUROPE-WEST"}, 400),
        ({"location": "EUROPE-WEST3", "customPlacementConfig": {"dataLocations": ["A", "B"]}}, 400),
        ({"softDeletePolicy": {"retentionDurationSeconds": "60"}}, 400),
        ({"iamConfiguration": {"publicAccessPrevention": "maybe"}}, 400),
        ({"hierarchicalNamespace": {"enabled": True}}, 400),
        ({"retentionPolicy": {"retentionPeriod": "0"}}, 400),
        ({"encryption": {"defaultKmsKeyName": "k"}}, 400),
        ({"lifecycle": {"rule": [{"action": {"type": "Delete"}}]}}, 400),
        ({"name": "Bucket"}, 400),
        ({"name": "bucket"}, 409),
    ],
)
def test_a_bucket_is_refused_as_the_cloud_refuses_it(state: State, resource: dict[str, Any], status: int) -> None:
    body = {"name": "another"} | resource
    answer = requests.post(f"{state.url}/storage/v1/b", params={"project": "p"}, json=body, timeout=10)
    assert answer.status_code == status, answer.text


def test_headers_of_google_are_known_or_refused(state: State) -> None:
    answer = requests.get(f"{state.url}/bucket/x", headers={"x-goog-user-project": "p"}, timeout=10)
    assert answer.status_code == 501


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb", ".", "..", "x" * 1025, ".well-known/acme-challenge/x"])
def test_names_that_no_object_can_have(state: State, name: str) -> None:
    query = {"uploadType": "media", "name": name}
    answer = requests.post(f"{state.url}/upload/storage/v1/b/bucket/o", params=query, data=b"", timeout=10)
    assert answer.status_code == 400


def test_a_full_bucket_is_not_deleted(state: State) -> None:
    put(state, "x")
    assert requests.delete(f"{state.url}/storage/v1/b/bucket", timeout=10).status_code == 409
    requests.delete(f"{state.url}/storage/v1/b/bucket/o/x", timeout=10)
    assert requests.delete(f"{state.url}/storage/v1/b/bucket", timeout=10).status_code == 204
    assert "bucket" not in state.buckets


def test_who_may_create_and_not_delete_cannot_overwrite(state: State, tmp_path: Path) -> None:
    key = state.accounts.add(PEER, {"bucket": READ | CREATE | DESCRIBE})
    bucket = as_site(state, tmp_path, key)
    bucket.create("x", b"first")
    assert create_once(bucket, "x", b"first")
    assert not create_once(bucket, "x", b"other")
    for call in (lambda: bucket.write("x", iter([b"other"]), 5), lambda: bucket.delete("x")):
        with pytest.raises(DeniedError, match="403"):
            call()
    assert bucket.read("x") == b"first"


def test_a_refused_overwrite_may_come_before_its_precondition(state: State, tmp_path: Path) -> None:
    state.permission_before_precondition = True
    bucket = as_site(state, tmp_path, state.accounts.add(PEER, {"bucket": READ | CREATE}))
    bucket.create("x", b"first")
    with pytest.raises(DeniedError):
        bucket.create("x", b"other")
    assert create_once(bucket, "x", b"first")
    assert not create_once(bucket, "x", b"other")
    require_create_once(bucket, "x", b"first")


def test_an_object_that_may_not_be_listed_is_not_shown_as_missing(state: State, tmp_path: Path) -> None:
    bucket = as_site(state, tmp_path, state.accounts.add(PEER, {"bucket": ["storage.objects.get"]}))
    with pytest.raises(DeniedError, match="403"):
        bucket.read("x")


def test_credentials_count_once_there_are_accounts(state: State, tmp_path: Path) -> None:
    key = state.accounts.add(PEER, {"*": ADMIN})
    anonymous = requests.get(f"{state.url}/storage/v1/b/bucket", timeout=10)
    assert (anonymous.status_code, anonymous.json()["error"]["errors"][0]["reason"]) == (401, "required")
    made_up = requests.get(f"{state.url}/storage/v1/b/bucket", headers={"Authorization": "Bearer x"}, timeout=10)
    assert made_up.status_code == 401
    bucket = as_site(state, tmp_path, key)
    bucket.create("x", b"1")
    # The client gets a new token where its old one ended early.
    state.accounts.expire()
    assert bucket.read("x") == b"1"
    state.accounts.grants.clear()
    state.accounts.add("another@standin.iam.gserviceaccount.com", {"*": ADMIN})
    with pytest.raises(DeniedError):
        bucket.read("x")


def test_a_foreign_key_gets_no_token(state: State, tmp_path: Path) -> None:
    state.accounts.add(PEER, {"*": ADMIN})
    foreign = State(url=state.url).accounts.add(PEER, {})
    with pytest.raises(DeniedError, match="no usable credentials"):
        as_site(state, tmp_path, foreign).read("x")


def test_a_permission_can_be_taken_from_everybody(state: State, tmp_path: Path) -> None:
    bucket = as_site(state, tmp_path, None)
    assert bucket.facts().location == "europe-west3"
    state.accounts.deny("bucket", "storage.buckets.get")
    with pytest.raises(DeniedError):
        bucket.facts()
    answer = requests.get(
        f"{state.url}/storage/v1/b/bucket/iam/testPermissions",
        params={"permissions": ["storage.buckets.get", "storage.objects.list"]},
        timeout=10,
    )
    assert answer.json()["permissions"] == ["storage.objects.list"]


def test_a_bucket_changes_behind_its_owners_back(cloud_standin_site: StandinSite) -> None:
    site, state = cloud_standin_site.site, cloud_standin_site.state
    bucket = open_bucket(site, "drifts", cloud_standin_site.credentials)
    bucket.create_bucket()
    before = bucket.facts()
    assert (before.location, before.multi_region, before.public, before.encrypted) == (site.region, False, False, True)
    key = "projects/p/locations/us-east1/keyRings/r/cryptoKeys/k"
    state.change(
        "drifts",
        location="US",
        locationType="multi-region",
        encryption={"defaultKmsKeyName": key},
        iamConfiguration={"publicAccessPrevention": "inherited"},
    )
    after = bucket.facts()
    assert (after.location, after.multi_region, after.public, after.kms_key) == ("us", True, True, key)


def test_public_access_prevention_refuses_public_members(state: State) -> None:
    path = f"{state.url}/storage/v1/b/bucket/iam"
    policy = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["allUsers"]}]}
    assert requests.put(path, json=policy, timeout=10).status_code == 200
    assert requests.get(path, timeout=10).json()["bindings"] == policy["bindings"]
    state.change("bucket", iamConfiguration={"publicAccessPrevention": "enforced"})
    assert requests.put(path, json=policy, timeout=10).status_code == 412


@pytest.mark.parametrize("fault", ["503/2", "lose/2/objects.insert"])
def test_faults_strike_in_turn(state: State, tmp_path: Path, fault: str) -> None:
    bucket = as_site(state, tmp_path, None, Deadlines(connect=2, read=2, retries=0))
    state.faults.append(Fault.parse(fault))
    bucket.create("first", b"1")
    with pytest.raises(UnavailableError):
        bucket.create("second", b"2")
    applied = {"first", "second"} if fault.startswith("lose") else {"first"}
    assert state.buckets["bucket"].objects.live.keys() == applied
    state.faults.clear()
    assert create_once(bucket, "second", b"2")


def test_a_reset_of_a_kept_connection_costs_nothing_and_of_a_new_one_the_call(state: State, tmp_path: Path) -> None:
    bucket = as_site(state, tmp_path, None, Deadlines(connect=2, read=2, retries=0))
    state.faults.append(Fault.parse("reset/2"))
    bucket.create("first", b"1")
    bucket.create("second", b"2")
    state.faults[:] = [Fault.parse("reset")]
    with pytest.raises(UnavailableError):
        bucket.create("third", b"3")
    assert state.buckets["bucket"].objects.live.keys() == {"first", "second"}


def test_a_stall_never_answers(state: State, tmp_path: Path) -> None:
    bucket = as_site(state, tmp_path, None, Deadlines(connect=2, read=0.2, retries=0))
    state.faults.append(Fault.parse("stall"))
    with pytest.raises(UnavailableError, match="no answer"):
        bucket.create("x", b"1")


def test_a_fault_has_a_known_kind() -> None:
    with pytest.raises(ValueError, match="no fault"):
        Fault.parse("explode/3")


def test_soft_deleted_objects_end_with_their_time(state: State) -> None:
    state.add_bucket("soft")
    generation = put(state, "x", bucket="soft")["generation"]
    requests.delete(f"{state.url}/storage/v1/b/soft/o/x", timeout=10)
    [kept] = listed(state, "soft", softDeleted="true")["items"]
    assert (kept["generation"], "hardDeleteTime" in kept) == (generation, True)
    shown = requests.get(
        f"{state.url}/storage/v1/b/soft/o/x", params={"softDeleted": "true", "generation": generation}, timeout=10
    )
    assert shown.status_code == 200
    state.ahead = timedelta(days=7, seconds=1)
    assert "items" not in listed(state, "soft", softDeleted="true")
    restore = f"{state.url}/storage/v1/b/soft/o/x/restore"
    assert requests.post(restore, params={"generation": generation}, timeout=10).status_code == 404


def test_a_restored_object_does_not_replace_a_live_one_unasked(state: State) -> None:
    state.add_bucket("soft")
    generation = put(state, "x", b"old", bucket="soft")["generation"]
    put(state, "x", b"new", bucket="soft")
    restore = f"{state.url}/storage/v1/b/soft/o/x/restore"
    refused = requests.post(restore, params={"generation": generation, "ifGenerationMatch": 0}, timeout=10)
    assert refused.status_code == 412
    restored = requests.post(restore, params={"generation": generation}, timeout=10)
    assert int(restored.json()["generation"]) > int(generation)
    assert state.buckets["soft"].objects.live["x"].data == b"old"


def test_retention_ends_and_an_event_based_hold_starts_it_anew(state: State) -> None:
    state.change("bucket", retentionPolicy={"retentionPeriod": "3600"})
    path = f"{state.url}/storage/v1/b/bucket/o/x"
    put(state, "x")
    assert requests.patch(path, json={"eventBasedHold": True}, timeout=10).status_code == 200
    state.ahead = timedelta(hours=2)
    assert requests.delete(path, timeout=10).json()["error"]["errors"][0]["reason"] == "objectUnderActiveHold"
    requests.patch(path, json={"eventBasedHold": False}, timeout=10)
    assert requests.delete(path, timeout=10).json()["error"]["errors"][0]["reason"] == "retentionPolicyNotMet"
    state.ahead = timedelta(hours=4)
    assert requests.delete(path, timeout=10).status_code == 204


def test_a_deleted_generation_is_gone_though_versioning_is_on(state: State) -> None:
    state.change("bucket", versioning={"enabled": True})
    first, second = (put(state, "x", data)["generation"] for data in (b"1", b"2"))
    path = f"{state.url}/storage/v1/b/bucket/o/x"
    assert requests.delete(path, params={"generation": first}, timeout=10).status_code == 204
    assert [entry["generation"] for entry in listed(state, versions="true")["items"]] == [second]
    assert requests.delete(path, params={"generation": first}, timeout=10).status_code == 404
    requests.delete(path, timeout=10)
    [kept] = listed(state, versions="true")["items"]
    assert (kept["generation"], "timeDeleted" in kept) == (second, True)
    assert "items" not in listed(state)


def test_chunks_of_a_resumable_upload_must_fit(state: State) -> None:
    start = requests.post(
        f"{state.url}/upload/storage/v1/b/bucket/o",
        params={"uploadType": "resumable", "name": "x"},
        json={"crc32c": "AAAAAA=="},
        timeout=10,
    )
    place = start.headers["Location"]
    for content_range, status in (
        ("bytes 0-9/*", 400),
        ("bytes 0-8/10", 400),
        ("bytes 20-29/30", 503),
        ("nonsense", 400),
        ("bytes 0-9/10", 400),
    ):
        answer = requests.put(place, data=bytes(10), headers={"Content-Range": content_range}, timeout=10)
        assert answer.status_code == status, content_range
    # The last one was whole, and its checksum is not the declared one.
    assert "CRC32C" in answer.text
    assert not state.buckets["bucket"].objects
    assert requests.delete(place, timeout=10).status_code == 499
    assert requests.put(place, data=b"", timeout=10).status_code == 404


def test_obstore_reads_and_writes_with_a_key_of_its_own(state: State) -> None:
    key = state.accounts.add(PEER, {"bucket": READ | CREATE}) | {"gcs_base_url": state.url}
    store = GCSStore(
        "bucket",
        service_account_key=json.dumps(key),
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    name = "a b/ü+%2F?#x"
    made = obstore.put(store, name, b"0123456789", mode="create")
    assert made["version"] == str(state.buckets["bucket"].objects.live[name].generation)
    with pytest.raises(ObstoreExistsError):
        obstore.put(store, name, b"other", mode="create")
    with pytest.raises(PermissionDeniedError):
        obstore.put(store, name, b"other")
    with pytest.raises(PermissionDeniedError):
        obstore.delete(store, name)
    assert bytes(obstore.get(store, name, options={"version": made["version"]}).bytes()) == b"0123456789"
    assert bytes(obstore.get_range(store, name, start=2, end=4)) == b"23"
    assert obstore.head(store, name)["size"] == 10
    with pytest.raises(FileNotFoundError):
        obstore.get(store, name, options={"version": "1"})
    with pytest.raises(PreconditionError):
        obstore.get(store, name, options={"if_match": '"0"'})


_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
_NAMES = st.text(alphabet="ab/é🙂", min_size=1, max_size=4)
_PART = st.text(alphabet="ab/é🙂", max_size=2)


@given(
    st.lists(st.tuples(_NAMES, st.booleans()), max_size=12),
    st.builds(
        Listing,
        st.sampled_from(["live", "versions", "softDeleted"]),
        prefix=_PART,
        delimiter=st.sampled_from(["", "/", "b/"]),
        start=_PART,
        end=_PART,
        trailing=st.booleans(),
    ),
    st.booleans(),
    st.integers(min_value=1, max_value=4),
)
def test_pages_add_up_to_the_list(writes: list[tuple[str, bool]], wanted: Listing, versioned: bool, limit: int) -> None:
    held = Versions()
    policy = {"versioned": versioned, "soft_seconds": 60}
    for generation, (name, remains) in enumerate(writes, start=1):
        held.put(Version(name, b"", generation, _MOMENT, {}), **policy)  # type: ignore[arg-type]
        if not remains:
            held.remove(name, None, _MOMENT, **policy)  # type: ignore[arg-type]
    rows = {"live": [list(held.live.values())], "versions": [list(held.live.values()), *held.old.values()]}
    rows["softDeleted"] = list(held.soft.values())
    expected_items: list[tuple[bytes, int]] = []
    expected_prefixes: set[str] = set()
    for version in (version for row in rows[wanted.which] for version in row):
        name = version.name
        inside = name >= wanted.start and (not wanted.end or name < wanted.end)
        if not (name.startswith(wanted.prefix) and inside):
            continue
        before, found, _ = name[len(wanted.prefix) :].partition(wanted.delimiter or "\0")
        group = wanted.prefix + before + found if found else ""
        if found:
            expected_prefixes.add(group)
        if not found or (wanted.trailing and name == group):
            expected_items.append((name.encode(), version.generation))
    items: list[tuple[bytes, int]] = []
    prefixes: list[str] = []
    mark: Mark | None = None
    for _ in range(2 * len(writes) + 1):
        found_items, found_prefixes, mark = held.page(wanted, mark, limit, _MOMENT)
        assert len(found_items) + len(found_prefixes) <= limit
        items += [(version.name.encode(), version.generation) for version in found_items]
        prefixes += found_prefixes
        if mark is None:
            break
    assert mark is None
    assert items == sorted(expected_items)
    assert prefixes == sorted(expected_prefixes)
