"""The gateway's own routes: placeholders in place of personal data, and the data back (docs/gateway.md).

Synchronous: the server calls it in threads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from .model import CONVERSATION

TIMEOUT_SECONDS = 30
MAX_BYTES = 16 * 1024 * 1024


class AnonymiserError(Exception):
    """The gateway gave no answer, or a broken one. The message holds nothing of the texts."""


class RefusedTextError(AnonymiserError):
    """A text holds what the tenant lets nobody ask."""


class _Stay(HTTPRedirectHandler):
    """Follows nobody elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        """Refused: the redirect is an error then."""


class Anonymiser:
    """The gateway at an OpenAI-compatible base URL. All methods raise AnonymiserError."""

    def __init__(self, base_url: str) -> None:
        self._base = f"{base_url}/domicile"
        self._opener = build_opener(ProxyHandler({}), _Stay)

    def hide(self, texts: Sequence[str], conversation: str) -> list[str]:
        """The texts with the conversation's placeholders."""
        return self._ask("anonymise", {"texts": list(texts)}, conversation)

    def restore(self, texts: Sequence[str], conversation: str) -> list[str]:
        """The texts with values; what the gateway has forgotten stays a placeholder."""
        return self._ask("restore", {"texts": list(texts)}, conversation)

    def remove(self, texts: Sequence[str]) -> list[str]:
        """The texts with placeholders that nobody can turn back."""
        return self._ask("anonymise", {"texts": list(texts), "irreversible": True}, None)

    def _ask(self, route: str, body: dict[str, Any], conversation: str | None) -> list[str]:
        headers = {"Content-Type": "application/json"} | ({CONVERSATION: conversation} if conversation else {})
        request = Request(f"{self._base}/{route}", json.dumps(body).encode(), headers)  # noqa: S310 - from the settings
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                texts = json.loads(response.read(MAX_BYTES))["texts"]
        except HTTPError as error:
            if error.code == 422:
                raise RefusedTextError("the gateway refuses a text: it holds what may not be asked") from None
            raise AnonymiserError(f"the gateway answered {error.code}") from None
        except (OSError, HTTPException) as error:
            raise AnonymiserError(f"the gateway can't be reached ({type(error).__name__})") from None
        except (ValueError, LookupError, TypeError):
            raise AnonymiserError("the gateway sent something else than texts") from None
        if len(texts) != len(body["texts"]) or not all(isinstance(text, str) for text in texts):
            raise AnonymiserError("the gateway sent something else than texts")
        return list(texts)
