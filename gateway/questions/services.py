"""Services outside the site that are no models: any JSON, by POST, to hosts of the tenant's own list."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from domicile.api.gateway import Endpoint, GatewayConfig, ProviderKind
from domicile.gateway.questions.answers import BrokenAnswerError
from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.restoring import Restorer
from domicile.gateway.questions.rules import Anything, Walk
from domicile.gateway.questions.strict import encode

PREFIX: Final = "/domicile/services/"
PATTERN: Final = f"{PREFIX}{{host}}/{{path}}"
# Each segment as it stands: nothing that one server decodes or normalises and another doesn't.
_SEGMENT: Final = r"/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~:-]+"
_ADDRESS: Final = re.compile(rf"{PREFIX}([a-z0-9.-]{{1,253}})((?:{_SEGMENT}){{1,16}})", re.ASCII)
_MARKS: Final = re.compile(r"[/._~:-]+|(?<=[a-z])(?=[A-Z])", re.ASCII)
_CODED: Final = "[A-Za-z0-9+/_%=-]"
# Base64 or hexadecimal in one piece, or in lines. What it stands for may be a picture or a voice.
_BYTES: Final = re.compile(
    rf"(?<!{_CODED})(?:{_CODED}{{128}}|(?:{_CODED}{{40,}}\s{{1,8}}){{2}}{_CODED}{{16}})", re.ASCII
)
_NUMBERS: Final = 32
# Of a vector, such as an embedding; so much of a recording is no second of it.
_COMPONENTS: Final = 4096
_ANYTHING: Final = Anything()


@dataclass(frozen=True)
class Asked:
    """The rule of a question to a service: its path is looked at like its body, and nothing can stand for it."""

    path: str

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's; of ``{"path", "body"}`` only the latter is sent as it is rendered."""
        _check([self.path, value])
        words = _MARKS.sub(" ", self.path).strip()
        told = [walk.add(text, text, "The path") for text in dict.fromkeys([self.path, words, *words.split()])]
        return {"path": told, "body": _ANYTHING.apply(walk, value, path)}


def _check(value: Any) -> None:
    """Raises RefusedError (400) for what holds bytes, or a text as numbers: nobody here can look at it."""
    texts: list[str] = []
    whole = others = 0
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                texts.append(text)
            # Vectors may have any number of zeros and ones, which say nothing.
            case int() | float() as number if number not in {-1, 0, 1}:
                whole, others = (whole + 1, others) if float(number).is_integer() else (whole, others + 1)
            case list() as values:
                waiting += reversed(values)
            case dict() as held:
                waiting += reversed([each for pair in held.items() for each in pair])
    # Also where they are cut over the texts of a list.
    if _BYTES.search("\n".join(texts).replace("\\", "")):
        raise _unseen("A text of the body has 128 characters or more without a gap, or lines of such: encoded bytes")
    if whole > _NUMBERS:
        raise _unseen(f"The body has more than {_NUMBERS} whole numbers: tokens, or bytes")
    if others > _COMPONENTS:
        raise _unseen(f"The body has more than {_COMPONENTS} numbers: a recording")


def _unseen(what: str) -> RefusedError:
    return RefusedError(400, "content_refused", f"{what}, which nobody here can look at.")


def found(config: GatewayConfig, path: str, today: date) -> tuple[Endpoint, str]:
    """The service that a route's path leads to, and the path there. Raises RefusedError (400, 404)."""
    address = _ADDRESS.fullmatch(path)
    if address is None:
        raise RefusedError(
            400,
            "invalid_path",
            "A service's path has up to 16 segments of letters, digits and any of . _ ~ : -, and nothing is encoded.",
        )
    host = address[1]
    service = next((each for each in config.services if each.host == host and today < each.until), None)
    if service is None:
        raise RefusedError(404, "service_not_found", "The tenant may reach no such service now (docs/egress.md).")
    endpoint = Endpoint(
        name=host.replace(".", "-")[:63].strip("-"),
        kind=ProviderKind.COMPATIBLE,
        base_url=f"https://{host}",
        models={},
        keyed=service.header is not None,
        header=service.header,
        through_egress=True,
    )
    return endpoint, address[2]


def answered(restorer: Restorer, raw: bytes) -> bytes:
    """A service's answer with values. Raises BrokenAnswerError."""
    try:
        return encode(restorer.tree(json.loads(raw))).encode()
    except (ValueError, RecursionError):
        raise BrokenAnswerError("the answer is not JSON") from None
