"""Canonical JSON: one byte sequence for each value, so that digests and MACs over it are unambiguous.

Keys sorted, no spaces, ASCII only, no duplicate keys, numbers in their shortest form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from domicile.backup.errors import IntegrityError

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_HEX = re.compile(r"[0-9a-f]*")
MAX_COUNT = 1 << 53


def encode(value: Any) -> bytes:
    """The canonical bytes of a JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def decode(data: bytes, what: str) -> Any:
    """The value of canonical bytes. Raises IntegrityError, naming ``what``, for anything that is not canonical."""
    try:
        value = json.loads(data.decode("ascii"))
        if encode(value) == data:
            return value
    except (ValueError, RecursionError):
        pass
    raise IntegrityError(f"{what} is not canonical JSON")


def fields(value: Any, what: str, **checks: Callable[[Any], bool]) -> dict[str, Any]:
    """``value`` as a dict of exactly these keys whose values pass. Raises IntegrityError."""
    if not isinstance(value, dict) or value.keys() != checks.keys():
        raise IntegrityError(f"{what} does not have exactly the fields {', '.join(sorted(checks))}")
    for key, check in checks.items():
        if not check(value[key]):
            raise IntegrityError(f"{what} has a malformed {key}")
    return value


def count(value: Any) -> bool:
    """Whether it is an integer from 0 to 2**53."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def hexadecimal(digits: int) -> Callable[[Any], bool]:
    """Whether it is a string of so many lower-case hex digits."""
    return lambda value: isinstance(value, str) and len(value) == digits and _HEX.fullmatch(value) is not None


def text(value: Any) -> bool:
    """Whether it is a string of 1 to 256 characters."""
    return isinstance(value, str) and 1 <= len(value) <= 256


def moment(value: Any) -> bool:
    """Whether it is a time as ``format_time`` writes it."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        return bool(parse_time(value))
    except ValueError:
        return False


def format_time(at: datetime) -> str:
    """RFC 3339 in UTC with six digits of a second."""
    return at.astimezone(UTC).strftime(_TIME_FORMAT)


def parse_time(value: str) -> datetime:
    """The moment that ``format_time`` wrote. Raises ValueError."""
    return datetime.strptime(value, _TIME_FORMAT).replace(tzinfo=UTC)
