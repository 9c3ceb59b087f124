"""What may happen to a field of a question: the words in which routes' tables of fields are written.

A rule turns a JSON value into a node: the value, with a ``Text`` wherever there is something to look at. Nothing is
looked at yet, so a question is asked about as a whole or not at all. Raises RefusedError, naming the path of what is
wrong, never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.strict import NotJsonError, decode_text, encode

_NESTED: Final = 4
_PATH: Final = 200
_DECIMALS: Final = 4
_NAMING: Final = frozenset({"id", "call_id", "tool_call_id", "name"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_IMAGE: Final = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}", re.ASCII)


class Text(NamedTuple):
    """A text that is looked at: ``number`` of the walk's; ``path`` is set where nothing may be found in it."""

    number: int
    original: Any
    path: str | None = None


class Nested(NamedTuple):
    """JSON in a string; its texts are ``first`` to ``last`` (exclusive)."""

    node: Any
    original: str
    first: int
    last: int


class Pairs(NamedTuple):
    """An object whose keys are looked at, too."""

    items: list[tuple[Text, Any]]


class Walk:
    """The texts of one question."""

    def __init__(self, *, images: bool) -> None:
        """``images``: whether they may go to the provider."""
        self.images = images
        self.texts: list[str] = []
        self.beside: list[list[int]] = []
        """Texts that a model may read as one: parts of a message, elements of a list. In their order."""

    def chain(self, nodes: Iterable[Any]) -> None:
        """Have the texts of nodes looked at as one, too."""
        numbers = [each.number for node in nodes for each in _texts(node)]
        if len(numbers) > 1:
            self.beside.append(numbers)

    def add(self, original: Any, text: str, path: str | None = None) -> Text:
        """Have a text looked at."""
        self.texts.append(text)
        return Text(len(self.texts) - 1, original, path)

    def render(self, node: Any, replaced: list[str]) -> Any:
        """The node's JSON value with other texts in place of the walk's. Raises RefusedError."""
        match node:
            case Text(number, original, path):
                if replaced[number] == self.texts[number]:
                    return original
                if path is not None:
                    raise _bad(path, "holds personal data, and nothing can stand for it there", "personal_data")
                return replaced[number]
            case Nested(inner, original, first, last):
                same = replaced[first:last] == self.texts[first:last]
                return original if same else encode(self.render(inner, replaced))
            case Pairs(items):
                made = {self.render(key, replaced): self.render(value, replaced) for key, value in items}
                if len(made) != len(items):
                    raise RefusedError(422, "ambiguous_keys", "Two keys of an object would get the same placeholder.")
                return made
            case dict():
                return {key: self.render(value, replaced) for key, value in node.items()}
            case list():
                return [self.render(each, replaced) for each in node]
            case _:
                return node


def _texts(node: Any) -> Iterator[Text]:
    """The texts of a node that a model may read as one: no keys, and nothing that only names who speaks."""
    match node:
        case Text(_, _, None):
            yield node
        case Nested(Text() as inner):
            yield inner
        case list():
            for each in node:
                yield from _texts(each)
        case dict():
            for key, each in node.items():
                if key not in _NAMING:
                    yield from _texts(each)


class Rule(Protocol):
    """What happens to a value."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """The node. Raises RefusedError."""
        ...


def _bad(path: str, why: str, code: str = "invalid_value") -> RefusedError:
    return RefusedError(422 if code == "personal_data" else 400, code, f"{path[:_PATH]} {why}.")


@dataclass(frozen=True)
class Prose:
    """A text, looked at. Where it is JSON with escapes, what they stand for is looked at."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if not isinstance(value, str):
            raise _bad(path, "must be a string")
        return _prose(walk, value, path, 0)


@dataclass(frozen=True)
class Name:
    """A name of a tool or schema, looked at; providers take no placeholder for it, so a finding refuses."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise _bad(path, "must have 1 to 128 letters, digits or any of _ . : -")
        return walk.add(value, value, path)


@dataclass(frozen=True)
class Anything:
    """Any JSON: texts, keys and numbers are looked at. A number in which something is found becomes a string."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        return _anything(walk, value, path, 0)


@dataclass(frozen=True)
class Arguments:
    """JSON in a string, such as a tool call's arguments; empty: none."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if value == "":
            return value
        if not isinstance(value, str):
            raise _bad(path, "must be a string of JSON")
        try:
            return _nested(walk, value, path, 0)
        except NotJsonError:
            raise _bad(path, "must be a string of JSON") from None


def _prose(walk: Walk, text: str, path: str, level: int) -> Any:
    if "\\" in text and text.lstrip()[:1] in {"{", "[", '"'}:
        try:
            return _nested(walk, text, path, level)
        except NotJsonError:
            pass
    return walk.add(text, text)


def _nested(walk: Walk, text: str, path: str, level: int) -> Nested:
    value = decode_text(text)
    if level >= _NESTED:
        raise _bad(path, f"has JSON in strings more than {_NESTED} times within each other")
    first = len(walk.texts)
    node = _anything(walk, value, path, level + 1)
    return Nested(node, text, first, len(walk.texts))


def _measured(node: Text | Nested) -> bool:
    return isinstance(node.original, float) and not node.original.is_integer()


def _anything(walk: Walk, value: Any, path: str, level: int) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            return _prose(walk, value, path, level)
        case int() | float():
            plain = int(value) if isinstance(value, int) or value.is_integer() else value
            return walk.add(value, str(plain))
        case list():
            made = [_anything(walk, each, path, level) for each in value]
            # Not what is in lists within, which are looked at for themselves, and no measured values.
            walk.chain(each for each in made if isinstance(each, (Text, Nested)) and not _measured(each))
            return made
        case _:
            return Pairs([(walk.add(k, k), _anything(walk, each, path, level)) for k, each in value.items()])


@dataclass(frozen=True)
class Switch:
    """A boolean, passed on; ``only``: the one that is taken."""

    only: bool | None = None

    def apply(self, walk: Walk, value: Any, path: str) -> Any:  # noqa: ARG002
        """As Rule's."""
        if not isinstance(value, bool) or self.only not in {None, value}:
            raise _bad(path, "must be a boolean" if self.only is None else f"must be {str(self.only).lower()}")
        return value


