"""What is found in a text, what isn't, and that a disguise changes nothing."""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from domicile.api.gateway import Pattern, Privacy
from domicile.gateway.privacy.analyzer import Analyzer
from domicile.gateway.privacy.finding import Finding
from domicile.gateway.privacy.kinds import RULES
from domicile.gateway.privacy.resolve import resolved
from tests.bench.corpus.disguises import DISGUISES
from tests.bench.corpus.values import MAKERS

ANALYZER = Analyzer(Privacy())
# Disguises of numbers whose form alone says what they are; a telephone number in words is told by its length.
CHECKED = ("IBAN", "CREDIT_CARD", "TAX_ID", "PENSION_INSURANCE", "HEALTH_INSURANCE")
FRAMES = (
    "{}",
    "Meine Nummer ist {}, danke.",
    "which of {} or the old one",
    "an {} schicken",
    "{} und 12 Euro",
    "am 3.4. ist {} dran",
    "{} 250,00 €",
    "€ {}",
    "{} Euro",
    "{}%",
    "1. {}",
    "5 {}",
    "({})",
    "am 01.01.2024 {} überwiesen",
    "{} 12/27 123",
)


def covered(text: str, start: int, end: int) -> bool:
    found = ANALYZER.find(text)
    return all(any(f.start <= i < f.end for f in found) for i in range(start, end) if text[i].isalnum())


def found(text: str) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start : f.end]) for f in ANALYZER.find(text)]


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_findings_are_in_the_text_sorted_and_apart(text: str) -> None:
    result = ANALYZER.find(text)
    ends = [0, *(f.end for f in result)]
    assert all(f.start < f.end <= len(text) and 0 <= f.score <= 1 for f in result)
    assert all(end < f.start for end, f in zip(ends[1:], result[1:], strict=False))


@given(st.text(alphabet="0123456789 .-/,+()DEdeABx:@%\n"))
def test_findings_are_apart_in_texts_of_little_but_digits(text: str) -> None:
    result = ANALYZER.find(text)
    assert all(a.end < b.start for a, b in pairwise(result))


@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(CHECKED),
    disguise=st.sampled_from([None, *DISGUISES]),
    frame=st.sampled_from(FRAMES),
    small=st.booleans(),
)
def test_a_checked_number_is_found_in_every_disguise(
    seed: int, kind: str, disguise: str | None, frame: str, small: bool
) -> None:
    random = Random(seed)
    value = MAKERS[kind](random, True)
    if disguise:
        value = DISGUISES[disguise](value, random)
    text = frame.format(value)
    if small and len(text.lower()) == len(text):
        text = text.lower()
    start = frame.index("{}")
    assert covered(text, start, start + len(value))


@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["PHONE", "TAX_NUMBER", "US_TAX_ID"]),
    disguise=st.sampled_from([None, "invisible", "wide", "decomposed"]),
    frame=st.sampled_from(FRAMES),
    german=st.booleans(),
)
def test_other_numbers_are_found_too(seed: int, kind: str, disguise: str | None, frame: str, german: bool) -> None:
    random = Random(seed)
    value = MAKERS[kind](random, german)
    if disguise:
        value = DISGUISES[disguise](value, random)
    start = frame.index("{}")
    assert covered(frame.format(value), start, start + len(value))


