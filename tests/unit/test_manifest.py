"""The plaintexts of a snapshot: what is written is what is read, and anything malformed is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup import layout, manifest
from domicile.backup.errors import IntegrityError
from domicile.backup.manifest import Change, Delta, Entry, Part, Root, Shard, Usage
from domicile.backup.sealing import MAX_PLAINTEXT

ID, OTHER, DIGEST = "0" * 32, "f" * 32, "a" * 64
PARTS = (Part(ID, 0, 2, 1), Part(OTHER, 70, 1, 2))
ENTRIES = [Entry("a//b", "7", 3, 5, PARTS), Entry("dir/", "etag", 0, 0, (Part(ID, 9, 0, 1),))]
CHANGES = [Change("a//b", 4, None), Change("\U0001f600", 5, ENTRIES[0]._replace(name="\U0001f600"))]
SHARDS = (Shard("", ID, DIGEST, 99, 1, 1, 2, 3, DIGEST), Shard("m", OTHER, DIGEST, 98, 2, 3, 0, 0, DIGEST))
ROOT = Root(
    "ab" * 16,
    "eu",
    3,
    2,
    DIGEST,
    "2026-01-31T12:00:00.000000Z",
    "k1",
    "one/live",
    SHARDS,
    (Delta(ID, DIGEST, 7, 1, 2),),
    {ID: Usage(100, 60)},
)
Decode = Callable[[bytes, str], Any]
FORMATS: dict[str, tuple[Any, Callable[[Any], bytes], Decode]] = {
    "entries": (ENTRIES, manifest.encode_entries, manifest.decode_entries),
    "changes": (CHANGES, manifest.encode_changes, manifest.decode_changes),
    "root": (ROOT, manifest.encode_root, manifest.decode_root),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8) | st.just(DIGEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_written_is_what_is_read(kind: str) -> None:
    value, encode, decode = FORMATS[kind]
    assert decode(encode(value), kind) == value


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_anything_else_is_refused_or_means_what_it_says(kind: str, data: st.DataObject) -> None:
    value, encode, decode = FORMATS[kind]
    tree = json.loads(zlib.decompress(encode(value)))
    target, key = tree, data.draw(st.sampled_from(sorted(tree)))
    while isinstance(target[key], list) and target[key] and data.draw(st.booleans()):
        target = target[key]
        key = data.draw(st.integers(0, len(target) - 1))
    target[key] = data.draw(JSON)
    text = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    good, at = encode(value), data.draw(st.integers(0, 40))
    noise = data.draw(st.binary(min_size=1, max_size=16))
    for bad in (zlib.compress(text), text, noise, good + noise, good[:at] + noise + good[at:], good[:at]):
        try:
            found = decode(bad, kind)
        except IntegrityError:
            continue
        assert decode(encode(found), kind) == found
        assert json.loads(zlib.decompress(bad)).keys() == tree.keys()


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("names", ["b", "a"]),
        ("names", ["a", "a"]),
        ("names", ["", "a"]),
        ("names", ["x" * 1025, "y"]),
        ("sizes", [4, 0]),
        ("sizes", [3, -1]),
        ("crcs", [1 << 32, 0]),
        ("versions", ["", "etag"]),
        ("parts", [[0, 0, 2, 2, 70, 1], [0, 9, 0]]),
        ("parts", [[0, 0, 3, 0], [0, 9, 0]]),
        ("parts", [[], [0, 9, 0]]),
        ("packs", [["0" * 31, 1], [OTHER, 2]]),
        ("names", ["a//b", "dir/", "more"]),
    ],
)
def test_a_malformed_column_is_refused(column: str, bad: list[Any]) -> None:
    tree = json.loads(zlib.decompress(manifest.encode_entries(ENTRIES)))
    text = json.dumps(tree | {column: bad}, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(IntegrityError, match="it"):
        manifest.decode_entries(zlib.compress(text), "it")


def test_what_inflates_beyond_the_limit_is_refused() -> None:
    bomb = zlib.compress(b" " * (MAX_PLAINTEXT + 1), 9)
    assert len(bomb) < 1 << 17
    with pytest.raises(IntegrityError, match="too large"):
        manifest.decode_root(bomb, "it")


@pytest.mark.parametrize("afters", [("x", "y"), ("", ""), ("", "b", "a")])
def test_shards_cover_every_name_once(afters: tuple[str, ...]) -> None:
    shards = tuple(SHARDS[0]._replace(after=after) for after in afters)
    data = manifest.encode_root(Root(**{f: getattr(ROOT, f) for f in Root.__slots__} | {"shards": shards}))
    with pytest.raises(IntegrityError, match="cover all names once"):
        manifest.decode_root(data, "it")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=300))
def test_deltas_stay_few_and_their_rows_are_rarely_written_again(commits: list[int]) -> None:
    rows: list[int] = []
    written = 0
    for size in commits:
        rows.append(size)
        if (start := layout.merge_from(rows)) is not None:
            written += sum(rows[start:])
            rows[start:] = [sum(rows[start:])]
    total = list(accumulate(commits))[-1]
    assert sum(rows) == total
    assert len(rows) <= 80
    assert written <= 5 * total
    assert layout.merge_from([5] * 7) is None
    assert layout.merge_from([5] * 8) == 0
    assert layout.merge_from([800, *[5] * 8]) == 1


def test_packs_are_emptied_once_a_third_is_dead() -> None:
    pack = layout.PACK_BYTES

    def root(*packs: Usage) -> Root:
        fields = {f: getattr(ROOT, f) for f in Root.__slots__}
        return Root(**fields | {"packs": {f"{i:032x}": usage for i, usage in enumerate(packs)}})

    assert layout.worn_packs(root(Usage(pack * 4, pack * 3))) == set()
    assert layout.worn_packs(root(Usage(100, 1))) == set()
    assert layout.worn_packs(root(Usage(pack * 2, pack), Usage(pack, pack))) == {f"{0:032x}"}
