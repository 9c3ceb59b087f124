"""Values that are known, hidden wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.gateway.questions.hiding import Hider
from domicile.gateway.questions.placeholders import Placeholders

VALUES = {"Zelimir": "[A]", "Zelimir Kovač": "[B]", "+49 (30) 1234": "[C]", "it": "[D]", "x@y.example": "[E]"}


def whole(text: str) -> Iterator[tuple[str, bool]]:
    yield text, False


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Hallo Zelimir!", "Hallo [A]!"),
        ("Zelimir Kovač, Zelimir", "[B], [A]"),
        ("Zelimirs aZelimir zelimir", "[A]s a[A] zelimir"),
        ("Tel. +49 (30) 1234.", "Tel. [C]."),
        ("Tel. +49 (30) 123", "Tel. +49 (30) 123"),
        ("it is it", "it is it"),
        ("x@y.example x@y.examples", "[E] [E]s"),
        ("", ""),
    ],
)
def test_each_value_is_hidden_and_the_longest_first(text: str, hidden: str) -> None:
    assert Hider(VALUES).text(text, whole) == hidden


@given(st.lists(st.text(alphabet="ab +.", min_size=1, max_size=8), max_size=6), st.text(alphabet="ab +.", max_size=40))
def test_what_is_put_back_is_the_same_text(values: list[str], text: str) -> None:
    known = {value: f"[{at}]" for at, value in enumerate(dict.fromkeys(values))}
    hidden = Hider(known).text(text, whole)
    for value, placeholder in known.items():
        hidden = hidden.replace(placeholder, value)
    assert hidden == text


def test_placeholders_stay_as_they_are() -> None:
    ours = Placeholders(bytes(32), "c", reversible=True)
    placeholder = ours.of("PERSON", "Erika")
    hider = Hider({"PERSON": "[X]", "Erika": placeholder})
    assert hider.text(f"{placeholder} Erika PERSON", ours.split) == f"{placeholder} {placeholder} [X]"


def test_many_values_may_have_the_same_beginning() -> None:
    """One after another at each place would be a thousand million comparisons."""
    known = {f"Dr. {n:05d}": f"[{n}]" for n in range(10_000)}
    assert Hider(known).text("Dr. " * 100_000, whole) == "Dr. " * 100_000


def test_values_that_nothing_comes_back_for_are_hidden_too() -> None:
    ours = Placeholders(bytes(32), "c", reversible=False)
    assert ours.of("PERSON", "Zelimir") == "[PERSON]"
    assert Hider(ours.hidden).text("Zelimirs Termin", ours.split) == "[PERSON]s Termin"
    assert not ours.made
