"""What stands for a value in a question, such as ``[PERSON_7Q2KX4ABCDWXYZ]``: kind and tag.

A tag is base32 (RFC 4648) of two HMAC-SHA-256 (RFC 2104) under a key of the tenant: 10 characters over conversation,
kind and value, so a value has the same placeholder throughout a conversation and another one elsewhere; and 4 over
conversation, kind and those 10, by which a placeholder of the conversation is known from text that only looks like
one. Of two values of one question with the same placeholder the later gets 16 characters in place of the 10; across
questions that is left to chance: 10,000 values of a conversation collide with a probability below 5e-8, and the
vault keeps the first.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Iterator
from typing import Final

_SHORT: Final = 10
_LONG: Final = 16
_CHECK: Final = 4
_SHAPE: Final = re.compile(
    rf"\[([A-Za-z][A-Za-z0-9_]{{0,47}})_([A-Za-z2-7]{{{_SHORT}}}(?:[A-Za-z2-7]{{{_LONG - _SHORT}}})?)"
    rf"([A-Za-z2-7]{{{_CHECK}}})\]"
)
_KIND: Final = re.compile(r"[A-Z][A-Z0-9_]{0,47}", re.ASCII)


class Placeholders:
    """Those of one conversation; ``made`` maps each to its value, in the order in which they were made."""

    def __init__(self, key: bytes, conversation: str, *, reversible: bool) -> None:
        """``key``: 32 bytes of the tenant's, for nothing else."""
        self._key = key
        self._conversation = conversation
        self._reversible = reversible
        self.made: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        """The same the other way round, and also of those that nothing comes back for."""

    def of(self, kind: str, value: str) -> str:
        """What stands for a value. Raises ValueError where the kind can't be part of it."""
        if not _KIND.fullmatch(kind):
            raise ValueError("a kind has capital letters, digits and underscores")
        if not self._reversible:
            return self.hidden.setdefault(value, f"[{kind}]")
        digest = self._digest("value", kind, value)
        for length in (_SHORT, _LONG):
            tag = digest[:length]
            placeholder = f"[{kind}_{tag}{self._check(kind, tag)}]"
            if self.made.setdefault(placeholder, value) == value:
                self.hidden[value] = placeholder
                return placeholder
        raise ValueError("two values have the same placeholder")

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a text in their order, none empty; True: a placeholder of this conversation."""
        at = 0
        for found in _SHAPE.finditer(text):
            kind, tag, check = (part.upper() for part in found.groups())
            if hmac.compare_digest(check, self._check(kind, tag)):
                if found.start() > at:
                    yield text[at : found.start()], False
                yield found[0], True
                at = found.end()
        if at < len(text):
            yield text[at:], False

    def _check(self, kind: str, tag: str) -> str:
        return self._digest("check", kind, tag)[:_CHECK]

    def _digest(self, *parts: str) -> str:
        # Only the last one may hold a NUL.
        message = "\0".join((self._conversation, *parts)).encode()
        return b32encode(hmac.digest(self._key, message, "sha256")).decode()


def canonical(placeholder: str) -> str:
    """As it was made, whatever case a model gave it."""
    return placeholder.upper()


def like(text: str) -> Iterator[re.Match[str]]:
    """Where a text has what may be placeholders."""
    return _SHAPE.finditer(text)
