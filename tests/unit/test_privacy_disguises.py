"""Values with check digits in disguises that a model reads: nothing of them is left."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable

import pytest

from domicile.api.gateway import Privacy
from domicile.gateway.privacy.analyzer import Analyzer

ANALYZER = Analyzer(Privacy())
VALUES = ("4111111111111111", "DE89370400440532013000")
WORDS = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]


def moved(first: int, zero: int) -> Callable[[str], str]:
    """With digits from ``first`` (a one) on, and a zero of its own."""
    return lambda value: "".join(chr((first - 1 + int(c)) if int(c) else zero) if c.isdigit() else c for c in value)


def between(gap: str, size: int = 4) -> Callable[[str], str]:
    return lambda value: gap.join(value[at : at + size] for at in range(0, len(value), size))


def each(form: str) -> Callable[[str], str]:
    return lambda value: "".join(form.format(ord(c), c) for c in value)


def packed(pack: Callable[[bytes], bytes], codec: str = "utf-8", around: str = "{}") -> Callable[[str], str]:
    return lambda value: around.format(base64.b64encode(pack(value.encode(codec))).decode())


def lines(value: str) -> str:
    token = base64.b64encode(f"Guten Tag, {value} bitte".encode()).decode()
    return "\n".join(token[at : at + 16] for at in range(0, len(token), 16))


DISGUISES: dict[str, Callable[[str], str]] = {
    "white circles": moved(0x2460, 0x24EA),
    "black circles": moved(0x2776, 0x24FF),
    "double circles": moved(0x24F5, 0x24EA),
    "Chinese": lambda value: "".join("〇一二三四五六七八九"[int(c)] if c.isdigit() else c for c in value),
    "Roman": moved(0x2160, ord("0")),
    "tags": lambda value: "x" + "".join(chr(0xE0000 + ord(c)) for c in value),
    "tags apart": lambda value: " ".join("ab" + chr(0xE0000 + ord(c)) for c in value),
    "empty elements": between("<b></b>"),
    "elements with attributes": between('</td>\n<td class="n">'),
    "line breaks": between("<br>"),
    "an element each": each("<span>{1}</span>"),
    "bold": between("** **"),
    "bullets": between("\n  - "),
    "spaces": between("    "),
    "tabs": between("\t\t\t\t"),
    "dots": between("....."),
    "a list of JSON": between('", "'),
    "a list of JSON in JSON": between('\\", \\"'),
    "pieces of a program": between('" + "'),
    "line ends of a program": between("\\n"),
    "one word between": between(" dann "),
    "words between": between(", äh, und dann "),
    "in words with words between": lambda value: " und ".join(WORDS[int(c)] if c.isdigit() else c for c in value),
    "in one word": lambda value: "".join(WORDS[int(c)] if c.isdigit() else c for c in value),
    "entities without an end": each("&#{0}"),
    "entities with zeros": each("&#{0:010};"),
    "points in braces": each("\\u{{{0:x}}}"),
    "long points": each("\\U{0:08x}"),
    "octal": each("\\{0:03o}"),
    "quoted printable": each("={0:02X}"),
    "a list of bytes": each("0x{0:02x}, "),
    "bytes with colons": lambda value: value.encode().hex(":"),
    "bytes after a mark": lambda value: "0x" + value.encode().hex(),
    "base64 of UTF-16": packed(bytes, "utf-16-le"),
    "base64 of Latin-1": packed(lambda raw: "Müller, ".encode("latin-1") + raw),
    "base64 of what is no text": packed(lambda raw: b"\x00\x01" + raw),
    "base64 of gzip": packed(lambda raw: gzip.compress(raw, mtime=0)),
    "base64 of zlib": packed(zlib.compress),
    "base64 after a name": packed(bytes, around="x={}"),
    "base64 in a path": packed(bytes, around="/v1/{}"),
    "base64 after a word": packed(bytes, around="abc{}"),
    "base64 in lines": lines,
    "base32": lambda value: base64.b32encode(value.encode()).decode(),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("how", DISGUISES)
def test_a_value_in_disguise_is_found_whole(how: str, value: str) -> None:
    disguised = DISGUISES[how](value)
    text = f"Bitte {disguised} prüfen."
    found = ANALYZER.find(text)
    ours = [f for f in found if f.kind in {"IBAN", "CREDIT_CARD"}]
    assert ours
    left = "".join(c for at, c in enumerate(text) if not any(f.start <= at < f.end for f in found))
    assert not any(c.isdigit() for c in left)
    assert len(left) <= len("Bitte  prüfen.") + 16


@pytest.mark.parametrize(
    "disguise",
    [
        "jane.doe<b>@</b>example.com",
        "jane.doe@example[.]com",
        "jane.doe@example。com",
        "x=amFuZS5kb2VAZXhhbXBsZS5jb20=",
        "/u/amFuZS5kb2VAZXhhbXBsZS5jb20=",
    ],
)
def test_a_mail_address_in_disguise_is_found(disguise: str) -> None:
    text = f"Bitte {disguise} prüfen."
    (found,) = ANALYZER.find(text)
    assert found.kind == "EMAIL"
    assert found.start <= text.index(disguise) + 3
    assert found.end >= len("Bitte ") + len(disguise) - 1


def test_an_amount_has_no_more_digits_than_anybody_pays() -> None:
    assert [f.kind for f in ANALYZER.find("Karte 4,111,111,111,111,111")] == ["CREDIT_CARD"]


@pytest.mark.parametrize(
    "text",
    [
        "| 2019 | 2020 | 2021 |\n|------|------|------|\n| 1200 | 1300 | 1400 |",
        "<table><tr><td>2019</td><td>1200</td></tr><tr><td>2020</td><td>1300</td></tr></table>",
        "Seite 12 ........ 15\nSeite 16 ........ 17",
        "Am 3. und 4. Oktober, dann 5 Tage später und noch 2 Wochen.",
        "a=12&b=13&c=14 C:\\new\\table\\x 50%",
        "ein Einsatz, zweieiig, achtlos; eine Kapitel Ⅳ",
    ],
)
def test_tables_and_lists_are_left_alone(text: str) -> None:
    assert ANALYZER.find(text) == []
