"""What people ask with all that assistants send along, made from the corpus; no text comes twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import NamedTuple

PASSAGES = 3
PASSAGE_CHARACTERS = 1000
EXCHANGES = 2
_INSTRUCTION = "Answer by these passages only; say so where they do not tell."


class Prompt(NamedTuple):
    """A conversation up to its last question."""

    messages: list[dict[str, str]]

    @property
    def question(self) -> str:
        """What is asked now."""
        return self.messages[-1]["content"]

    @property
    def characters(self) -> int:
        """The length of all its texts."""
        return sum(len(each["content"]) for each in self.messages)


def prompts(texts: Sequence[str], seed: int) -> Iterator[Prompt]:
    """Prompts without an end: an instruction with three passages, two earlier exchanges, a question.

    Passages and earlier answers are texts, too: nothing is as full of personal data. Each message has a number of its
    own, for what was looked at once is remembered.
    """
    random, number = Random(seed), count(1)

    def long(characters: int) -> str:
        said = random.choice(texts)
        while len(said) < characters:
            said += " " + random.choice(texts)
        return said

    def message(role: str, content: str) -> dict[str, str]:
        return {"role": role, "content": f"{content} (#{next(number)})"}

    while True:
        passages = "\n\n".join([_INSTRUCTION, *(long(PASSAGE_CHARACTERS) for _ in range(PASSAGES))])
        messages = [message("system", passages)]
        for _ in range(EXCHANGES):
            messages += [message("user", random.choice(texts)), message("assistant", long(200))]
        yield Prompt([*messages, message("user", random.choice(texts))])
