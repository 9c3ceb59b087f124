"""One spelling for each character: what looks the same reads the same, whatever code points it was written with."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import regex

from domicile.gateway.privacy.view import Edit, View

_INVISIBLE = regex.compile(
    r"[\p{Cf}\p{Me}\p{Variation_Selector}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0"
    r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]+"
)
_TAG = regex.compile(r"[\U000e0020-\U000e007e]")
# What is left alone is its own normal form. A letter with marks is one character.
_UNUSUAL = regex.compile(r"[\p{L}\p{Nd}]\p{Mn}+|[^\t\n\x20-\x7eÄÖÜäöüßÀ-ÖØ-öø-ıŁłŃńŚśŠšŽžŞşĞğČčĆćŐőŰűĘęĄąŻżŹźŘřĚěŮů€§]")
_LOOKALIKES = str.maketrans(
    "АВЕЅІЈКМНОРСТХУЗаеѕіјорсхуԁԛԝһӏбΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανιρυκΤϲ",
    "ABESIJKMHOPCTXY3aesijopcxydqwhl6ABEZHIKMNOPTYXoavipukTc",
)
_MIXED = regex.compile(r"[\p{Cyrillic}\p{Greek}A-Za-z0-9À-ÿ]++")
_SMALL_CAPITALS = str.maketrans("внткм", "bhtkm")
_LATIN = regex.compile(r"[A-Za-z0-9]")
_FOREIGN = regex.compile(r"[\p{Cyrillic}\p{Greek}]")
_DIGIT_WORD = regex.compile(r"(?<![A-Za-z0-9])(?=[OoIl|]*+[0-9])[0-9OoIl|]{4,}(?![A-Za-z0-9])")
_DIGIT_LETTERS = str.maketrans("OoIl|", "00111")
# Digits that no compatibility form makes plain ones: Roman and Chinese.
_NUMERALS = str.maketrans("ⅠⅡⅢⅣⅤⅥⅦⅧⅨⅰⅱⅲⅳⅴⅵⅶⅷⅸ〇零一二三四五六七八九", "12345678912345678900123456789")
_SPACES = {"Zs": " ", "Zl": "\n", "Zp": "\n", "Pd": "-"}
_SINGLE = str.maketrans("\x85\x0b\x0c\r−⁃˗‐‑’‘ʼ`´′․·•∙‧⋅。∕⁄։ː", "\n   -----''''''......./" + "/::")


def _plain(cluster: str) -> str:
    """The normal form of a letter with its marks, or of one other character."""
    composed = unicodedata.normalize("NFKC", unicodedata.normalize("NFC", cluster.translate(_NUMERALS)))
    found = []
    for character in composed:
        category = unicodedata.category(character)
        if (digit := unicodedata.digit(character, None)) is not None:
            found.append(str(digit))
        elif category == "Mn" and len(cluster) > 1:
            # What composes with no letter, such as a stroke through it, only hides the letter.
            continue
        else:
            found.append(_SPACES.get(category) or character.translate(_SINGLE))
    return "".join(found)


def tagged(view: View) -> View | None:
    """What is written in tags (U+E0020 to U+E007E), which nobody sees and models read; None where nothing is."""
    if not (found := [m.start() for m in _TAG.finditer(view.text)]):
        return None
    text = "".join(chr(ord(view.text[at]) - 0xE0000) for at in found)
    return View(text, [view.starts[at] for at in found], [view.ends[at] for at in found])


def _visible(view: View) -> Iterator[Edit]:
    for found in _INVISIBLE.finditer(view.text):
        before, after = view.text[found.start() - 1 : found.start()], view.text[found.end() : found.end() + 1]
        # Nothing to see between two words is how some programs part them.
        yield Edit(found.start(), found.end(), " " if before.islower() and after.isupper() else "")


def _usual(view: View) -> Iterator[Edit]:
    for found in _UNUSUAL.finditer(view.text):
        if (plain := _plain(found[0])) != found[0]:
            yield Edit(found.start(), found.end(), plain)


def _latin(view: View) -> Iterator[Edit]:
    if not _FOREIGN.search(view.text):
        return
    for found in _MIXED.finditer(view.text):
        latin = found[0].translate(_LOOKALIKES)
        if len(latin) <= 2 or _LATIN.search(found[0]):
            latin = latin.translate(_SMALL_CAPITALS)
        # A word that no look-alike makes Latin is of another language, not in disguise.
        if latin != found[0] and not _FOREIGN.search(latin):
            yield Edit(found.start(), found.end(), latin)


def _numeric(view: View) -> Iterator[Edit]:
    for found in _DIGIT_WORD.finditer(view.text):
        digits = found[0].translate(_DIGIT_LETTERS)
        if digits != found[0] and 2 * sum(c.isdigit() for c in found[0]) >= len(digits):
            yield Edit(found.start(), found.end(), digits)


def normalised(view: View) -> View:
    """The view in one spelling: compatibility forms, marks, invisible characters, digits, look-alikes."""
    if not view.text.isascii():
        for step in (_visible, _usual, _latin):
            view = view.edited(step(view))
    elif _INVISIBLE.search(view.text) or "`" in view.text or "\r" in view.text:
        view = view.edited(_visible(view))
    return view.edited(_numeric(view))
