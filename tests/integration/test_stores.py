"""One contract for every Bucket: versitygw, fake-gcs-server, our stand-in for Cloud Storage, the in-memory one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import google_crc32c
import pytest

from domicile.backup.stores import gcs, open_bucket, s3
from domicile.backup.stores.base import (
    AlreadyExistsError,
    Bucket,
    ChangedError,
    NotFoundError,
    StoreError,
    UnavailableError,
    create_once,
)
from tests.integration.stores_fixture import StandinSite, StoreSites
from tests.memory_bucket import MemoryBucket

MIB = 1024 * 1024
NAMES = {
    "plain": "a.txt",
    "nested": "nested/b.txt",
    "double slash": "double//slash",
    "directory": "directory/",
    "leading slash": "/lead",
    "dot segments": "up/../down",
    "dot": "./here",
    "space": " two  spaces ",
    "url characters": "q?x=1&y=%2F+#é;,:@$",
    "xml characters": "<&>'\"",
    "tab": "tab\there",
    "line feed": "new\nline",
    "unicode": "Straße/漢字/🙂",
    "decomposed unicode": "e\u0301",
    "1,024 bytes": "ü/" * 341 + "x",
    "1,024 bytes in one segment": "漢" * 341 + "x",
    "name below a name": "a.txt/below",
}
# What a store can't do: test servers, though the clouds can, and Cloud Storage itself: (server, case). Each is
# asserted, so that a mended server shows.
GAPS = {
    # versitygw keeps objects as files of a directory tree.
    ("s3", "double slash"),
    ("s3", "directory"),
    ("s3", "leading slash"),
    ("s3", "dot segments"),
    ("s3", "dot"),
    ("s3", "1,024 bytes in one segment"),
    ("s3", "name below a name"),
    # In a versioned bucket its If-None-Match takes a delete marker for an object.
    ("s3", "create after delete"),
    # fake-gcs-server, backend filesystem: the same tree.
    ("gcs", "double slash"),
    ("gcs", "directory"),
    ("gcs", "leading slash"),
    ("gcs", "dot segments"),
    ("gcs", "dot"),
    ("gcs", "1,024 bytes in one segment"),
    ("gcs", "name below a name"),
    # Its filesystem backend has no versioning.
    ("gcs", "versioning"),
    # Cloud Storage itself refuses carriage returns and line feeds (Object naming requirements).
    ("standin", "line feed"),
    ("standin-cloud", "line feed"),
}


@dataclass(frozen=True)
class Store:
    """A kind of store, and how to open a bucket of it (which need not exist)."""

    kind: str
    open: Callable[[str], Bucket]
    region: str
    keys: str


@pytest.fixture(params=["s3", "gcs", "standin", "standin-cloud", "memory"])
def store(request: pytest.FixtureRequest) -> Store:
    kind = request.param
    if kind == "memory":
        return Store(kind, lambda name: MemoryBucket(name=name, exists=False), "europe-west3", "keys")
    if kind in {"s3", "gcs"}:
        sites: StoreSites = request.getfixturevalue("store_sites")
        site, credentials = (sites.aws if kind == "s3" else sites.gcp), sites.credentials
    else:
        standin: StandinSite = request.getfixturevalue("standin_site" if kind == "standin" else "cloud_standin_site")
        site, credentials = standin.site, standin.credentials
    return Store(kind, lambda name: open_bucket(site, name, credentials), site.region, site.stores.keys)


def fresh(store: Store) -> Bucket:
    return store.open(f"t-{uuid.uuid4().hex}")


@pytest.fixture
def bucket(store: Store) -> Bucket:
    made = fresh(store)
    made.create_bucket()
    return made


def chunks(data: bytes, size: int = 1_000_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("case", NAMES)
def test_names_are_kept_as_they_are(store: Store, bucket: Bucket, case: str) -> None:
    name, data = NAMES[case], b"content"
    assert len(name.encode()) <= 1024
    bucket.create("a.txt" if case == "name below a name" else "neighbour", b"another")
    try:
        bucket.create(name, data)
        listed = {info.name: info.size for info in bucket.list()}
        kept = listed.get(name) == len(data) and len(listed) == 2 and bucket.read(name) == data
        bucket.delete(name)
    except StoreError:
        kept = False
    assert kept is ((store.kind, case) not in GAPS)


def test_create_writes_once(bucket: Bucket) -> None:
    bucket.create("x", b"first")
    with pytest.raises(AlreadyExistsError):
        bucket.create("x", b"second")
    assert bucket.read("x") == b"first"
    assert not create_once(bucket, "x", b"second")
    assert create_once(bucket, "x", b"first")


def test_of_many_creators_one_wins(bucket: Bucket) -> None:
    def attempt(number: int) -> bool:
        try:
            bucket.create("slot", b"%d" % number)
        except (AlreadyExistsError, UnavailableError):
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = [number for number, success in enumerate(pool.map(attempt, range(32))) if success]
    assert len(won) == 1
    assert bucket.read("slot") == b"%d" % won[0]


@pytest.mark.parametrize("size", [0, 1, 9 * MIB])
def test_create_takes_any_size_and_large_ones_only_once(bucket: Bucket, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    bucket.create("x", data)
    assert bucket.read("x") == data
    with pytest.raises(AlreadyExistsError):
        bucket.create("x", data)


def test_create_after_delete(store: Store, bucket: Bucket) -> None:
    bucket.create("x", b"first")
    bucket.delete("x")
    try:
        bucket.create("x", b"second")
        created = bucket.read("x") == b"second"
    except AlreadyExistsError:
        created = False
    assert created is ((store.kind, "create after delete") not in GAPS)


def test_ranges(bucket: Bucket) -> None:
    bucket.create("x", b"0123456789")
    assert bucket.read("x", start=4) == b"456789"
    assert bucket.read("x", length=3) == b"012"
    assert bucket.read("x", start=4, length=3) == b"456"
    assert bucket.read("x", start=8, length=30) == b"89"
    assert bucket.read("x", start=9, length=1) == b"9"
    assert bucket.read("x", start=10) == bucket.read("x", start=10, length=1) == b""
    assert bucket.read("x", start=2, length=0) == b""
    bucket.create("empty", b"")
    assert bucket.read("empty") == bucket.read("empty", length=5) == bucket.read("empty", start=1) == b""


@pytest.mark.parametrize("part", [{}, {"start": 1}, {"start": 1, "length": 2}, {"length": 0}])
def test_a_pinned_read_never_returns_another_version(bucket: Bucket, part: dict[str, int]) -> None:
    first = bucket.write("x", iter([b"first"]), 5)
    wanted = b"first"[part.get("start", 0) :][: part.get("length")]
    assert bucket.read("x", version=first, **part) == wanted  # type: ignore[arg-type]
    second = bucket.write("x", iter([b"other"]), 5)
    assert second != first
    # A bucket that keeps its old versions may serve the one that was asked for, and never another one.
    _is_only(wanted, ChangedError, bucket, first, part)
    bucket.delete("x")
    _is_only(b"other"[part.get("start", 0) :][: part.get("length")], NotFoundError, bucket, second, part)


def _is_only(wanted: bytes, refusal: type[StoreError], bucket: Bucket, version: str, part: dict[str, int]) -> None:
    try:
        found = bucket.read("x", version=version, **part)  # type: ignore[arg-type]
    except refusal:
        return
    assert found == wanted


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 12 * MIB + 3])
def test_write_streams_in_parts(bucket: Bucket, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (s3, gcs):
        monkeypatch.setattr(module, "PART_BYTES", 5 * MIB)
    data = (b"0123456789abcde" * (size // 15 + 1))[:size]
    version = bucket.write("x", chunks(data), size)
    assert bucket.read("x", version=version) == data
    [info] = bucket.list()
    assert (info.name, info.size, info.version) == ("x", size, version)
    replaced = bucket.write("x", iter([b"new"]), 3)
    assert bucket.read("x", version=replaced) == b"new"


@pytest.mark.parametrize("size", [3, 12 * MIB])
def test_a_new_object_is_streamed_once(bucket: Bucket, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (s3, gcs):
        monkeypatch.setattr(module, "PART_BYTES", 5 * MIB)
    version = bucket.write("once", iter((bytes(size),)), size, new=True)
    with pytest.raises(AlreadyExistsError):
        bucket.write("once", iter((b"x" * size,)), size, new=True)
    assert bucket.read("once", version=version) == bytes(size)
    assert bucket.read("once", version=bucket.write("once", iter((b"y",)), 1)) == b"y"


@pytest.mark.parametrize(("held", "announced"), [(3, 5), (7, 5), (11 * MIB, 12 * MIB), (12 * MIB, 11 * MIB)])
def test_a_stream_of_another_size_leaves_no_object(
    bucket: Bucket, held: int, announced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (s3, gcs):
        monkeypatch.setattr(module, "PART_BYTES", 5 * MIB)
    with pytest.raises(ValueError, match=r"announced|bytes, not"):
        bucket.write("x", chunks(bytes(held)), announced)
    assert not list(bucket.list())


def test_delete_is_idempotent(bucket: Bucket) -> None:
    bucket.create("x", b"1")
    bucket.delete("x")
    bucket.delete("x")
    bucket.delete("never there")
    assert not list(bucket.list())


def test_lists_are_paged_in_name_order_and_pin_reads(store: Store, bucket: Bucket) -> None:
    # '-' and '.' sort before '/', which trees of directories get wrong.
    names = [f"p/{number:04d}" for number in range(1050)] + ["p-x", "p.x", "p0", "q/é", "q/z", "Q"]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: bucket.create(name, name.encode()), names))
    listed = list(bucket.list())
    assert [info.name for info in listed] == sorted(names)
    assert [info.name for info in bucket.list("p/")] == sorted(name for name in names if name.startswith("p/"))
    assert [info.name for info in bucket.list("p/10")] == [f"p/{number}" for number in range(1000, 1050)]
    assert not list(bucket.list("absent"))
    for info in listed[::97]:
        assert info.size == len(info.name.encode())
        assert bucket.read(info.name, version=info.version) == info.name.encode()
        # An S3 listing holds no checksums.
        expected = None if store.kind == "s3" else google_crc32c.value(info.name.encode())
        assert info.crc32c == expected


def test_a_missing_bucket_is_not_found(store: Store) -> None:
    bucket = fresh(store)
    for call in (
        lambda: list(bucket.list()),
        lambda: bucket.read("x"),
        lambda: bucket.create("x", b""),
        lambda: bucket.write("x", iter([b"1"]), 1),
        bucket.facts,
    ):
        with pytest.raises(NotFoundError):
            call()


def test_errors_name_bucket_and_site_and_no_object(bucket: Bucket) -> None:
    for call in (lambda: bucket.read("very-private"), lambda: bucket.create("very-private", b"")):
        try:
            bucket.create("very-private", b"") if call is not None else None
            call()
        except StoreError as error:
            shown = error
    assert bucket.name in str(shown)
    assert bucket.site in str(shown)
    assert "very-private" not in str(shown)
    assert shown.__suppress_context__ or shown.__context__ is None


def test_a_created_bucket_states_its_facts(store: Store, bucket: Bucket) -> None:
    facts = bucket.facts()
    assert facts.location == store.region
    assert facts.multi_region is False
    assert facts.versioned is (None if (store.kind, "versioning") in GAPS else True)
    assert facts.public in {None, False}
    assert facts == bucket.facts()
    with pytest.raises(AlreadyExistsError):
        bucket.create_bucket()
    assert bucket.facts() == facts


def test_a_keys_bucket_is_created_without_versioning(store: Store) -> None:
    if store.kind == "memory":
        bucket: Bucket = MemoryBucket(versioned=False, exists=False)
    else:
        bucket = store.open(store.keys)
    bucket.create_bucket()
    facts = bucket.facts()
    assert not facts.versioned
    assert not facts.keeps_deleted
