"""Answers of providers on their way in: values in place of placeholders, whole or event by event.

Fields that are not known are passed on, with values in their texts: what comes in was asked for by nobody else.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from domicile.gateway.questions.restoring import Pieces, Restorer, is_json
from domicile.gateway.questions.sse import Event
from domicile.gateway.questions.strict import encode

_Path = tuple[str | int, ...]
DONE: Final = "[DONE]"


class BrokenAnswerError(Exception):
    """The answer is not what its route has; the message quotes nothing of it."""


def parse(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises BrokenAnswerError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenAnswerError("the answer is not JSON") from None
    if not isinstance(value, dict) or value.get("error"):
        raise BrokenAnswerError("the answer is no object, or says that something failed")
    return value


@contextmanager
def _writing() -> Iterator[None]:
    """Raises BrokenAnswerError for what JSON or UTF-8 can't hold, and for what is too deep."""
    try:
        yield
    except (ValueError, RecursionError):
        raise BrokenAnswerError("the answer can't be written as JSON") from None


class Answer(ABC):
    """One answer to one question."""

    def __init__(self, restorer: Restorer, model: str, *, json_answer: bool) -> None:
        """``model``: the id that was asked for; ``json_answer``: JSON was asked for."""
        self.restorer = restorer
        self.model = model
        self.json_answer = json_answer
        self.tokens: int | None = None
        """All that the provider counted, once it has said so."""
        self.ended = False
        """Whether the stream came to its end."""

    def whole(self, raw: bytes) -> bytes:
        """An answer in one piece. Raises BrokenAnswerError."""
        body = parse(raw)
        self._count(body)
        with _writing():
            return encode(self._named(self.restorer.tree(body, json_answer=self.json_answer))).encode()

    def event(self, event: Event) -> list[bytes]:
        """What an event of a stream becomes. Raises BrokenAnswerError."""
        with _writing():
            return [made.encode() for made in self._events(event)]

    @abstractmethod
    def _events(self, event: Event) -> Iterator[Event]:
        """As ``event``, not written yet."""

    def _named(self, body: Any) -> Any:
        if "model" in body:
            body["model"] = self.model
        return body

    def _count(self, body: dict[str, Any]) -> None:
        usage = body.get("usage")
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        if isinstance(total, int) and 0 <= total < 2**40:
            self.tokens = total


class ChatAnswer(Answer):
    """Of chat completions (https://platform.openai.com/docs/api-reference/chat-streaming), and of embeddings."""

    def __init__(self, restorer: Restorer, model: str, *, json_answer: bool, usage: bool) -> None:
        """``usage``: whether the client has asked for the tokens of a stream."""
        super().__init__(restorer, model, json_answer=json_answer)
        self._usage = usage
        self._pieces: dict[tuple[int, _Path], Pieces] = {}
        self._last: dict[str, Any] = {}

    def _events(self, event: Event) -> Iterator[Event]:
        """As Answer's."""
        if event.data == DONE:
            yield from self._rest()
            self.ended = True
            yield Event("", DONE)
            return
        chunk = parse(event.data)
        self._count(chunk)
        choices = chunk.pop("choices", None)
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise BrokenAnswerError("a chunk has no choices")
        counted = chunk.pop("usage", None) if not self._usage else None
        if counted is not None and not choices:
            return
        made = self._named(self.restorer.tree(chunk))
        self._last = dict(made)
        yield _event(made | {"choices": [self._choice(choice) for choice in choices]})

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        index, delta = choice.get("index", 0), choice.pop("delta", None)
        made: dict[str, Any] = self.restorer.tree(choice)
        if not isinstance(index, int) or not isinstance(delta, (dict, type(None))):
            raise BrokenAnswerError("a choice has no index or no delta")
        made["delta"] = self._delta(index, (), delta or {})
        if made.get("finish_reason") is not None:
            self._flush(index, made["delta"])
        return made

    def _delta(self, index: int, path: _Path, value: Any) -> Any:
        match value:
            case str():
                if (pieces := self._pieces.get((index, path))) is None:
                    escaped = is_json(str(path[-1]) if path else "", json_answer=self.json_answer)
                    pieces = self._pieces[index, path] = Pieces(self.restorer, escaped=escaped)
                return pieces.feed(value)
            case list():
                return [self._delta(index, (*path, _place(each, at)), each) for at, each in enumerate(value)]
            case dict():
                return {key: self._delta(index, (*path, key), each) for key, each in value.items()}
            case _:
                return value

    def _flush(self, index: int, delta: dict[str, Any]) -> bool:
        """Put what was held back of a choice into a delta of it; False: there was nothing."""
        some = False
        for (of, path), pieces in self._pieces.items():
            if of == index and (rest := pieces.end()):
                _append(delta, path, rest)
                some = True
        return some

    def _rest(self) -> Iterator[Event]:
        for index in sorted({index for index, _ in self._pieces}):
            delta: dict[str, Any] = {}
            if self._flush(index, delta):
                choice = {"index": index, "delta": delta, "finish_reason": None}
                yield _event(self._last | {"choices": [choice]})


