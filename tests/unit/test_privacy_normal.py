"""One spelling for each character, and where each stands in the text as it came."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.gateway.privacy.normal import normalised
from domicile.gateway.privacy.packed import unescaped, unpacked
from domicile.gateway.privacy.spoken import in_digits
from domicile.gateway.privacy.view import Edit, View


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Müller", "Müller"),
        (unicodedata.normalize("NFD", "Müller"), "Müller"),
        ("4\u200b1\u00ad1\u20601", "4111"),
        ("４１１１\u3000１", "4111 1"),
        ("٤١١١ and ४१११", "4111 and 4111"),
        ("ＤＥ８９", "DE89"),
        ("DЕ89 РАУ", "DE89 PAY"),
        ("Анна", "Анна"),
        ("J\u0336a\u0336n\u0336e", "Jane"),
        ("1\u20131\u20121", "1-1-1"),
        ("4\ufe0f\u20e31", "41"),
        ("41l1 1O11", "4111 1011"),
        ("Soll 10 Volt", "Soll 10 Volt"),
        ("anna\u200bSchmidt", "anna Schmidt"),
    ],
)
def test_what_looks_the_same_reads_the_same(written: str, read: str) -> None:
    assert normalised(View.of(written)).text == read


def test_a_plain_text_is_not_copied() -> None:
    text = "Guten Tag, ich möchte 12 Überweisungen ändern."
    assert normalised(View.of(text)).text is text


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_each_character_stands_somewhere_in_the_text(text: str) -> None:
    view = in_digits(unescaped(normalised(View.of(text))))
    assert len(view.starts) == len(view.ends) == len(view.text)
    assert all(0 <= start < end <= len(text) for start, end in zip(view.starts, view.ends, strict=True))
    assert list(view.starts) == sorted(view.starts)
    assert list(view.ends) == sorted(view.ends)


def test_an_edit_stands_for_all_that_it_replaces() -> None:
    view = View.of("a&amp;b").edited([Edit(1, 6, "&")])
    assert (view.text, view.span(1, 2), view.span(2, 3)) == ("a&b", (1, 6), (6, 7))
    again = view.edited([Edit(0, 2, "x")])
    assert (again.text, again.span(0, 1)) == ("xb", (0, 6))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("jane%40example.com", "jane@example.com"),
        ("jane%2540example.com", "jane@example.com"),
        ("J&uuml;rgen &#77;&#x4d;", "Jürgen MM"),
        ("\\u0041\\u00e4", "Aä"),
        ("\\x41\\x42", "AB"),
        ("5 % & 6", "5 % & 6"),
    ],
)
def test_escapes_are_read(written: str, read: str) -> None:
    assert unescaped(View.of(written)).text == read


def test_packed_texts_are_unpacked() -> None:
    encoded = "see SmFuZSBEb2UsIDEyMyA0NTY= and 4a616e6520446f652c20313233 and internationalisation"
    assert [view.text for view in unpacked(View.of(encoded))] == ["Jane Doe, 123 456", "Jane Doe, 123"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("vier eins doppel null", "4 1 00"),
        ("DE neunundachtzig", "DE 89"),
        ("plus four nine, eighty-nine", "+ 4 9, 89"),
        ("eine Frage, acht Tage", "eine Frage, acht Tage"),
    ],
)
def test_dictated_numbers_are_digits(written: str, read: str) -> None:
    assert in_digits(View.of(written)).text == read
