"""Cutting a stream into parts for an upload."""

from __future__ import annotations

from collections.abc import Iterator

PART_BYTES = 64 * 1024 * 1024


def parts(data: Iterator[bytes], size: int, part_bytes: int) -> Iterator[bytes]:
    """Pieces of exactly ``part_bytes``, the last one shorter (of an empty stream: one empty piece).

    Raises ValueError where the stream does not hold exactly ``size`` bytes, always before the last piece, so that no
    object of a wrong size can be completed.
    """
    held = bytearray()
    total = 0
    for chunk in data:
        total += len(chunk)
        if total > size:
            raise ValueError(f"the stream holds more than the announced {size} bytes")
        held += chunk
        while len(held) > part_bytes:
            yield bytes(held[:part_bytes])
            del held[:part_bytes]
    if total != size:
        raise ValueError(f"the stream holds {total} bytes, not the announced {size}")
    yield bytes(held)
