"""What is written in escapes, or packed into Base64 or hexadecimal, so that it can be read."""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Iterator

from domicile.gateway.privacy.view import Edit, View

_ESCAPE = re.compile(
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});|(?:%[0-9a-fA-F]{2})+|(?:\\u[0-9a-fA-F]{4})+|(?:\\x[0-9a-fA-F]{2})+"
)
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{12,65536}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX = re.compile(r"(?<![A-Za-z0-9])(?:[0-9a-fA-F]{2}){10,32768}(?![A-Za-z0-9])")
DEPTH = 3
"""How often something packed is unpacked."""


def _unescaped(escape: str) -> str:
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[0] == "%":
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", "replace")
    if escape[1] == "x":
        return bytes.fromhex(escape.replace("\\x", "")).decode("utf-8", "replace")
    units = bytes.fromhex(escape.replace("\\u", ""))
    return units.decode("utf-16-be", "replace")


def _edits(view: View) -> Iterator[Edit]:
    for found in _ESCAPE.finditer(view.text):
        if (plain := _unescaped(found[0])) != found[0]:
            yield Edit(*found.span(), plain)


def unescaped(view: View) -> View:
    """The view without escapes of HTML, URLs and programs; the same object where there are none."""
    for _ in range(DEPTH):
        if not any(mark in view.text for mark in ("&", "%", "\\")):
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
