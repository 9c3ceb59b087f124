"""Values with more between their characters than people write: markup, quotes, bullets of lists, words of dictation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from domicile.gateway.privacy.spoken import NUMBER_WORD
from domicile.gateway.privacy.view import Edit, View

_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,200}>|<!--[^<>]{0,200}-->")
_DOT = re.compile(r"[\[({]\.[\])}]")
_FILLER = (
    r"(?:dann|und|danach|weiter|mit|noch|äh+m?|aeh+m?|öh+m?|hm+|also|komma|punkt|strich|bindestrich|leerzeichen|leer|pause"
    r"|then|and|next|uh+m?|um+|er+m?|so|well|comma|dot|point|dash|hyphen|space|blank)"
)
_BETWEEN = re.compile(
    rf"(?<=[^\W_])(?:[\W_]{{1,8}}{_FILLER}){{1,3}}[\W_]{{1,8}}(?=\d|[a-z](?!\w)|{NUMBER_WORD})|(?<=[^\W_])[\W_]{{4,40}}(?=\d)",
    re.IGNORECASE,
)


def _markup(view: View) -> Iterator[Edit]:
    for found in _MARKUP.finditer(view.text):
        yield Edit(*found.span(), "")


def _between(view: View) -> Iterator[Edit]:
    for found in _BETWEEN.finditer(view.text):
        yield Edit(*found.span(), " ")


def closed_up(view: View) -> View:
    """The view without what stands between digits; the same object where there is nothing."""
    if "<" in view.text:
        view = view.edited(_markup(view))
    if "@" in view.text:
        view = view.edited(Edit(*found.span(), ".") for found in _DOT.finditer(view.text))
    return view.edited(_between(view))