@given(
    local=st.from_regex(r"[a-z][a-z0-9]{0,8}([._-][a-z0-9]{1,8}){0,2}", fullmatch=True),
    host=st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]\.(de|com|org)", fullmatch=True),
    disguise=st.sampled_from(["{}@{}", "{} @ {}", "{} (at) {}", "{}[at]{}", "{}%40{}", "{}\u200b@{}", "{}&#64;{}"]),
)
def test_mail_addresses_are_found(local: str, host: str, disguise: str) -> None:
    value = disguise.format(local, host)
    assert covered(f"Bitte an {value} schreiben", 9, 9 + len(value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IBAN DE89370400440532013000", [("IBAN", "DE89370400440532013000")]),
        ("IBAN DE89370400440532013001", [("IBAN", "DE89370400440532013001")]),
        ("IBAN DE8937040044053201300", [("IBAN", "DE8937040044053201300")]),
        ("Karte 4111 1111 1111 1112", [("CREDIT_CARD", "4111 1111 1111 1112")]),
        ("4\u200b111 1111 1111 1111", [("CREDIT_CARD", "4\u200b111 1111 1111 1111")]),
        ("Steuer-ID 86095742719", [("TAX_ID", "86095742719")]),
        ("Steuer-ID 86 095 742 718", [("TAX_ID", "86 095 742 718")]),
        ("Steuernummer 181/815/08155", [("TAX_NUMBER", "181/815/08155")]),
        ("USt-IdNr. DE136695976", [("VAT_ID", "DE136695976")]),
        ("SVNR 15 070649 C 103", [("PENSION_INSURANCE", "15 070649 C 103")]),
        ("KVNR A123456780", [("HEALTH_INSURANCE", "A123456780")]),
        ("Tel. 0171/1234567", [("PHONE", "0171/1234567")]),
        ("ruf +49 (0)30 1234567 an", [("PHONE", "+49 (0)30 1234567")]),
        ("call (415) 555-2671", [("PHONE", "(415) 555-2671")]),
        ("SSN 219-09-9999", [("US_TAX_ID", "219-09-9999")]),
        ("NINO QQ 12 34 56 C or AB 12 34 56 C", [("UK_INSURANCE", "AB 12 34 56 C")]),
        ("NHS 943 476 5919", [("UK_NHS", "943 476 5919")]),
        ("IP 192.168.17.4", [("IP_ADDRESS", "192.168.17.4")]),
        ("MAC 00:1B:44:11:3A:B7", [("DEVICE", "00:1B:44:11:3A:B7")]),
        ("Personalausweis L01X00T471", [("ID_DOCUMENT", "L01X00T471")]),
        ("Kennzeichen B-MW 1234", [("LICENSE_PLATE", "B-MW 1234")]),
        ("geboren am 12.03.2014", [("DATE_OF_BIRTH", "12.03.2014")]),
        ("DOB: March 12, 2014", [("DATE_OF_BIRTH", "March 12, 2014")]),
        ("Diagnose F32.1, nimmt Metformin", [("HEALTH", "F32.1"), ("HEALTH", "Metformin")]),
        ("wohnt Hauptstraße 12a, 50667 Köln", [("ADDRESS", "Hauptstraße 12a, 50667 Köln")]),
        ("at 12 Baker Street, London NW1 6XE", [("ADDRESS", "12 Baker Street, London NW1 6XE")]),
        ("wegen Herrn Quaddeldorp", [("PERSON", "Quaddeldorp")]),
        ("mein name ist xaver quaddeldorp und", [("PERSON", "xaver quaddeldorp")]),
        ("für Anna Schmidt", [("PERSON", "Anna Schmidt")]),
        ("Schmidt, Anna", [("PERSON", "Schmidt, Anna")]),
        ("Mueller und M\u0075\u0308ller", [("PERSON", "Mueller"), ("PERSON", "Mu\u0308ller")]),
        ("\\u0041nna Schmidt war da", [("PERSON", "\\u0041nna Schmidt")]),
        ("Konto 4711", [("ACCOUNT", "4711")]),
        ("Konto vier sieben eins eins", [("ACCOUNT", "vier sieben eins eins")]),
    ],
)
def test_what_is_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Die Rechnung über 1.234.567,89 € vom 01.01.2024 - 31.12.2024 ist offen.",
        "Geöffnet Montag bis Freitag 9:00-17:30 Uhr, am 24.12. bis 12 Uhr.",
        "Nach § 823 Abs. 1 BGB und § 14 Abs. 2 Satz 1 Nr. 2 BDSG haftet niemand.",
        "Version 3.11.2 läuft, 2.2.366 nicht mehr.",
        "I paid $1,234.56 on 2024-03-12 at 10:45:12, not 250 dollars.",
        "Bestellung 4 Stück zu 12,50 EUR, 3 x 250 ml, 80 kg, 1.000 Schritte.",
        "Zinsen von 3,25 % auf 10.000 Euro, 20000 km, 4500 kWh im Jahr 2025.",
        "Am 3. Oktober 2025 fahre ich mit dem ICE 1234 um 8:15 Uhr.",
        "Take 2 tablets every 8 hours for 10 days, 500 mg each.",
        "The flat has 3 rooms and 75 m² on the 2nd floor.",
        "Seite 12-15, Kapitel 4.2.1, Abbildung 7.",
        "Wie hoch ist die Gebühr für 12 Monate Parkausweis?",
    ],
)
def test_ordinary_numbers_are_left_alone(text: str) -> None:
    assert not [f for f in ANALYZER.find(text) if RULES[f.kind].structured]


