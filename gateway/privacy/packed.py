"""What is written in escapes, or packed into Base64 or hexadecimal, so that it can be read."""

from __future__ import annotations

import base64
import binascii
import html
import re
import zlib
from collections.abc import Iterator

from domicile.gateway.privacy.view import Edit, View

_ESCAPE = re.compile(
    r"&(?:#0*[0-9]{1,7}|#[xX]0*[0-9a-fA-F]{1,6});?|&[A-Za-z]{2,8};|(?:%[0-9a-fA-F]{2})+|(?:\\u[0-9a-fA-F]{4})+"
    r"|(?:\\x[0-9a-fA-F]{2})+|\\u\{[0-9a-fA-F]{1,6}\}|\\U[0-9a-fA-F]{8}|(?:\\[0-3][0-7]{2})+|\\[nrtbfv\"'/]|(?:=[0-9a-fA-F]{2}){4,}"
)
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{12,65536}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX = re.compile(r"(?<![A-Za-z0-9])(?:[0-9a-fA-F]{2}){10,32768}(?![A-Za-z0-9])")
_CONTROLS = dict.fromkeys("nrtbfv", " ")
# What may be packed, however it is glued to what is before, cut into lines or told by what is around.
_TOKEN = re.compile(
    r"[A-Za-z0-9+/_-]{12,76}(?:\r?\n[A-Za-z0-9+/]{12,76})+(?:\r?\n[A-Za-z0-9+/]{1,11})?|[A-Za-z0-9+/_-]{14,65536}"
)
_BASE32 = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z2-7]{16,65536}|[a-z2-7]{16,65536})(?![A-Za-z0-9])")
_BYTES = re.compile(
    r"(?:(?:0[xX])?[0-9a-fA-F]{2}[\s,:;-]{1,3}){7,65536}(?:0[xX])?[0-9a-fA-F]{2}(?![A-Za-z0-9])|0[xX](?:[0-9a-fA-F]{2}){8,32768}"
)
_READABLE = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]{8,}")
# Of a text: more than that of what is compressed would take too long.
_INFLATED = 2**16
DEPTH = 3
"""How often something packed is unpacked."""


def _unescaped(escape: str) -> str:
    head = escape[:2]
    if head[0] == "&":
        return html.unescape(escape)
    if head[0] in "%=":
        return bytes.fromhex(escape.replace(head[0], "")).decode("utf-8", "replace")
    if head == "\\x":
        return bytes.fromhex(escape.replace("\\x", "")).decode("utf-8", "replace")
    if head == "\\U" or escape.startswith("\\u{"):
        point = int(escape[2:].strip("{}"), 16)
        return chr(point) if point < 0xD800 or 0xDFFF < point < 0x110000 else escape
    if head == "\\u":
        return bytes.fromhex(escape.replace("\\u", "")).decode("utf-16-be", "replace")
    if head[1].isdigit():
        return bytes(int(each, 8) for each in escape[1:].split("\\")).decode("utf-8", "replace")
    return _CONTROLS.get(head[1], head[1])


def _edits(view: View) -> Iterator[Edit]:
    for found in _ESCAPE.finditer(view.text):
        if (plain := _unescaped(found[0])) != found[0]:
            yield Edit(*found.span(), plain)


def unescaped(view: View) -> View:
    """The view without escapes of HTML, URLs and programs; the same object where there are none."""
    for _ in range(DEPTH):
        if not any(mark in view.text for mark in "&%\\="):
            break
        before, view = view, view.edited(_edits(view))
        if view is before:
            break
    return view


def _text(raw: bytes) -> str | None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    readable = sum(c.isprintable() or c in "\t\r\n" for c in text)
    return text if len(text) >= 6 and readable == len(text) else None


def _candidates(view: View) -> Iterator[tuple[int, int, bytes]]:
    for found in _BASE64.finditer(view.text):
        token = found[0].rstrip("=").replace("-", "+").replace("_", "/")
        # Words of one case are no Base64, and most of a text is words.
        if len(token) % 4 == 1 or (token.isalpha() and (token.islower() or token[1:].islower() or token.isupper())):
            continue
        try:
            yield found.start(), found.end(), base64.b64decode(token + "=" * (-len(token) % 4), validate=True)
        except binascii.Error:
            continue
    for found in _HEX.finditer(view.text):
        if not found[0].isdigit() or len(found[0]) >= 24:
            yield found.start(), found.end(), bytes.fromhex(found[0])


def unpacked(view: View) -> Iterator[View]:
    """Each text that is packed into one token of the view. It may hold packed texts again."""
    for start, end, raw in _candidates(view):
        if text := _text(raw):
            yield View.inside(text, *view.span(start, end))


def _inflated(raw: bytes, most: int) -> bytes:
    """What is compressed, ``most`` bytes of it; else what it was."""
    if raw[:2] == b"\x1f\x8b" or (raw[:1] == b"\x78" and len(raw) > 2 and int.from_bytes(raw[:2], "big") % 31 == 0):
        try:
            return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw, most)
        except zlib.error:
            return raw
    return raw


def _guesses(view: View) -> Iterator[tuple[int, int, bytes]]:
    for found in _TOKEN.finditer(view.text):
        token = re.sub(r"\s", "", found[0]).replace("-", "+").replace("_", "/")
        if found[0].isalpha() and (token.islower() or token[1:].islower()):
            continue
        for skipped in range(4):
            # What is left over at the end is no whole byte.
            left = token[skipped:]
            left = left[: len(left) - (len(left) % 4 == 1)]
            yield *found.span(), base64.b64decode(left + "=" * (-len(left) % 4))
    for found in _BASE32.finditer(view.text):
        token = found[0].upper()
        try:
            yield *found.span(), base64.b32decode(token + "=" * (-len(token) % 8))
        except binascii.Error:
            continue
    for found in _BYTES.finditer(view.text):
        yield *found.span(), bytes.fromhex(re.sub(r"0[xX]|[^0-9a-fA-F]", "", found[0]))


def guessed(view: View) -> Iterator[View]:
    """What can be read among the bytes of what may be packed: only check digits and mail addresses count there."""
    left = _INFLATED
    for start, end, raw in _guesses(view):
        # 0 would be no bound.
        plain = _inflated(raw, max(1, left))
        left -= max(0, len(plain) - len(raw))
        for readable in _READABLE.findall(plain.replace(b"\0", b"")):
            if b"@" in readable or sum(48 <= byte <= 57 for byte in readable) >= 8:
                yield View.inside(readable.decode("latin-1"), *view.span(start, end))
