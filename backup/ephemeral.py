"""What ends with a session: objects of a live bucket that no snapshot takes up and no restore leaves."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from domicile.backup.stores.base import Page

PREFIX = "ephemeral/"
"""Names that start so belong to conversations whose people have not agreed to a recording."""
# "0" follows "/".
_BEHIND = PREFIX[:-1] + "0"


def is_ephemeral(name: str) -> bool:
    """Whether an object is one of these."""
    return name.startswith(PREFIX)


def lasting(pages: Iterable[Page]) -> Iterator[Page]:
    """A listing, by name, without them."""
    for page in pages:
        start, end = bisect_left(page.names, PREFIX), bisect_left(page.names, _BEHIND)
        yield page if start == end else page.cut(0, start).and_then(page.cut(end))
