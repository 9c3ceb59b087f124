"""A question of an assistant in mode structured: what people have written in it is a declared intent, all of it.

What only the assistant writes (instructions, tools, formats) passes as in mode free. Of what people could have written,
or put in afterwards, nothing does but texts that are intents: no earlier turns, for a client may have kept and changed
them, and tools' calls and outputs only behind the last thing that somebody said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from domicile.gateway.questions.intents import Intents
from domicile.gateway.questions.refusal import RefusedError


def admitted(intents: Intents, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body with each text of people's as its intent has it. Raises RefusedError (422).

    ``path``: the route's, after a provider's base URL.
    """
    if (admit := _ROUTES.get(path)) is None:
        raise _unknown("This route")
    return admit(intents, body)


def _unknown(what: str) -> RefusedError:
    return RefusedError(
        422, "intent_unknown", f"{what} is none of the questions that this assistant may be asked (mode structured)."
    )


def _said(intents: Intents, text: Any, path: str) -> str:
    said = intents.instance(text) if isinstance(text, str) else None
    if said is None:
        raise _unknown(path)
    return said


def _content(intents: Intents, content: Any, path: str, kind: str) -> Any:
    if not isinstance(content, list):
        return _said(intents, content, path)
    if not content:
        raise _unknown(path)
    made = []
    for at, part in enumerate(content):
        if not isinstance(part, dict) or part.keys() != {"type", "text"} or part["type"] != kind:
            raise _unknown(f"{path}[{at}]")
        made.append({"type": kind, "text": _said(intents, part["text"], f"{path}[{at}].text")})
    return made


def _chat(intents: Intents, body: dict[str, Any]) -> dict[str, Any]:
    if body.get("prediction") is not None:
        raise _unknown("prediction")
    return body | {"messages": _turns(intents, body.get("messages"), "messages", _message)}


def _message(intents: Intents, message: dict[str, Any], path: str) -> tuple[str, dict[str, Any]]:
    match message.get("role"):
        case "system" | "developer":
            return "own", message
        case "user" if message.keys() == {"role", "content"}:
            return "said", message | {"content": _content(intents, message["content"], f"{path}.content", "text")}
        case "assistant" if message.keys() <= {"role", "content", "tool_calls"} and not message.get("content"):
            return "tool", message
        case "tool":
            return "tool", message
    raise _unknown(path)


def _responses(intents: Intents, body: dict[str, Any]) -> dict[str, Any]:
    asked = body.get("input")
    if isinstance(asked, str):
        return body | {"input": _said(intents, asked, "input")}
    return body | {"input": _turns(intents, asked, "input", _item)}


def _item(intents: Intents, item: dict[str, Any], path: str) -> tuple[str, dict[str, Any]]:
    match item.get("type", "message"), item.get("role"):
        case "message", "system" | "developer":
            return "own", item
        case "message", "user" if item.keys() <= {"type", "role", "content"}:
            return "said", item | {"content": _content(intents, item.get("content"), f"{path}.content", "input_text")}
        case "function_call" | "function_call_output" | "custom_tool_call" | "custom_tool_call_output", _:
            return "tool", item
    raise _unknown(path)


_Turn = Callable[[Intents, dict[str, Any], str], tuple[str, dict[str, Any]]]


def _turns(intents: Intents, turns: Any, path: str, admit: _Turn) -> list[dict[str, Any]]:
    if not isinstance(turns, list):
        raise _unknown(path)
    made: list[dict[str, Any]] = []
    kinds: list[str] = []
    for at, turn in enumerate(turns):
        kind, kept = admit(intents, turn if isinstance(turn, dict) else {}, f"{path}[{at}]")
        if kind == "said" and "tool" in kinds:
            raise _unknown(f"{path}[{kinds.index('tool')}]")
        made.append(kept)
        kinds.append(kind)
    # Where people are not heard, their words are somewhere else.
    if "said" not in kinds:
        raise _unknown(path)
    return made


def _embeddings(intents: Intents, body: dict[str, Any]) -> dict[str, Any]:
    asked = body.get("input")
    if isinstance(asked, list) and asked:
        return body | {"input": [_said(intents, text, f"input[{at}]") for at, text in enumerate(asked)]}
    return body | {"input": _said(intents, asked, "input")}


_ROUTES: Final[dict[str, Callable[[Intents, dict[str, Any]], dict[str, Any]]]] = {
    "/chat/completions": _chat,
    "/responses": _responses,
    "/embeddings": _embeddings,
}
