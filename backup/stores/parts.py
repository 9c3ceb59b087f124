"""Cutting a stream into parts for an upload."""

from __future__ import annotations

from collections.abc import Iterator

PART_BYTES = 8 << 20


def parts(data: Iterator[bytes], size: int, part_bytes: int) -> Iterator[bytes]:
    """Pieces of exactly ``part_bytes``, the last one shorter (of an empty stream: one empty piece).

    Raises ValueError where the stream does not hold exactly ``size`` bytes, always before the last piece, so that no
    object of a wrong size can be completed. A chunk of a piece's size is handed on without a copy.
    """
    held: list[bytes] = []
    length = total = 0
    for chunk in data:
        total += len(chunk)
        if total > size:
            raise ValueError(f"the stream holds more than the announced {size} bytes")
        held.append(chunk)
        length += len(chunk)
        while length > part_bytes:
            whole = held[0] if len(held[0]) == part_bytes else b"".join(held)
            rest = held[1:] if len(held[0]) == part_bytes else [whole[part_bytes:]]
            yield whole if len(whole) == part_bytes else whole[:part_bytes]
            held, length = rest, length - part_bytes
    if total != size:
        raise ValueError(f"the stream holds {total} bytes, not the announced {size}")
    yield held[0] if len(held) == 1 else b"".join(held)
