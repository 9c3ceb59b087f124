"""The keys of model providers and services, as they are mounted into the operator."""

from __future__ import annotations

from pathlib import Path

from domicile.api import google
from domicile.api.egress import AllowedDestination
from domicile.api.providers import ModelProvider


def read(folder: Path, providers: list[ModelProvider]) -> dict[str, str | None]:
    """By provider its key, None where ``<key>.key`` is missing, empty or no text; without those that need none."""
    return {p.name: _key(folder / f"{p.key}.key", p) for p in providers if p.key is not None}


def of_services(folder: Path, listed: list[AllowedDestination]) -> dict[str, str | None]:
    """The same by host, for services that want a key."""
    return {d.host: _printable(_text(folder / f"{d.key.name}.key")) for d in listed if d.key is not None}


def _key(file: Path, provider: ModelProvider) -> str | None:
    text = _text(file)
    if text is not None and provider.token_url is not None:
        # What is no JSON stays as it is, and is told as that.
        text = google.compact(text) or text
    return _printable(text)


def _printable(text: str | None) -> str | None:
    return text if text and text.isprintable() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return None