@pytest.mark.parametrize(
    "text",
    [
        "Guten Tag, der Koch und der König gingen mit dem Wolf spazieren.",
        "Welche Unterlagen brauche ich für die Anmeldung einer Hochzeit im Standesamt?",
        "How long does a wire transfer take, and may I cancel it?",
        "Mit freundlichen Grüßen",
        "Meine Frau hat gestern ihre Karte gesperrt.",
    ],
)
def test_ordinary_words_are_no_names(text: str) -> None:
    assert found(text) == []


def test_what_is_packed_is_found_as_a_whole() -> None:
    inner = base64.b64encode(b"Jane Doe, DE89370400440532013000").decode()
    twice = base64.b64encode(inner.encode()).decode()
    assert found(f"siehe {inner} dort") == [("IBAN", inner)]
    assert found(f"siehe {twice} dort") == [("IBAN", twice)]


def test_thresholds_are_by_kind() -> None:
    text = "Tel. 0171/1234567, jane@example.com"
    strict = Analyzer(Privacy(thresholds={"PHONE": 1.0, "ACCOUNT": 1.0, "NUMBER": 1.0, "TAX_NUMBER": 1.0}))
    assert [f.kind for f in strict.find(text)] == ["EMAIL"]
    with pytest.raises(ValueError, match=r"no such kind: PHON; there are ACCOUNT"):
        Analyzer(Privacy(thresholds={"PHON": 0.5}))
    with pytest.raises(ValueError, match=r"refuse: no such kind: DISEASE; there are ACCOUNT"):
        Analyzer(Privacy(refuse=["HEALTH", "DISEASE"]))


def test_a_tenants_patterns_are_kinds_of_their_own() -> None:
    member = Pattern(name="MEMBER_ID", regex=r"M-[0-9]+|x*")
    own = Analyzer(Privacy(patterns=[member], thresholds={"MEMBER_ID": 0.5}))
    assert [(f.start, f.end, f.kind) for f in own.find("xx M-12 y")] == [(0, 2, "MEMBER_ID"), (3, 7, "MEMBER_ID")]
    assert [f.kind for f in own.find("M\u200b-12")] == ["MEMBER_ID"]
    for name, regex, told in (("MEMBER_ID", "(((", "not a regular expression"), ("IBAN", "abc", "built in")):
        with pytest.raises(ValueError, match=told):
            Analyzer(Privacy(patterns=[Pattern(name=name, regex=regex)]))


def test_a_mounted_model_is_asked_too(tmp_path: Path) -> None:
    pipeline = spacy.blank("de")
    pipeline.add_pipe("entity_ruler").add_patterns(  # type: ignore[attr-defined]
        [
            {"label": "PER", "pattern": "zyxwv"},
            {"label": "LOC", "pattern": "vwxyz"},
            {"label": "ORG", "pattern": "abcde"},
        ]
    )
    pipeline.to_disk(tmp_path)
    text = "da war zyxwv aus vwxyz bei abcde"
    assert found(text) == []
    assert [(f.kind, f.start) for f in Analyzer(Privacy(), tmp_path).find(text)] == [("PERSON", 7), ("ADDRESS", 17)]
    with pytest.raises(ValueError, match="no spaCy pipeline"):
        Analyzer(Privacy(), tmp_path / "vocab")


def test_what_overlaps_is_one_finding_of_the_kind_that_says_most() -> None:
    person, phone, iban = Finding(0, 9, "PERSON", 0.9), Finding(5, 12, "PHONE", 0.5), Finding(12, 20, "IBAN", 0.9)
    apart = Finding(21, 25, "PERSON", 0.5)
    assert resolved([apart, iban, phone, person]) == [Finding(0, 20, "IBAN", 0.9), apart]
    assert resolved([person, Finding(3, 4, "MEMBER_ID", 1.0)]) == [Finding(0, 9, "MEMBER_ID", 1.0)]
