"""Model providers: how each kind is asked, and which endpoint of a tenant's pool gets a question.

Sources: OpenAI's API reference; Azure OpenAI's API version v1 (learn.microsoft.com, azure/ai-foundry/openai/reference);
Gemini's OpenAI compatibility (ai.google.dev/gemini-api/docs/openai).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from domicile.api.gateway import Endpoint, ProviderKind

_ALL: Final = frozenset({"/chat/completions", "/responses", "/embeddings"})


class Kind(NamedTuple):
    """How a kind of provider is asked."""

    header: str
    """Of the key."""
    prefix: str
    """Before the key in it."""
    routes: frozenset[str]
    """That follow its base URL."""
    stores: bool = True
    """Whether it knows the field ``store``."""


KINDS: Final = {
    ProviderKind.COMPATIBLE: Kind("Authorization", "Bearer ", _ALL),
    ProviderKind.OPENAI: Kind("Authorization", "Bearer ", _ALL),
    ProviderKind.AZURE: Kind("api-key", "", _ALL),
    ProviderKind.GEMINI: Kind("Authorization", "Bearer ", _ALL - {"/responses"}, stores=False),
}


def body_for(endpoint: Endpoint, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What an endpoint is sent for a body that may be sent."""
    made = body | {"model": endpoint.models[body["model"]]}
    if not KINDS[endpoint.kind].stores:
        made.pop("store", None)
    if path == "/chat/completions" and made.get("stream"):
        # Tokens are counted for the tenant's budget whether the client has asked for them or not.
        made["stream_options"] = {**(made.get("stream_options") or {}), "include_usage": True}
    return made


def order(endpoints: Sequence[Endpoint], model: str, path: str, draw: Callable[[], float]) -> list[Endpoint]:
    """Those that have a model and a route, in the order in which to ask them.

    Each next one is drawn by weight among those left (``draw``: uniform in [0, 1)); those of weight 0 come last.
    """
    left = [each for each in endpoints if model in each.models and path in KINDS[each.kind].routes]
    made = []
    while weighty := [each for each in left if each.weight]:
        point = draw() * sum(each.weight for each in weighty)
        for each in weighty:
            point -= each.weight
            if point < 0:
                break
        made.append(each)
        left.remove(each)
    return made + left