_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_PLACE: Final = ("item_id", "output_index", "content_index", "summary_index")


class ResponsesAnswer(Answer):
    """Of responses (https://platform.openai.com/docs/api-reference/responses-streaming)."""

    def __init__(self, restorer: Restorer, model: str, *, json_answer: bool) -> None:
        super().__init__(restorer, model, json_answer=json_answer)
        self._pieces: dict[tuple[Any, ...], tuple[Pieces, dict[str, Any]]] = {}
        self._more = 0

    def _events(self, event: Event) -> Iterator[Event]:
        """As Answer's."""
        if event.data == DONE:
            return
        body = parse(event.data)
        kind = body.get("type")
        if not isinstance(kind, str) or kind == "error":
            raise BrokenAnswerError("an event has no type, or says that something failed")
        base = kind.rpartition(".")[0]
        key = (base, *(str(body.get(name)) for name in _PLACE))
        if kind.endswith(".delta") and isinstance(delta := body.pop("delta", None), str):
            made = self.restorer.tree(body)
            if key not in self._pieces:
                self._pieces[key] = Pieces(self.restorer, escaped=self._escaped(base)), made
            yield self._event(made | {"delta": self._pieces[key][0].feed(delta)})
            return
        for ended in [key] if kind.endswith(".done") else [*self._pieces] if kind in _LAST else []:
            if (known := self._pieces.pop(ended, None)) and (rest := known[0].end()):
                self._more += 1
                before = {**known[1], "sequence_number": _number(body) - 1}
                yield self._event(before | {"delta": rest})
        if isinstance(inner := body.get("response"), dict):
            self._count(inner)
            if inner.get("error"):
                inner["error"] = {"code": "server_error", "message": "The provider has failed."}
        made = self.restorer.tree(body, json_answer=self.json_answer)
        if isinstance(made.get("response"), dict):
            self._named(made["response"])
        self.ended = self.ended or kind in _LAST
        yield self._event(made)

    def _escaped(self, base: str) -> bool:
        return base.endswith("arguments") or (self.json_answer and base == "response.output_text")

    def _event(self, body: dict[str, Any]) -> Event:
        if "sequence_number" in body:
            # Events that were put in between count.
            body["sequence_number"] = _number(body) + self._more
        return Event(body["type"], encode(body))


def _number(body: dict[str, Any]) -> int:
    number = body.get("sequence_number", 0)
    if not isinstance(number, int):
        raise BrokenAnswerError("a number of an event is none")
    return number


def _event(chunk: dict[str, Any]) -> Event:
    return Event("", encode(chunk))


def _place(value: Any, at: int) -> int:
    """Which of several things in a delta: they name their number themselves."""
    index = value.get("index", at) if isinstance(value, dict) else at
    return index if isinstance(index, int) else at


def _append(delta: Any, path: _Path, text: str) -> None:
    """Add text to the string at a path, making what is not there yet."""
    for at, key in enumerate(path[:-1]):
        fresh: Any = [] if isinstance(path[at + 1], int) else {}
        if isinstance(key, int):
            found = next((each for place, each in enumerate(delta) if _place(each, place) == key), None)
            if found is None:
                found = fresh if isinstance(fresh, list) else {"index": key}
                delta.append(found)
            delta = found
        else:
            if delta.get(key) is None:
                delta[key] = fresh
            delta = delta[key]
    last = path[-1]
    if isinstance(last, int):
        delta.append(text)
    else:
        delta[last] = (delta.get(last) or "") + text
