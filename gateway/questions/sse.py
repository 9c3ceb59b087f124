"""Server-sent events (WHATWG HTML, 9.2): read with bounds, and written."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple


class BrokenStreamError(Exception):
    """The bytes are no stream of events that is taken here."""


class Event(NamedTuple):
    """One event; ``name`` is empty where it was not given."""

    name: str
    data: str

    def encode(self) -> bytes:
        """The event's bytes."""
        head = f"event: {self.name}\n" if self.name else ""
        lines = "".join(f"data: {line}\n" for line in self.data.split("\n"))
        return f"{head}{lines}\n".encode()


ALIVE = b": alive\n\n"
"""A comment, which keeps a connection open."""


class Reader:
    """Takes bytes, cut anywhere, and gives events. Comments and fields that are not known count for nothing."""

    def __init__(self, limit: int) -> None:
        """``limit``: characters of one event, lines without an end included."""
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._rest: list[str] = []
        self._size = 0
        self._after_return = False
        self._name = ""
        self._data: list[str] = []
        self.comments = 0
        """How many there were."""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that ``chunk`` ends, to be taken before the next one. Raises BrokenStreamError."""
        try:
            text = self._decoder.decode(chunk)
        except UnicodeDecodeError:
            raise BrokenStreamError("no UTF-8") from None
        if text and self._after_return:
            # The second half of a line's end that was cut.
            text = text.removeprefix("\n")
            self._after_return = False
        self._after_return = self._after_return or text.endswith("\r")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for at, line in enumerate(lines):
            self._size += len(line)
            if self._size > self._limit:
                raise BrokenStreamError("an event is too long")
            self._rest.append(line)
            if at < len(lines) - 1:
                whole, self._rest = "".join(self._rest), []
                yield from self._line(whole)

    def _line(self, line: str) -> list[Event]:
        if not line:
            ended = [Event(self._name, "\n".join(self._data))] if self._data else []
            self._name, self._data, self._size = "", [], 0
            return ended
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif not field:
            self._size -= len(line)
            self.comments += 1
        return []
