"""The corpus by which recognisers are judged, and what they must reach on a part of it."""

from __future__ import annotations

from importlib.resources import files

import pytest

from domicile.gateway.privacy.analyzer import CHECKED, NEVER_CHECKED
from domicile.gateway.privacy.names import Names
from domicile.gateway.privacy.spelling import entries, folded
from tests.bench import recall
from tests.bench.corpus import held_out, people, tuning
from tests.bench.corpus.questions import held_out_half, tuning_half

LISTS = ("first_names.txt", "last_names.txt", "ordinary.txt", "places.txt", "health.txt")


def listed() -> set[str]:
    folder = files("domicile.gateway.privacy")
    return {folded(entry) for name in LISTS for entry in entries(folder.joinpath(name))}


def test_held_out_names_are_in_no_list_nor_in_the_other_half() -> None:
    held = {folded(part) for name in (*people.HELD_FIRST, *people.HELD_LAST) for part in (name, *name.split("-"))}
    tuned = {folded(name) for name in (*people.TUNING_FIRST, *people.TUNING_LAST)}
    assert not held & listed()
    assert not held & tuned
    assert not set(held_out.GERMAN + held_out.ENGLISH) & set(tuning.GERMAN + tuning.ENGLISH)


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_sorted_and_name_nothing_twice(name: str) -> None:
    found = entries(files("domicile.gateway.privacy").joinpath(name))
    assert found == sorted(set(found))


def test_the_corpus_is_the_same_each_time_and_its_labels_are_in_the_text() -> None:
    questions = tuning_half() + held_out_half()
    assert questions == tuning_half() + held_out_half()
    assert len(questions) >= 2000
    for question in questions:
        ends = [0, *(label.end for label in question.labels)]
        assert all(end <= label.start < label.end for end, label in zip(ends, question.labels, strict=False))
        assert not ends[-1] > len(question.text)


def test_no_structured_value_leaks_and_most_names_are_found() -> None:
    find = recall.ours()
    tuned, held = recall.measured(tuning_half(150), find), recall.measured(held_out_half(150), find)
    assert (tuned.leaked(), held.leaked()) == (0, 0)
    assert tuned.recall("PERSON") > 0.9
    assert held.recall("PERSON") > 0.8
    assert held.right / held.findings > 0.9


def test_what_has_no_check_digits_never_counts_as_checked() -> None:
    texts = [question.text for question in tuning_half() + held_out_half()]
    found = [f for recogniser in NEVER_CHECKED for text in texts for f in recogniser(text)]
    assert {f.kind for f in found} >= {"PHONE", "DATE_OF_BIRTH", "NUMBER"}
    assert max(f.score for f in found) < CHECKED


def test_a_name_alone_that_is_in_no_list_is_not_found() -> None:
    assert list(Names().find("gestern war quaddeldorp da")) == []
