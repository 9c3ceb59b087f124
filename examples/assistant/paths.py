"""Paths of requests, compared by segment, so that no way to write one passes for another (RFC 3986, 3.3 and 6.2.2)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

Segments = tuple[str, ...]

# What some server might decode again, split at or cut off is not plain: / \ % ; ? # and all but printable ASCII.
_PLAIN = re.compile(rb"[ !$&'()*+,\-.0-9:=@A-Z_a-z~]*")


def segments(target: str) -> Segments | None:
    """The decoded segments of a request's target, query apart; the last one is empty where the path ends with /.

    None where the path is not plain: dot segments, encoded or doubly encoded separators, and the like.
    """
    path = target.partition("?")[0]
    if not path.startswith("/") or not path.isascii():
        return None
    found = [unquote_to_bytes(part) for part in path[1:].split("/")]
    if not all(_PLAIN.fullmatch(part) for part in found):
        return None
    if b"." in found or b".." in found:
        return None
    return tuple(part.decode("ascii") for part in found)


def is_below(target: str, prefix: Segments) -> bool:
    """Whether the target is plain, and is the prefix or lies below it; what is not plain lies nowhere."""
    found = segments(target)
    return found is not None and found[: len(prefix)] == prefix
