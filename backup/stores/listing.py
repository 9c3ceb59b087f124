"""What a store's answer to a listing says, strictly: a replica must not lack an object because an answer was odd.

Source: Amazon S3 API reference, ListObjectsV2; Cloud Storage JSON API v1, Objects: list.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from operator import lt
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

from domicile.backup.stores.base import Page, StoreError

_MAX_NAME_BYTES = 1024
_EMPTY_PAGES = 1000
Ask = Callable[[str | None], tuple[Page, str | None]]
"""One page of a listing behind a token, and the token of the next."""


class MalformedError(ValueError):
    """It is no answer to a listing. The message quotes nothing of it."""


def of_s3(answer: bytes) -> tuple[Page, str | None]:
    """The objects of a ListObjectsV2 answer, and the token of the next page. Raises MalformedError."""
    try:
        # expat has refused exponential entities since 2.4.1, and Python 3.11 links a newer one.
        tree = ElementTree.fromstring(answer)  # noqa: S314
    except ElementTree.ParseError:
        raise MalformedError("it is not XML") from None
    space = tree.tag.partition("}")[0] + "}" if tree.tag.startswith("{") else ""
    if tree.tag != f"{space}ListBucketResult":
        raise MalformedError("it is another document")
    key, etag, size = f"{space}Key", f"{space}ETag", f"{space}Size"
    # Field by field of each object: columns picked one by one would slip where one lacks a field.
    entries = [{field.tag: field.text for field in entry} for entry in tree.iterfind(f"{space}Contents")]
    try:
        names = [entry[key] or "" for entry in entries]
        versions = [(entry[etag] or "").strip('"') for entry in entries]
        sizes = [entry[size] or "" for entry in entries]
    except KeyError:
        raise MalformedError("an object lacks its name, ETag or size") from None
    if tree.findtext(f"{space}EncodingType") == "url":
        names = list(map(_unquoted, names))
    token = tree.findtext(f"{space}NextContinuationToken") or None
    if (tree.findtext(f"{space}IsTruncated") == "true") != (token is not None):
        raise MalformedError("it does not say where it goes on")
    return _page(names, versions, sizes, [None] * len(names)), token


def of_boto(answer: Mapping[str, Any]) -> tuple[Page, str | None]:
    """The same of what botocore made of such an answer. Raises MalformedError."""
    entries, token = answer.get("Contents", []), answer.get("NextContinuationToken")
    try:
        names, etags, sizes = ([entry[field] for entry in entries] for field in ("Key", "ETag", "Size"))
    except KeyError:
        raise MalformedError("an object lacks its name, ETag or size") from None
    if bool(answer.get("IsTruncated")) != bool(token):
        raise MalformedError("it does not say where it goes on")
    return _page(names, [etag.strip('"') for etag in etags], sizes, [None] * len(names)), token


def of_gcs(answer: bytes) -> tuple[Page, str | None]:
    """The objects of an answer to objects.list, and the token of the next page. Raises MalformedError."""
    try:
        found = json.loads(answer)
        items, token = found.get("items", []), found.get("nextPageToken") or None
        columns = [[item[field] for item in items] for field in ("name", "generation", "size")]
        crcs = [_crc32c(item["crc32c"]) if "crc32c" in item else None for item in items]
        kind = found.get("kind")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        raise MalformedError("an object lacks its name, generation or size, or it is no JSON") from None
    if kind != "storage#objects":
        raise MalformedError("it is another document")
    if not isinstance(token, str | None):
        raise MalformedError("it does not say where it goes on")
    names, versions, sizes = columns
    return _page(names, versions, sizes, crcs), token


def in_order(where: str, ask: Ask, prefix: str, after: str) -> Iterator[Page]:
    """All pages, of which each goes on behind the one before. Raises StoreError for a store that does otherwise."""
    token, asked, last = None, set[str](), after
    while True:
        try:
            page, token = ask(token)
        except MalformedError as error:
            raise StoreError(f"{where} was listed with an answer that can't be understood: {error}") from None
        names = page.names
        if names and not all(map(lt, [last, *names], names)):
            raise StoreError(f"{where} lists its objects out of order; a general-purpose bucket is needed")
        if names and not (names[0].startswith(prefix) and names[-1].startswith(prefix)):
            raise StoreError(f"{where} lists other objects than were asked for")
        yield page
        if token is None:
            return
        if names:
            last, asked = names[-1], set()
        if token in asked:
            raise StoreError(f"{where} is listed in circles")
        if len(asked) == _EMPTY_PAGES:
            raise StoreError(f"{where} is listed without end: {_EMPTY_PAGES} pages in a row were empty")
        asked.add(token)


def _page(names: list[str], versions: list[Any], sizes: list[Any], crcs: list[int | None]) -> Page:
    """Raises MalformedError for what no object is called, and no version or size is."""
    if not all(isinstance(text, str) and text for column in (names, versions) for text in column):
        raise MalformedError("an object has no name or no version")
    try:
        if max((len(name.encode()) for name in names), default=0) > _MAX_NAME_BYTES:
            raise MalformedError(f"a name has more than {_MAX_NAME_BYTES} bytes")
    except UnicodeEncodeError:
        raise MalformedError("a name is not Unicode text") from None
    if not all(str(size).isascii() and str(size).isdigit() for size in sizes):
        raise MalformedError("a size is no number")
    return Page(names, versions, [int(size) for size in sizes], crcs)


def _unquoted(name: str) -> str:
    try:
        return unquote_to_bytes(name.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise MalformedError("a name is not UTF-8") from None


def _crc32c(encoded: str) -> int:
    return int(struct.unpack(">I", base64.b64decode(encoded, validate=True))[0])
