"""What a tenant's gateway is told: the one file that the operator makes of tenant and zone, and the gateway reads."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from domicile.api.common import Model


class ProviderKind(StrEnum):
    """Which API a model provider speaks: paths, how it is told its key, and which routes it has."""

    COMPATIBLE = "compatible"
    """Any OpenAI-compatible server, such as vLLM."""
    OPENAI = "openai"
    AZURE = "azure"
    GEMINI = "gemini"


class Placeholders(StrEnum):
    """What stands for a found value: one that the answer's reader gets back, or one that nobody can turn back."""

    REVERSIBLE = "reversible"
    IRREVERSIBLE = "irreversible"


class Pattern(Model):
    """What a tenant looks for beyond what is built in."""

    name: Annotated[
        str, Field(description="What a match is called, such as MEMBER_ID.", pattern=r"^[A-Z][A-Z0-9_]{1,31}$")
    ]
    regex: Annotated[
        str, Field(description="Regular expression (Python's re), matched anywhere.", min_length=3, max_length=256)
    ]


class Privacy(Model):
    """How questions are anonymised."""

    placeholders: Placeholders = Placeholders.REVERSIBLE
    vault_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = 86_400
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """By kind, the least score (0 to 1) of a finding that counts; others have a default of their own."""
    patterns: list[Pattern] = []
    refuse: list[str] = []
    """Kinds whose presence refuses the question."""
    images: bool = False
    """Whether images may go to the provider, as they are."""


class Endpoint(Model):
    """One provider of the tenant's pool. Its key, if it has one, is the file ``<name>`` of the mounted Secret."""

    name: str
    kind: ProviderKind
    base_url: str
    """Without a slash at its end; the routes follow it, such as ``/chat/completions``."""
    models: dict[str, str]
    """What the provider calls each model or deployment, by the id that is asked for."""
    weight: Annotated[int, Field(ge=0, le=100)] = 1
    """Share of the questions; 0: only where the others fail."""
    keyed: bool = False
    through_egress: bool = False
    until: date | None = None
    """First day (UTC) on which it is not asked any more, whoever is there to change this file."""


class Limits(Model):
    """What one tenant may ask for, and how large and slow anything may be."""

    body_bytes: int = 4 * 2**20
    answer_bytes: int = 16 * 2**20
    streams: int = 1000
    """Requests under way in one pod."""
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    connect_seconds: float = 10.0
    silence_seconds: float = 60.0
    """How long a provider may be silent, before its answer and within."""


class GatewayConfig(Model):
    """The file ``gateway.json``."""

    tenant_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    callers: list[str]
    """SPIFFE IDs of those who may ask: the tenant's assistants."""
    endpoints: list[Endpoint]
    privacy: Privacy = Privacy()
    limits: Limits = Limits()
    egress: str | None = None
    """URL of the site's egress proxy, where an endpoint needs it."""
    redis: str
    """host:port of the site's redis."""
