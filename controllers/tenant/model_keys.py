"""The keys of model providers, as they are mounted into the operator."""

from __future__ import annotations

from pathlib import Path

from domicile.api.providers import ModelProvider


def read(folder: Path, providers: list[ModelProvider]) -> dict[str, str | None]:
    """By provider its key, None where ``<key>.key`` is missing, empty or no text; without those that need none."""
    return {p.name: _text(folder / f"{p.key}.key") for p in providers if p.key is not None}


def _text(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return None
    # It goes into a header field.
    return text if text and text.isprintable() else None
