"""Where somebody lives: streets with house numbers and towns, as Germany, the United Kingdom and the United States write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

from domicile.api.privacy import Kind
from domicile.gateway.privacy import context
from domicile.gateway.privacy.finding import Finding
from domicile.gateway.privacy.spelling import entries, folded

_CAP = r"[A-ZÄÖÜ][\wäöüß'.-]{0,30}"
_HOUSE = r"\d{1,4} ?(?:[a-zA-Z](?![\w]))?(?: ?[-/+] ?\d{1,4} ?(?:[a-z](?!\w))?)?"
_SUFFIX = (
    r"(?i:stra(?:ß|ss)e|str\b\.?|gasse|allee|chaussee|ufer|damm|graben|steig|stieg|pfad|promenade|wall|twiete|kamp|weg|platz"
    r"|ring|markt|hof|berg|brücke|bruecke|garten|wiese|winkel|zeile|tor|rain|leite|halde|kai|redder)"
)
_NEXT_LINE = r"(?:\s{0,2},?\s{0,2}|,? in )"
_CODE = r"(?:D-|DE-|A-|CH-)?\d{5}"
_TOWN = rf"{_CAP}(?: (?:am|an der|an|ob der|vor der|im|in|bei|unter) {_CAP}|[ /-]{_CAP}| \([A-Za-zäöüß.]+\))?"
_GERMAN = re.compile(
    rf"(?<!\w)(?:(?:{_CAP}[ -]){{0,3}}{_CAP}?{_SUFFIX}|(?:{_CAP}[ -]){{1,3}}Stra(?:ß|ss)e|[Ss]tra(?:ß|ss)e des \d{{1,2}}\. {_CAP}"
    rf"|(?:Am|An der|An den|Am|Auf der|Auf dem|Im|In der|In den|Unter den|Unter der|Zum|Zur|Hinter der|Hinter dem|Vor dem|Beim"
    rf"|Alter|Alte|Neuer|Obere|Untere|Kleine|Große) {_CAP}(?: {_CAP})?),?"
    rf" ?(?:Nr\.? ?|Nummer |Hausnummer )?{_HOUSE}(?!\.?\d|[.,]\d| ?(?:Uhr|€|Euro|EUR|%))(?:{_NEXT_LINE}{_CODE}{_NEXT_LINE}{_TOWN})?"
)
_SMALL = re.compile(
    rf"(?<!\w)(?:[a-zäöüß]{{2,30}}e[rn]? )?(?:[a-zäöüß][a-zäöüß.-]{{1,30}})?(?:stra(?:ß|ss)e|str\.?|gasse|allee|weg|platz|ring|damm|ufer) ?(?:nr\.? ?)?{_HOUSE}"
    rf"(?!\.?\d|[.,]\d| ?(?:uhr|€|euro|%))(?:{_NEXT_LINE}{_CODE} [a-zäöüß-]+)?",
    re.IGNORECASE,
)
_SMALL_LANE = re.compile(
    rf"(?<!\w)(?:am|an de[rnm]|auf de[rm]|im|in de[rn]|unter de[rn]|zum|zur|hinter de[rm]|beim|alte[rn]?|neue[rn]?) [a-zäöüß-]{{3,30}}"
    rf"(?: [a-zäöüß-]{{3,30}})? {_HOUSE}{_NEXT_LINE}{_CODE} [a-zäöüß-]+",
    re.IGNORECASE,
)
_PLACE = re.compile(rf"(?<![\w.,/-]){_CODE} ({_TOWN})")
_SMALL_PLACE = re.compile(r"(?<![\w.,/-])\d{5} ([a-zäöüß]{3,30})(?!\w)")
_LIVING = context.words(
    "wohn", "anschrift", "adresse", "plz", "postleitzahl", "umgezogen", "umzug", "ziehe", "lebe", "straße", "strasse", "aus",
    "nach", "gemeldet", "post an", "zustell", "lieferung", "geliefert",
)  # fmt: skip
_NO_TOWN = frozenset(
    [
        "euro",
        "eur",
        "uhr",
        "stück",
        "menschen",
        "einwohner",
        "personen",
        "kilometer",
        "meter",
        "jahre",
        "tage",
        "stunden",
        "punkte",
        "kunden",
        "mal",
        "schritte",
        "aktien",
        "mitarbeiter",
        "dollar",
        "pfund",
        "prozent",
        "liter",
        "tonnen",
        "watt",
        "wörter",
        "zeichen",
        "besucher",
        "patienten",
    ]
)
_ROAD = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place|Pl|Square|Sq|Terrace|Ter|Close"
    r"|Crescent|Cres|Gardens|Row|Mews|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Trail|Grove|Walk|Hill|Park|Green)"
)
_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_ENGLISH = re.compile(
    rf"(?<![\w.,])(?:(?:Flat|Apartment|Apt|Unit|Suite) \w{{1,5}},? )?\d{{1,5}}[A-Za-z]? (?:[NSEW]\.? )?(?:{_CAP} ){{1,3}}{_ROAD}(?!\w)\.?"
    rf"(?:,? (?:Flat|Apartment|Apt|Unit|Suite|#)\.? ?\w{{1,5}})?(?:{_NEXT_LINE}(?:{_CAP} ?){{1,3}})?"
    rf"(?:,? ?[A-Z]{{2}}(?=,? \d{{5}}))?(?:,? \d{{5}}(?:-\d{{4}})?(?!\d))?(?:,? ?{_POSTCODE}(?!\w))?"
)
_ENGLISH_SMALL = re.compile(
    rf"(?<![\w.,])\d{{1,5}} (?:[a-z]{{2,20}} ){{1,2}}{_ROAD}(?!\w)(?:,? [a-z]{{3,20}})?(?:,? [a-z]{{2}} \d{{5}})?(?:,? {_POSTCODE}(?!\w))?",
    re.IGNORECASE,
)
_ONLY_POSTCODE = re.compile(rf"(?<!\w){_POSTCODE}(?!\w)")
_ZIP = re.compile(rf"(?<!\w)(?:{_CAP} ){{1,2}}?{_CAP}, [A-Z]{{2}} \d{{5}}(?:-\d{{4}})?(?!\d)")
_BOX = re.compile(rf"(?<!\w)(?:Postfach|P\.?O\.? Box) [\d ]{{2,9}}\d(?:, {_CODE} {_TOWN})?")


class Addresses:
    """Streets with house numbers; postal codes with a town that is listed, or that the words before make one."""

    def __init__(self) -> None:
        self._places = frozenset(folded(place) for place in entries(files(__package__).joinpath("places.txt")))

    def find(self, text: str) -> Iterator[Finding]:
        """Addresses in ``text``."""
        if not any(c.isdigit() for c in text):
            return
        for pattern, score in (
            (_GERMAN, 0.8),
            (_SMALL, 0.6),
            (_SMALL_LANE, 0.6),
            (_ENGLISH, 0.8),
            (_ENGLISH_SMALL, 0.5),
            (_ZIP, 0.7),
            (_BOX, 0.7),
        ):
            for found in pattern.finditer(text):
                yield Finding(*found.span(), Kind.ADDRESS, score)
        for pattern in (_PLACE, _SMALL_PLACE):
            for found in pattern.finditer(text):
                town = found[1].split()[0].strip(".-")
                if folded(town) in self._places:
                    yield Finding(*found.span(), Kind.ADDRESS, 0.7)
                elif town.lower() not in _NO_TOWN and context.before(_LIVING, text, found.start()):
                    yield Finding(*found.span(), Kind.ADDRESS, 0.5)
        for found in _ONLY_POSTCODE.finditer(text):
            yield Finding(*found.span(), Kind.ADDRESS, 0.5)
