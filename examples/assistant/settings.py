"""The assistant's settings, all from the environment (docs/assistant-contract.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it and says what it takes."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """``gs://BUCKET`` or ``s3://BUCKET`` with the optional query parameters ``endpoint`` (URL) and ``region``."""

    scheme: str
    bucket: str
    endpoint: str | None
    region: str | None

    @classmethod
    def parse(cls, url: str) -> StoreUrl:
        """Raises SettingsError where the URL has another form."""
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
        unknown = set(query) - {"endpoint", "region"}
        if parts.scheme not in {"gs", "s3"} or not parts.netloc or parts.path not in {"", "/"} or unknown:
            raise SettingsError(
                "ASSISTANT_STORE_URL must be gs://BUCKET or s3://BUCKET, optionally with ?endpoint=URL&region=REGION"
            )
        endpoint = query.get("endpoint", [None])[-1]
        if endpoint is not None and urlsplit(endpoint).scheme not in {"http", "https"}:
            raise SettingsError("the endpoint in ASSISTANT_STORE_URL must be an http or https URL")
        return cls(parts.scheme, parts.netloc, endpoint, query.get("region", [None])[-1])


@dataclass(frozen=True, slots=True)
class Settings:
    """What the assistant needs to know of its place."""

    store: StoreUrl
    base_url: str
    model: str
    name: str
    structured: bool
    store_anonymised: bool
    knowledge_anonymised: bool
    credentials: Path | None
    authorities: str | None
    """Who vouches for the store (PEM), in place of the system's."""
    identity: Path | None
    host: str
    port: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read PORT, ASSISTANT_HOST and ASSISTANT_*. Raises SettingsError."""
        missing = [n for n in ("ASSISTANT_STORE_URL", "ASSISTANT_BASE_URL", "ASSISTANT_MODEL") if not env.get(n)]
        if missing:
            raise SettingsError(f"set {', '.join(missing)} (see docs/assistant-contract.md)")
        base_url = env["ASSISTANT_BASE_URL"].rstrip("/")
        if urlsplit(base_url).scheme not in {"http", "https"}:
            raise SettingsError("ASSISTANT_BASE_URL must be an http or https URL such as http://provider.models.svc/v1")
        port = env.get("PORT", "8081")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise SettingsError("PORT must be a number from 1 to 65535")
        mode = env.get("ASSISTANT_MODE", "free")
        if mode not in {"structured", "free"}:
            raise SettingsError("ASSISTANT_MODE must be structured or free")
        credentials = env.get("ASSISTANT_STORE_CREDENTIALS")
        identity = env.get("ASSISTANT_IDENTITY")
        if identity == "":
            raise SettingsError("ASSISTANT_IDENTITY must be a path; leave it out where nobody has to log in")
        return cls(
            store=StoreUrl.parse(env["ASSISTANT_STORE_URL"]),
            base_url=base_url,
            model=env["ASSISTANT_MODEL"],
            name=env.get("ASSISTANT_NAME") or "Assistant",
            structured=mode == "structured",
            store_anonymised=_switch(env, "ASSISTANT_STORE_ANONYMISED"),
            knowledge_anonymised=_switch(env, "ASSISTANT_KNOWLEDGE_ANONYMISED"),
            authorities=env.get("ASSISTANT_STORE_AUTHORITIES") or None,
            credentials=Path(credentials) if credentials else None,
            identity=None if identity is None else Path(identity),
            host=env.get("ASSISTANT_HOST") or "0.0.0.0",  # noqa: S104 - only the guard's port is admitted
            port=int(port),
        )


def _switch(env: Mapping[str, str], name: str) -> bool:
    word = env.get(name, "false")
    if word not in {"true", "false"}:
        raise SettingsError(f"{name} must be true or false")
    return word == "true"
