"""Retrieval of the reference assistant: passages, ranking, relevance, and questions that try to be FTS5 syntax."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples.assistant import knowledge, text
from examples.assistant.knowledge import PASSAGE_CHARS, Index, split

RETURNS = """# Returns

Goods can be returned within 30 days. The customer pays for the parcel.

## Rückgabe

Waren können innerhalb von 30 Tagen zurückgegeben werden. Die Rückgabefrist beginnt mit der Lieferung.
"""
OPENING = "# Öffnungszeiten\n\nDer Laden in der Hauptstraße ist montags bis freitags von 9 bis 18 Uhr geöffnet.\n"
SHIPPING = "# Shipping\n\nDeliveries to Austria take three days and cost 9 euros.\n\nWe don't ship to islands.\n"


@pytest.fixture(scope="module")
def index() -> Index:
    index = Index()
    for name, content in {"returns.md": RETURNS, "öffnung.txt": OPENING, "shipping.md": SHIPPING}.items():
        index.put(name, content)
    return index


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("How long can I return goods?", "returns.md"),
        ("What does delivery to Austria cost?", "shipping.md"),
        ("Do you ship to islands?", "shipping.md"),
        ("Wann beginnt die Rückgabefrist?", "returns.md"),
        ("RUECKGABEFRIST", "returns.md"),
        ("Wie sind die Oeffnungszeiten?", "öffnung.txt"),
        ("Ist der Laden in der Hauptstrasse offen?", "öffnung.txt"),
        ("My order number is 4711. I am unhappy with the colour. How long can I return it?", "returns.md"),
    ],
)
def test_the_best_passage_comes_first(index: Index, question: str, source: str) -> None:
    assert index.search(question)[0].source == source


@pytest.mark.parametrize(
    "question", ["Who won the 1954 world cup?", "Was ist die Hauptstadt von Peru?", "What is it?", "", "???", "Hello!"]
)
def test_what_the_knowledge_base_does_not_hold_finds_nothing(index: Index, question: str) -> None:
    assert index.search(question) == []


def test_a_changed_file_replaces_its_passages_and_a_removed_one_is_gone() -> None:
    index = Index()
    index.put("a.md", "The gate code is blue.")
    index.put("a.md", "The gate code is green.")
    assert [p.body for p in index.search("gate code")] == ["The gate code is green."]
    index.remove("a.md")
    assert index.search("gate code") == []


_SYNTAX = st.sampled_from(
    ['"', "'", "*", "^", "NEAR(", "AND", "OR", "NOT", "(", ")", ":", "body_words:", "{", "}", "-", "+", "\0"]
)


@given(st.lists(st.one_of(st.text(), _SYNTAX)).map(" ".join))
@example('"')
@example("NEAR(goods days, 2)")
@example("source:returns* OR body_words : x")
@example("goods' ; DROP TABLE passage; --")
@example("ﬃ ǅ ß İ ͅ goods")
def test_no_question_is_query_syntax(index: Index, question: str) -> None:
    for passage in index.search(question):
        assert knowledge.is_relevant(question, passage)


@given(st.text(alphabet=st.sampled_from("abc .!?\n#`- äß"), max_size=4000))
def test_splitting_loses_no_word_and_keeps_to_the_size(content: str) -> None:
    passages = split("a.md", content)
    assert all(p.body.strip() and len(p.body) <= PASSAGE_CHARS for p in passages)
    kept = set(text.words(" ".join(f"{p.heading} {p.body}" for p in passages)))
    headings = {w for line in content.splitlines() if line.startswith("#") for w in text.words(line)}
    # A word longer than a passage is cut; a heading without text under it is no passage.
    assert {w for w in text.words(content) if len(w) < 100} - headings <= kept | {
        w for w in text.words(content) if any(len(s) > PASSAGE_CHARS for s in text.sentences(content))
    }


def test_passages_keep_their_heading_and_fences_are_no_headings() -> None:
    passages = split("a.md", "# One\n\nfirst\n\n```\n# not a heading\n```\n\n## Two\nsecond\n")
    assert [(p.heading, p.body) for p in passages] == [
        ("One", "first\n\n```\n# not a heading\n```"),
        ("Two", "second"),
    ]


@given(st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=200))
@example("OEE")
@example("Dueñas Straße")
def test_a_text_is_found_by_its_own_words(value: str) -> None:
    """The index cuts words as the questions' words are cut, whatever folding made of them."""
    index = Index()
    index.put("a.md", f"{value.replace('#', ' ')} .")
    assert bool(index.search(value.replace("#", " "))) is bool(text.terms(value))


@pytest.mark.parametrize(
    ("question", "german"),
    [("Wie lange dauert das?", True), ("How long does it take?", False), ("Öffnungszeiten", True), ("4711", False)],
)
def test_language(question: str, german: bool) -> None:
    assert text.is_german(question) is german
