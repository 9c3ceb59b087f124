"""The images that every node gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

NEEDED = ("pause", "coredns")
ALL = (*NEEDED, "client", "model-provider", "assistant", "domicile")


@dataclass(frozen=True)
class Images:
    """Archives and references by name, in the order of their import."""

    built: dict[str, tuple[Path, str]] = field(default_factory=dict)

    @classmethod
    def build(cls, names: tuple[str, ...]) -> Images:
        """Build the named images, or find them in the cache. ``pause`` and ``coredns`` always come first."""
        from images.build import image

        return cls({name: image(name) for name in (*NEEDED, *(n for n in names if n not in NEEDED))})
