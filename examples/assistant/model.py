"""The model: an OpenAI-compatible chat completions endpoint, always streamed.

Reference: https://platform.openai.com/docs/api-reference/chat/streaming
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp

CONVERSATION = "Domicile-Conversation"
MAX_ANSWER_CHARS = 32_000
# A model may think for a while before its first word; a stream that stalls for this long (seconds) is broken.
TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=5, sock_read=60)


class ModelError(Exception):
    """The model gave no answer, or a broken one. The message holds nothing of the question."""


class ModelTimeoutError(ModelError):
    """The model took too long."""


class UnknownQuestionError(ModelError):
    """Mode structured: the question is none of those that may be asked."""


class ForbiddenQuestionError(ModelError):
    """What the model was to be given holds something that nobody may ask."""


_REFUSALS = {"intent_unknown": UnknownQuestionError, "forbidden_content": ForbiddenQuestionError}


class Model:
    """One model at an OpenAI-compatible base URL."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, model: str) -> None:
        self._http = http
        self._url = f"{base_url}/chat/completions"
        self._declared = f"{base_url}/domicile/intents"
        self._model = model

    async def questions(self) -> list[dict[str, Any]]:
        """The phrases that people may ask in mode structured: text with {slots}, and what may stand in each.

        Raises ModelError.
        """
        with _upstream_errors():
            async with self._http.get(self._declared, timeout=TIMEOUT, allow_redirects=False) as response:
                if response.status != 200:
                    raise ModelError(f"the model service answered {response.status}")
                declared = (await response.json())["data"]
                return [_offered(phrase, each.get("slots", [])) for each in declared for phrase in each["phrases"]]

    @asynccontextmanager
    async def ask(
        self, messages: Sequence[dict[str, str]], conversation: str | None
    ) -> AsyncIterator[AsyncIterator[str]]:
        """Pieces of the answer, as they come. Raises ModelError on entry, or while iterating.

        ``conversation``: what the gateway is to know it by; None: it is to forget it.
        """
        headers = {} if conversation is None else {CONVERSATION: conversation}
        body = {"model": self._model, "messages": list(messages), "stream": True, "temperature": 0}
        with _upstream_errors():
            response = await self._http.post(
                self._url, json=body, headers=headers, timeout=TIMEOUT, allow_redirects=False
            )
        async with response:
            if response.status == 422 and (refusal := _REFUSALS.get(await _code(response))):
                raise refusal("the gateway refuses the question")
            if response.status != 200:
                raise ModelError(f"the model service answered {response.status}")
            yield _pieces(response)


def _offered(phrase: str, slots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"text": phrase, "slots": {s["name"]: _filler(s) for s in slots if f"{{{s['name']}}}" in phrase}}


def _filler(slot: dict[str, Any]) -> str:
    """What may stand in a slot, for people."""
    match slot["type"]:
        case "choice":
            return " / ".join(slot["values"])
        case "number":
            return f"{slot['minimum']} – {slot['maximum']}"  # noqa: RUF001 - a range
        case "date":
            return "2026-05-03"
        case _:
            return str(slot["regex"])


async def _code(response: aiohttp.ClientResponse) -> str:
    """The code of an error, as OpenAI's API has them."""
    with _upstream_errors():
        return str((await response.json())["error"]["code"])


@contextmanager
def _upstream_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise ModelTimeoutError("the model service took too long") from None
    except aiohttp.ClientError as error:
        raise ModelError(f"the model service can't be reached or broke off ({type(error).__name__})") from None
    except (ValueError, AttributeError, LookupError, TypeError):
        raise ModelError("the model service sent something that is no chat completion stream") from None


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    length = 0
    with _upstream_errors():
        async for line in response.content:
            data = line.decode().strip()
            if not data.startswith("data:"):
                continue
            data = data.removeprefix("data:").strip()
            if data == "[DONE]":
                return
            for choice in json.loads(data).get("choices", []):
                piece = choice.get("delta", {}).get("content")
                if piece:
                    length += len(piece)
                    if length > MAX_ANSWER_CHARS:
                        raise ModelError(f"the model's answer is longer than {MAX_ANSWER_CHARS} characters")
                    yield piece
    raise ModelError("the model's answer broke off")
