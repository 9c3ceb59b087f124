"""What both clouds do: create-once writes, pinned reads, versions, lists, names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from tests.integration.store_contract.capability import Capabilities, Probe, capability
from tests.integration.store_contract.clients import Client, Gcs, RefusedError

BOTH: Capabilities = {}
NAMES = {
    "a//b": "a//b",
    "dir/": "dir/",
    "/lead": "/lead",
    "./here": "./here",
    "up/../down": "up/../down",
    "a name below a name": "below/x",
    "plus, percent and blank": "a+b%2Bc d%",
    "query and fragment": "q?x=1#y&z",
    "tab": "a\tb",
    "1,024 bytes": "漢" * 341 + "x",
}


@capability(BOTH, "a name is created once", "refused")
def _create_once(store: Client) -> str:
    bucket = store.make_bucket()
    assert store.put(bucket, "x", b"first", create=True)
    again = store.put(bucket, "x", b"other", create=True)
    assert store.get(bucket, "x") == (b"first" if again is None else b"other")
    return "refused" if again is None else "overwritten"


@capability(BOTH, "of many creators one wins", "one wins")
def _create_race(store: Client) -> str:
    bucket = store.make_bucket()

    def create(number: int) -> bool:
        try:
            return store.put(bucket, "x", b"%d" % number, create=True) is not None
        except ClientError as error:
            # S3 may ask for a retry instead (PutObject: 409 ConditionalRequestConflict).
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 409:
                return False
            raise

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(create, range(16)))
    return "one wins" if won == 1 else "several win"


@capability(BOTH, "a deleted name can be created again", "created")
def _create_after_delete(store: Client) -> str:
    bucket = store.make_bucket(versioned=True)
    store.put(bucket, "x", b"first")
    store.delete(bucket, "x")
    return "refused" if store.put(bucket, "x", b"other", create=True) is None else "created"


@capability(BOTH, "a pinned read refuses another version", "refused")
def _pinned_read(store: Client) -> str:
    bucket = store.make_bucket()
    first = store.put(bucket, "x", b"first")
    assert store.get(bucket, "x", pin=first) == b"first"
    store.put(bucket, "x", b"other")
    read = store.get(bucket, "x", pin=first)
    return "refused" if read is None else f"reads {read.decode()}"


@capability(BOTH, "a conditional delete spares another version", "refused")
def _pinned_delete(store: Client) -> str:
    bucket = store.make_bucket()
    first = store.put(bucket, "x", b"first")
    second = store.put(bucket, "x", b"other")
    if store.delete(bucket, "x", pin=first):
        return "deletes"
    assert store.delete(bucket, "x", pin=second)
    return "refused"


@capability(BOTH, "an overwritten version is kept where versioning is on", "listed and readable")
def _noncurrent(store: Client) -> str:
    bucket = store.make_bucket(versioned=True)
    store.put(bucket, "x", b"first")
    store.put(bucket, "x", b"other")
    versions = store.versions(bucket, "x")
    if len(versions) != 2:
        return f"lists {len(versions)} of 2"
    return "listed and readable" if store.version(bucket, "x", versions[0]) == b"first" else "reads another"


@capability(BOTH, "a deleted version is kept where versioning is on", "listed and readable")
def _deleted(store: Client) -> str:
    bucket = store.make_bucket(versioned=True)
    store.put(bucket, "x", b"first")
    store.delete(bucket, "x")
    assert not any(store.names(bucket, size=9))
    versions = store.versions(bucket, "x")
    if len(versions) != 1:
        return f"lists {len(versions)} of 1"
    return "listed and readable" if store.version(bucket, "x", versions[0]) == b"first" else "reads another"


@capability(BOTH, "lists are in the order of UTF-8", "in order")
def _order(store: Client) -> str:
    bucket = store.make_bucket()
    # U+1F642 sorts before U+FFEE in UTF-16, '-' and '.' before '/' where trees of directories don't.
    names = ["!", "A", "a-b", "a.b", "a/b", "ab", "é", "漢", "\uffee", "🙂"]
    for name in reversed(names):
        store.put(bucket, name, b"x")
    [listed] = store.names(bucket, size=100)
    assert sorted(listed) == sorted(names)
    return "in order" if listed == names else "in another order"


@capability(BOTH, "lists come in pages", "3, 3, 1")
def _pages(store: Client) -> str:
    bucket = store.make_bucket()
    for number in range(7):
        store.put(bucket, f"{number}", b"x")
    pages = store.names(bucket, size=3)
    assert [name for page in pages for name in page] == [f"{number}" for number in range(7)]
    return ", ".join(str(len(page)) for page in pages)


@capability(BOTH, "a list starts at a name", "starts there")
def _start(store: Client) -> str:
    bucket = store.make_bucket()
    for name in ("a", "b", "c/1", "c/2", "d"):
        store.put(bucket, name, b"x")
    assert store.names(bucket, size=9, prefix="c/", start="c/2") in ([["c/2"]], [[]])
    listed = [name for page in store.names(bucket, size=2, start="b") for name in page]
    # startOffset includes the name, StartAfter does not.
    expected = ["b", "c/1", "c/2", "d"] if isinstance(store, Gcs) else ["c/1", "c/2", "d"]
    return "starts there" if listed == expected else f"lists {','.join(listed)}"


@capability(BOTH, "a wrong checksum is refused", "400")
def _checksum(store: Client) -> str:
    bucket = store.make_bucket()
    status = store.put_with_wrong_checksum(bucket, "x", b"data")
    assert status == 400 or store.get(bucket, "x") == b"data"
    return str(status)


def _kept(name: str) -> Probe:
    def probe(store: Client) -> str:
        bucket = store.make_bucket()
        store.put(bucket, "below" if name == "below/x" else "z", b"other")
        try:
            store.put(bucket, name, b"data")
            listed = {found for page in store.names(bucket, size=9) for found in page}
            return "kept" if name in listed and store.get(bucket, name) == b"data" else "another name"
        except (ClientError, RefusedError):
            return "refused"

    return probe


for _case, _name in NAMES.items():
    capability(BOTH, f"name {_case}", "kept")(_kept(_name))
