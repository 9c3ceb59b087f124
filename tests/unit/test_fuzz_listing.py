"""Answers to listings: what they say is what is listed, and an odd one is refused; never is an object left out."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup.stores import listing
from domicile.backup.stores.base import Page, StoreError
from domicile.backup.stores.listing import MalformedError

# What XML 1.0 can't hold only comes URL-encoded, as the engine asks for it.
CHARACTERS = st.characters(exclude_categories=["Cs"])
NAME = st.text(CHARACTERS, min_size=1, max_size=12)
OBJECTS = st.dictionaries(
    NAME, st.tuples(st.integers(0, 1 << 48), st.text("0123456789abcdef-", min_size=1)), max_size=8
)
SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def s3(objects: dict[str, Any], token: str | None, *, spaced: bool = True) -> ElementTree.Element:
    root = ElementTree.Element("ListBucketResult", {"xmlns": SPACE} if spaced else {})

    def add(parent: ElementTree.Element, tag: str, text: str = "") -> ElementTree.Element:
        element = ElementTree.SubElement(parent, tag)
        element.text = text
        return element

    add(root, "EncodingType", "url")
    add(root, "IsTruncated", "true" if token else "false")
    if token:
        add(root, "NextContinuationToken", token)
    for name in sorted(objects):
        size, version = objects[name]
        entry = add(root, "Contents")
        add(entry, "Key", quote_plus(name))
        add(entry, "ETag", f'"{version}"')
        add(entry, "Size", str(size))
        for algorithm in ("CRC32C", "SHA256"):
            add(entry, "ChecksumAlgorithm", algorithm)
        add(add(entry, "Owner"), "ID", "x")
    return root


def gcs(objects: dict[str, Any], token: str | None) -> dict[str, Any]:
    items = [
        {"name": name, "generation": version, "size": str(size), "crc32c": crc32c(size % 99)}
        for name, (size, version) in sorted(objects.items())
    ]
    more = {"nextPageToken": token} if token else {}
    return {"kind": "storage#objects"} | ({"items": items} if items else {}) | more


def crc32c(value: int) -> str:
    return base64.b64encode(struct.pack(">I", value)).decode()


def expected(objects: dict[str, Any], *, crcs: bool) -> Page:
    names = sorted(objects)
    sizes = [objects[name][0] for name in names]
    return Page(names, [objects[name][1] for name in names], sizes, [size % 99 if crcs else None for size in sizes])


@settings(max_examples=80, deadline=None)
@given(OBJECTS, st.none() | st.text("abc=/+", min_size=1), st.booleans())
def test_what_is_said_is_what_is_listed(objects: dict[str, Any], token: str | None, spaced: bool) -> None:
    answer = ElementTree.tostring(s3(objects, token, spaced=spaced))
    assert listing.of_s3(answer) == (expected(objects, crcs=False), token)
    assert listing.of_gcs(json.dumps(gcs(objects, token)).encode()) == (expected(objects, crcs=True), token)
    assert listing.of_gcs(json.dumps(gcs(objects, token), ensure_ascii=False).encode()) == (
        expected(objects, crcs=True),
        token,
    )


@settings(max_examples=150, deadline=None)
@given(OBJECTS, st.booleans(), st.data())
def test_an_answer_that_lost_something_is_refused(objects: dict[str, Any], more: bool, data: st.DataObject) -> None:
    """Whatever an answer lacks or has too much of: either all of its objects are listed, or none."""
    tree = s3(objects, "more" if more else None)
    lossy = ["IsTruncated", "NextContinuationToken"] if more else []
    entries = tree.findall("Contents")
    within = data.draw(st.booleans())
    if entries and within:
        entry = data.draw(st.sampled_from(entries))
        field = data.draw(st.sampled_from(["Key", "ETag", "Size"]))
        gone = entry.find(field)
        assert gone is not None
        match data.draw(st.sampled_from(["removed", "empty", "renamed", "nested", "odd"])):
            case "removed":
                entry.remove(gone)
            case "empty":
                gone.text = None
            case "renamed":
                gone.tag = "x"
            case "nested":
                entry.remove(gone)
                ElementTree.SubElement(entry, "x").append(gone)
            case "odd":
                size = data.draw(st.sampled_from(["-1", "1e3", "\u0663", " 1", "0x1"]))
                gone.text = {"Key": "%ff", "ETag": '""', "Size": size}[field]
    elif lossy:
        gone = tree.find(data.draw(st.sampled_from(lossy)))
        assert gone is not None
        tree.remove(gone)
    else:
        tree.tag = data.draw(st.sampled_from(["Error", "ListVersionsResult", "listbucketresult"]))
    with pytest.raises(MalformedError):
        listing.of_s3(ElementTree.tostring(tree))


@settings(max_examples=150, deadline=None)
@given(OBJECTS.filter(bool), st.data())
def test_an_item_of_another_shape_is_refused(objects: dict[str, Any], data: st.DataObject) -> None:
    answer = gcs(objects, None)
    item = data.draw(st.sampled_from(answer["items"]))
    field = data.draw(st.sampled_from(["name", "generation", "size", "crc32c", "items", "nextPageToken", "item"]))
    odd: list[Any] = [None, [], {}, 1.5, True, "", -1]
    match field:
        case "items":
            answer["items"] = data.draw(st.sampled_from([None, 1, "x", [None], [1], ["x"], {"name": "x"}]))
        case "nextPageToken":
            answer["nextPageToken"] = data.draw(st.sampled_from([1, ["x"], {"x": 1}, True]))
        case "item":
            del item[data.draw(st.sampled_from(["name", "generation", "size"]))]
        case "crc32c":
            item["crc32c"] = data.draw(st.sampled_from([None, 1, "", "AA", "AAAAA===", "????", [], "AAAAAAAA"]))
        case "size":
            item["size"] = data.draw(st.sampled_from([*odd, "1.0", "٣"]))
        case _:
            item[field] = data.draw(st.sampled_from([*odd, 7] if field == "name" else odd))
    with pytest.raises(MalformedError):
        listing.of_gcs(json.dumps(answer).encode())


@settings(max_examples=150, deadline=None)
@given(OBJECTS, st.binary(max_size=20), st.integers(0, 3000), st.booleans())
def test_any_bytes_are_understood_or_refused(objects: dict[str, Any], noise: bytes, at: int, cut: bool) -> None:
    for whole, parse in (
        (ElementTree.tostring(s3(objects, "more")), listing.of_s3),
        (json.dumps(gcs(objects, None)).encode(), listing.of_gcs),
    ):
        place = at % (len(whole) + 1)
        for answer in (noise, whole[:place] + noise + (b"" if cut else whole[place:])):
            try:
                page, _ = parse(answer)
            except MalformedError:
                continue
            assert len({len(column) for column in page}) == 1
            assert all(page.names)
            assert all(page.versions)


def test_a_name_longer_than_any_object_s_is_refused() -> None:
    for name in ("x" * 1025, "ü" * 513, "\U0001f600" * 257):
        objects = {name: (1, "1")}
        with pytest.raises(MalformedError, match="1024"):
            listing.of_s3(ElementTree.tostring(s3(objects, None)))
        with pytest.raises(MalformedError, match="1024"):
            listing.of_gcs(json.dumps(gcs(objects, None)).encode())
    longest = {"ü" * 512: (1, "1")}
    assert listing.of_s3(ElementTree.tostring(s3(longest, None)))[0].names == list(longest)


def test_entities_that_grow_without_end_are_refused() -> None:
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    entry = "<Contents><Key>&e9;</Key><ETag>1</ETag><Size>1</Size></Contents>"
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "0123456789">{levels}]><ListBucketResult>{entry}</ListBucketResult>'
    with pytest.raises(MalformedError):
        listing.of_s3(bomb.encode())


def pages(*answers: tuple[list[str], str | None]) -> Iterator[Page]:
    """A store that gives these answers in turn, the last one again and again."""
    rest = list(answers)

    def ask(_: str | None) -> tuple[Page, str | None]:
        names, token = rest.pop(0) if len(rest) > 1 else rest[0]
        return Page(names, ["1"] * len(names), [1] * len(names), [None] * len(names)), token

    return listing.in_order("bucket b", ask, "p/", "p/5")


@pytest.mark.parametrize(
    ("answers", "refusal"),
    [
        ([(["p/6", "p/7"], "t"), (["p/7", "p/8"], None)], "out of order"),
        ([(["p/6", "p/6"], None)], "out of order"),
        ([(["p/7", "p/6"], None)], "out of order"),
        ([(["p/5"], None)], "out of order"),
        ([(["p/4"], None)], "out of order"),
        ([(["p/6"], "t"), (["q"], None)], "other objects"),
        ([(["p/6"], "t")], "out of order"),
        ([([], "t")], "in circles"),
        ([(["p/6"], "a"), ([], "b"), ([], "a"), ([], "b")], "in circles"),
    ],
)
def test_a_listing_that_does_not_go_on_in_order_is_refused(answers: list[Any], refusal: str) -> None:
    with pytest.raises(StoreError, match=refusal):
        for _ in zip(pages(*answers), range(50), strict=False):
            pass


def test_empty_pages_without_end_are_refused() -> None:
    tokens = iter(range(10_000))
    found = listing.in_order("bucket b", lambda _: (Page([], [], [], []), str(next(tokens))), "", "")
    with pytest.raises(StoreError, match="without end"):
        for _ in found:
            pass


def test_empty_pages_and_tokens_that_come_again_later_are_no_circle() -> None:
    answers = [([], "a"), (["p/6"], "a"), ([], "b"), (["p/7"], "b"), ([], None)]
    assert [name for page in pages(*answers) for name in page.names] == ["p/6", "p/7"]