@dataclass(frozen=True)
class Number:
    """A number within bounds, passed on to 4 decimals: neither leaves room for anybody's."""

    least: float
    most: float

    def apply(self, walk: Walk, value: Any, path: str) -> Any:  # noqa: ARG002
        """As Rule's."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.least <= value <= self.most:
            raise _bad(path, f"must be a number from {self.least:g} to {self.most:g}")
        return value if isinstance(value, int) else round(value, _DECIMALS)


@dataclass(frozen=True)
class Seed:
    """A whole number of any size, looked at; a finding refuses."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise _bad(path, "must be a whole number")
        return walk.add(value, str(value), path)


class OneOf:
    """One of these words, passed on."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def apply(self, walk: Walk, value: Any, path: str) -> Any:  # noqa: ARG002
        """As Rule's."""
        if value not in self._words:
            raise _bad(path, f"must be one of {', '.join(self._words)}")
        return value


@dataclass(frozen=True)
class Bias:
    """Weights (-100 to 100) by numbers of tokens, passed on."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if not isinstance(value, dict) or not all(re.fullmatch(r"[0-9]{1,6}", key, re.ASCII) for key in value):
            raise _bad(path, "must be an object of numbers of tokens")
        return {key: Number(-100, 100).apply(walk, weight, path) for key, weight in value.items()}


@dataclass(frozen=True)
class Image:
    """An image as a ``data:`` URL, passed on as it is where the tenant lets it."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if not walk.images:
            raise _bad(path, "is an image, and the tenant lets none go to a provider", "images_refused")
        if not isinstance(value, str) or not _IMAGE.fullmatch(value):
            raise _bad(path, "must be a data: URL of a PNG, JPEG, WebP or GIF; others are not fetched", "url_refused")
        return value


@dataclass(frozen=True)
class Refuse:
    """Never passed on."""

    why: str
    code: str = "unsupported_field"

    def apply(self, walk: Walk, value: Any, path: str) -> Any:  # noqa: ARG002
        """As Rule's."""
        raise _bad(path, self.why, self.code)


@dataclass(frozen=True)
class Each:
    """A list."""

    rule: Rule

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if not isinstance(value, list):
            raise _bad(path, "must be a list")
        made = [self.rule.apply(walk, each, f"{path}[{at}]") for at, each in enumerate(value)]
        walk.chain(made)
        return made


@dataclass(frozen=True)
class Either:
    """One rule for strings, another one for anything else."""

    string: Rule
    other: Rule

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        return (self.string if isinstance(value, str) else self.other).apply(walk, value, path)


@dataclass(frozen=True)
class Drop:
    """A field that is left out."""


@dataclass(frozen=True)
class Force:
    """A field that is always this, whatever was asked."""

    value: Any


Entry = Rule | Drop | Force
"""What a table says of a field."""


@dataclass(frozen=True)
class Fields:
    """An object that has these fields and no others; null is passed on as null."""

    table: Mapping[str, Entry]
    needed: tuple[str, ...] = ()

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if not isinstance(value, dict):
            raise _bad(path or "The body", "must be an object")
        made: dict[str, Any] = {}
        for key, each in value.items():
            if (rule := self.table.get(key)) is None:
                raise _bad(_join(path, key), "is not known here, and so not passed on", "unknown_field")
            if not isinstance(rule, (Drop, Force)):
                made[key] = None if each is None else rule.apply(walk, each, _join(path, key))
        for key in self.needed:
            if made.get(key) is None:
                raise _bad(_join(path, key), "is missing", "missing_field")
        return made | {key: rule.value for key, rule in self.table.items() if isinstance(rule, Force)}


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


@dataclass(frozen=True)
class ByWord:
    """An object whose field ``key`` says which fields it has; without it ``otherwise``."""

    key: str
    table: Mapping[str, Rule]
    otherwise: str = ""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if not isinstance(value, dict):
            raise _bad(path, "must be an object")
        word = value.get(self.key, self.otherwise)
        if not isinstance(word, str) or (rule := self.table.get(word)) is None:
            raise _bad(f"{path}.{self.key}", f"must be one of {', '.join(self.table)}", "unsupported_type")
        return rule.apply(walk, value, path)
