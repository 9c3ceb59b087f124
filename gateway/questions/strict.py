"""JSON read so that nobody behind can read it otherwise (RFC 8259; RFC 7493, I-JSON, 2.1 to 2.3)."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from domicile.gateway.questions.refusal import RefusedError

DEPTH: Final = 64
"""Objects and arrays within each other."""
_DIGITS: Final = 40


def decode(raw: bytes) -> Any:
    """The value. Raises RefusedError (400) where ``raw`` is no UTF-8 or no JSON that can be read in one way only."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _refused("The body is not UTF-8.") from None
    return decode_text(text)


def decode_text(text: str) -> Any:
    """As ``decode``, of a text that is already characters. Raises NotJsonError where it is no JSON at all."""
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
    except json.JSONDecodeError:
        raise NotJsonError(400, "invalid_json", "The body is not JSON.") from None
    except RecursionError:
        raise _deep() from None
    _check(value)
    return value


class NotJsonError(RefusedError):
    """The text is no JSON."""


def encode(value: Any) -> str:
    """The shortest JSON of a value, in which all but control characters, quotes and backslashes stand as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _refused(message: str) -> RefusedError:
    return RefusedError(400, "invalid_json", message)


def _deep() -> RefusedError:
    return _refused(f"JSON may be nested {DEPTH} levels deep.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _refused("An object has the same key twice.")
    return made


def _constant(_: str) -> Any:
    raise _refused("NaN and Infinity are no JSON.")


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise _refused(f"A number has more than {_DIGITS} digits.")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > _DIGITS or not math.isfinite(value := float(digits)):
        raise _refused(f"A number is too large or has more than {_DIGITS} digits.")
    return value


def _check(value: Any) -> None:
    """Depth and lone surrogates. Raises RefusedError."""
    waiting = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if isinstance(each, str):
            _check_text(each)
        elif isinstance(each, (dict, list)):
            if depth > DEPTH:
                raise _deep()
            inner: list[Any] = each if isinstance(each, list) else [*each, *each.values()]
            waiting.extend((one, depth + 1) for one in inner)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused("A text has half of a surrogate pair.") from None
