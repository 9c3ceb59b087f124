"""What a tenant's gateway is told: the one file that the operator makes of tenant and zone, and the gateway reads."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from domicile.api.common import Model
from domicile.api.egress import Host
from domicile.api.intents import Intent, Mode


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


class Caller(Model):
    """An assistant that may ask."""

    id: str
    """Its SPIFFE ID."""
    mode: Mode = Mode.STRUCTURED
    intents: list[Intent] = []
    """What it may be asked in mode structured."""


def service_key_file(host: str) -> str:
    """Name of the file of a service's key."""
    return f"{host}.service"


class Endpoint(Model):
    """One provider of the tenant's pool. Its key, if it has one, is the file ``key_file`` of the mounted Secret."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    kind: ProviderKind
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+[^\s?#@/]$")]
    """Without a slash at its end; the routes follow it, such as ``/chat/completions``."""
    models: dict[str, str]
    """What the provider calls each model or deployment, by the id that is asked for."""
    weight: Annotated[int, Field(ge=0, le=100)] = 1
    """Share of the questions; 0: only where the others fail."""
    keyed: bool = False
    token_url: Annotated[str | None, Field(pattern=r"^https://[^\s?#@]+$")] = None
    """Where tokens for its key come from; None: the key itself is sent."""
    through_egress: bool = False
    ca_bundle: str | None = None
    """Authorities (PEM) that vouch for it, and no others; none: the system's."""
    until: date | None = None
    """First day (UTC) on which it is not asked any more, whoever is there to change this file."""
    header: str | None = None
    """Of the key, which is its whole value; None: as its kind has it."""

    @property
    def key_file(self) -> str:
        """Name of its key's file; a service's has a dot, and no provider's name does."""
        return self.name if self.header is None else service_key_file(urlsplit(self.base_url).hostname or "")

    @model_validator(mode="after")
    def _sealed(self) -> Self:
        # A key, or a question on its way out of the site, is not sent in the clear.
        sealed = self.kind is not ProviderKind.COMPATIBLE or self.keyed or self.through_egress
        if sealed and not self.base_url.startswith("https://"):
            raise ValueError("the base URL must begin with https://")
        if self.name == "egress":
            raise ValueError("the egress proxy's file has that name")
        return self


class Service(Model):
    """A host outside the site that is no model provider's, asked by JSON on port 443."""

    host: Host
    header: str | None = None
    """Of its key, the file ``service_key_file`` of the mounted Secret; None: it is shown none."""
    until: date
    """First day (UTC) on which it is not asked any more."""


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
    callers: list[Caller]
    """Who may ask: the tenant's assistants."""
    endpoints: list[Endpoint]
    services: list[Service] = []
    privacy: Privacy = Privacy()
    limits: Limits = Limits()
    egress: str | None = None
    """URL of the site's egress proxy, where an endpoint needs it."""
    redis: Annotated[str, Field(pattern=r"^[^\s:/]+:[0-9]{1,5}$")]
    """host:port of the site's redis."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if len({each.name for each in self.endpoints}) < len(self.endpoints):
            raise ValueError("two endpoints have the same name")
        if len({each.id for each in self.callers}) < len(self.callers):
            raise ValueError("two callers have the same id")
        if self.egress is None and (self.services or any(each.through_egress for each in self.endpoints)):
            raise ValueError("an endpoint or service is reached through the egress proxy, and there is none")
        if self.egress is not None and not self.egress.startswith("https://"):
            raise ValueError("the egress proxy is told a password, so its URL must begin with https://")
        return self
