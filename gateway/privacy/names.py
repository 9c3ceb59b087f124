"""People's names: by the words around them, by lists, and by two capitals where a language has none to spare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from domicile.api.privacy import Kind
from domicile.gateway.privacy.finding import Finding
from domicile.gateway.privacy.spelling import bare, entries, folded

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_TITLE = re.compile(
    r"(?<!\w)(?:herrn?|hrn?\.?|frau|fr\.|fräulein|dr\.?(?: ?(?:med|jur|phil|rer\. ?nat|ing)\.?)?|prof\.?(?: ?dr\.?)?|professor"
    r"|professorin|mr|mrs|ms|mx|miss|mister|sir|madam|lady|lord|familie|fam\.|eheleute|pfarrer|schwester|nurse|doctor|doktor)\.?\s+",
    re.IGNORECASE,
)
_CALLED = re.compile(
    r"(?<!\w)(?:(?:mein(?:e?n?)? |ihr |sein )?(?:vor- und nach|vor|nach|familien|voller |geburts)?name(?: ist| lautet| war|:|=)+"
    r"|(?:ich |er |sie |sohn |tochter )?hei(?:ß|ss)(?:e|t)(?: ich| er| sie)?|namens|genannt|my (?:full |last |first )?name is|(?:his|her|whose) name is"
    r"|(?:full |first |last |sur)?name(?: is|:|=)|(?:is |am |was )?(?:called|named)|geborene|geb\.|née"
    r"|(?:konto|karten)inhaber(?:in)?(?: ist|:)?|account holder(?: is|:)?|(?:card)?holder:|patient(?:in)?:|kunde:|customer:|ansprechpartner(?:in)?:?"
    r"|gezeichnet|unterzeichnet von|signed(?: by)?|sincerely,?|contact:)\s+",
    re.IGNORECASE,
)
_BEING = re.compile(
    r"(?<!\w)(?:ich bin(?: die| der)?|hier (?:ist|spricht|schreibt)|hier|i am|i'm|im|this is|it's|speaking is|it is)\s+",
    re.IGNORECASE,
)
_ROLE = re.compile(
    r"(?<!\w)(?:kund(?:e|in|en)|patient(?:in|en)?|mitarbeiter(?:in)?|sachbearbeiter(?:in)?|kolleg(?:e|in|en)|nachbar(?:n|in)?|vermieter(?:in)?|mieter(?:in)?"
    r"|ehemann|ehefrau|mann|frau|sohn|tochter|bruder|schwester|vater|mutter|oma|opa|tante|onkel|enkel(?:in)?|freund(?:in)?|partner(?:in)?|chef(?:in)?|berater(?:in)?"
    r"|anwalt|anwältin|arzt|ärztin|betreuer(?:in)?|bevollmächtigte[rn]?|kind|lehrer(?:in)?|hausarzt|hausärztin|husband|wife|son|daughter|brother|sister"
    r"|father|mother|mom|mum|dad|uncle|aunt|cousin|friend|partner|boss|manager|colleague|neighbou?r|landlord|tenant|customer|client"
    r"|patient|physician|attorney|lawyer|advis[eo]r|agent|teacher|beneficiary|guardian|holder|zugunsten|begünstigter?)\s+",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?:gr(?:u|ü|ue)(?:ß|ss)e?n?(?: aus \w+)?|mfg|lg|vg|regards|sincerely|wishes|cheers|thanks|thank you|best|yours|faithfully|danke|dank|dankend"
    r"|hochachtungsvoll|ihre?|love|ciao|servus)[,.!]?\s{1,4}(?:ihre?\s|your\s)?",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"(?<!\w)(?:liebe[rs]?|hallo|hi|hey|dear|hello|moin|servus|guten tag|guten morgen|good morning|good evening|guten abend|grüezi|sehr geehrte[rs]?)[,!]?\s+",
    re.IGNORECASE,
)
_TOWARDS = re.compile(
    r"(?<!\w)(?:für|von|vom|mit|an|bei|durch|gegen|über|ohne|wegen|namens|und|oder|dass|ob|hat|ist|war|wurde|for|from|with|to|by|of|and|or|that|"
    r"has|is|was|about|called|told|met|saw|asked|contact|contacted|does|did|wie|als|sowie|auf|laut|according to|between|zwischen)\s+",
    re.IGNORECASE,
)
_PARTICLES = frozenset(
    {"von", "van", "de", "der", "den", "zu", "zum", "zur", "vom", "di", "da", "del", "della", "dos", "du", "la", "le", "el",
     "al", "bin", "ibn", "ten", "ter", "y", "af", "av"}
)  # fmt: skip
# What may begin a name; the others are articles, too.
_LEADING = _PARTICLES - {"der", "den", "zu", "zum", "zur", "vom", "la", "le", "y"}
_INITIAL = re.compile(r"(?:[A-ZÄÖÜ]\. ?){1,2}$")
_NOUN = re.compile(
    r"(?:ung|ungen|heit|heiten|keit|keiten|schaft|schaften|tion|tionen|tät|täten|nis|nisse|tum|ment|ments|konto|konten|karten?|nummern?|bank|banken|kasse"
    r"|versicherung|straße|strasse|amt|amts|ämter|haus|hauses|stelle|stellen|antrag|antrags|anträge|vertrag|vertrags|verträge|termine?|schein|scheine|ausweis|ausweise|pass"
    r"|datum|zeit|zeiten|betrag|beträge|kosten|steuer|klinik|praxis|station|abteilung|rechnung|zettel|brief|briefe|gebühr|gebühren|kredit|kredite|zins|zinsen|geld"
    r"|buch|bericht|formular|formulare|daten|dienst|system|systeme|verein|gesetz|recht|platz|tag|tage|woche|wochen|monat|monate|jahr|jahre|büro|center|centre"
    r"|ness|ship|ing|ings|tions|ance|ence|ist|isten|ismus|ik|logie|grafie|graphie|erin|erinnen|lich|ische?[nrs]?|bar|los|mäßig|weise|zeug|werk|hilfe|pflege"
    r"|arbeit|auto|wagen|wohnung|zimmer|kind|kinder|leistung|leistungen|limit|code|card|account|service|online|app|tan|check|line|desk|office)$"
)
_BREAK = re.compile(
    r"[^\S\n]+(?:(?:[A-ZÄÖÜ]\.|von der|van der|van den|de la|von|van|de|der|zu|di|da|del|al|el|bin|ibn|O'|Mc)[^\S\n]+)*"
)
_MOST = 4


class _Word(NamedTuple):
    start: int
    end: int
    text: str
    first: bool
    """Whether it is a listed first name, which is no other word."""
    last: bool
    either: bool
    """Whether it is listed at all, also if it is an ordinary word."""
    ordinary: bool
    capital: bool
    opens: bool
    """Whether it begins a sentence, where all words have a capital."""


@cache
def _listed(name: str) -> frozenset[str]:
    found = entries(files(__package__).joinpath(name))
    return frozenset(folded(entry) for entry in found) | frozenset(bare(entry) for entry in found)


def _parts(word: str, names: frozenset[str]) -> bool:
    if (key := folded(word)) in names:
        return True
    return "-" in key and any(part in names for part in key.split("-") if len(part) > 2)


class Names:
    """Finds people. A listed name is found anywhere; another only where the words around say that it is one."""

    def __init__(self) -> None:
        self._first, self._last = _listed("first_names.txt"), _listed("last_names.txt")
        self._ordinary, self._places = _listed("ordinary.txt"), _listed("places.txt")

    def find(self, text: str) -> Iterator[Finding]:
        """Names in ``text``."""
        words = [self._word(text, found) for found in _WORD.finditer(text)]
        at = {word.start: i for i, word in enumerate(words)}
        for pattern, score, strict in (
            (_TITLE, 0.85, 1),
            (_CALLED, 0.85, 0),
            (_ROLE, 0.7, 1),
            (_BEING, 0.7, 2),
            (_CLOSING, 0.7, 3),
            (_GREETING, 0.7, 1),
        ):
            for found in pattern.finditer(text):
                if (i := at.get(found.end())) is not None and (span := self._told(text, words, i, strict)):
                    yield Finding(*span, Kind.PERSON, score)
        yield from self._known(text, words)
        yield from self._guessed(text, words)

    def _word(self, text: str, found: re.Match[str]) -> _Word:
        word = found[0]
        key = folded(word)
        ordinary = key in self._ordinary or key in self._places
        first, last = _parts(word, self._first), _parts(word, self._last)
        before = text[max(0, found.start() - 3) : found.start()].rstrip(" \t\"'„“»«(*-•")
        opens = not before or before[-1] in ".!?:\n"
        return _Word(
            found.start(),
            found.end(),
            word,
            first and not ordinary,
            last and not ordinary,
            first or last,
            ordinary,
            word[0].isupper(),
            opens,
        )

    def _follows(self, text: str, words: list[_Word], i: int) -> bool:
        """Whether word ``i`` stands right behind the one before it, initials and particles aside."""
        return bool(_BREAK.fullmatch(text, words[i - 1].end, words[i].start))

    @staticmethod
    def _like(word: _Word) -> bool:
        return (
            word.capital
            and (word.either or not word.ordinary)
            and (word.either or not _NOUN.search(word.text.lower()))
            and not (len(word.text) > 4 and word.text.isupper() and not word.either)
        )

    def _told(self, text: str, words: list[_Word], i: int, strict: int) -> tuple[int, int] | None:
        """The name from word ``i`` on, where the words before it say that there is one.

        ``strict``: 0 whatever follows, 1 in capitals, 2 listed or two in capitals, 3 at the end of a line, too. A text
        without capitals has none for names either.
        """
        small = not words[i].capital and (strict == 0 or (strict == 1 and text.islower()))
        j = i
        while j < len(words) and j - i < _MOST and (j == i or self._continues(text, words, j)):
            word = words[j]
            small_word = word.text.lower()
            fits = self._like(word) or (small_word in (_PARTICLES if j > i else _LEADING) and j + 1 < len(words))
            if strict <= 1 and j == i:
                fits |= (word.capital or small) and (word.either or not word.ordinary)
            if small:
                fits |= not word.ordinary and j - i < 2
            if strict == 0 or j > i:
                fits |= word.first or word.last
            if not fits:
                break
            j += 1
        while j > i and words[j - 1].text.lower() in _PARTICLES:
            j -= 1
        if j == i or not self._believed(text, words[i:j], strict):
            return None
        return words[i].start, words[j - 1].end

    def _continues(self, text: str, words: list[_Word], j: int) -> bool:
        initial = len(words[j - 1].text) == 1 and text[words[j - 1].end : words[j].start] in {". ", "."}
        return initial or self._follows(text, words, j)

    @staticmethod
    def _believed(text: str, taken: list[_Word], strict: int) -> bool:
        if any(word.first or word.last for word in taken):
            return True
        if strict == 2:
            return len(taken) > 1 and not all(word.ordinary for word in taken)
        after = text[taken[-1].end : taken[-1].end + 2].lstrip(" .!,")
        return strict != 3 or after[:1] in {"", "\n"}

    def _known(self, text: str, words: list[_Word]) -> Iterator[Finding]:
        for i, word in enumerate(words):
            after = words[i + 1] if i + 1 < len(words) and self._follows(text, words, i + 1) else None
            before = words[i - 1] if i and self._follows(text, words, i) else None
            if word.last and before and not (word.capital or before.ordinary) and text.islower():
                yield Finding(before.start, word.end, Kind.PERSON, 0.5)
            if word.first or word.last:
                yield from self._capital(text, words, i, after) if word.capital else self._small(text, word, after)
            elif word.either and word.capital and after and after.capital and after.last:
                yield Finding(word.start, after.end, Kind.PERSON, 0.6)

    @staticmethod
    def _small(text: str, word: _Word, after: _Word | None) -> Iterator[Finding]:
        if word.first and after and (after.either or (not after.ordinary and text.islower())):
            yield Finding(word.start, after.end, Kind.PERSON, 0.6)
        elif word.first and len(word.text) > 3:
            yield Finding(word.start, word.end, Kind.PERSON, 0.45)

    def _capital(self, text: str, words: list[_Word], i: int, after: _Word | None) -> Iterator[Finding]:
        word = words[i]
        start, end, score = word.start, word.end, 0.6 if word.first else 0.5
        if word.first and after and after.capital and (self._like(after) or after.either):
            end, score = after.end, 0.8
            if i + 2 < len(words) and self._follows(text, words, i + 2) and self._like(words[i + 2]):
                end = words[i + 2].end
        if word.last and i and self._follows(text, words, i) and self._like(words[i - 1]) and not words[i - 1].ordinary:
            start, score = words[i - 1].start, 0.7
        if initial := _INITIAL.search(text, max(0, start - 6), start):
            start = initial.start()
        if word.last and i + 1 < len(words) and text[word.end : words[i + 1].start] in {", ", ","}:
            end = words[i + 1].end if words[i + 1].capital and words[i + 1].first else end
        yield Finding(start, end, Kind.PERSON, score)

    def _guessed(self, text: str, words: list[_Word]) -> Iterator[Finding]:
        """Two or three words in capitals that are no words we know, and not the beginning of a sentence."""
        i = 0
        while i + 1 < len(words):
            j = i
            while j < len(words) and self._like(words[j]) and (j == i or self._follows(text, words, j)):
                j += 1
            name = words[i:j]
            if (
                2 <= len(name) <= 3
                and not all(word.ordinary for word in name)
                and not name[0].ordinary
                and all(len(word.text) > 1 and not word.text.isupper() for word in name)
            ):
                yield from self._guess(text, name, words[j] if j < len(words) else None)
            i = max(j, i + 1)

    @staticmethod
    def _guess(text: str, name: list[_Word], after: _Word | None) -> Iterator[Finding]:
        start, end = name[0].start, name[-1].end
        led = _TOWARDS.search(text, max(0, start - 14), start)
        if led and led.end() == start:
            yield Finding(start, end, Kind.PERSON, 0.55)
        elif not name[0].opens:
            yield Finding(start, end, Kind.PERSON, 0.45)
        elif text[end : end + 1] in {"", "\n", ","} or (after and not after.capital):
            yield Finding(start, end, Kind.PERSON, 0.42)
