"""Every history of the claims model, and the sabotages that must break it: docs/claims.md cites these answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.claims_model import Model, Rules

SERVE, STOP = Rules(), Rules(stop=True)


@pytest.mark.parametrize("rules", [SERVE, STOP], ids=["serve", "stop"])
def test_two_sites_serve_at_once_only_where_law_2_allows_it(rules: Rules) -> None:
    model = Model(rules, highest=3)
    assert model.search() is None
    # The search has seen the tenant at home, taken over and taken back, and the one overlap that the law excuses.
    assert model.served == {(0, 1), (1, 2), (0, 3)}
    assert model.excused > 0


@pytest.mark.parametrize("rules", [SERVE, STOP], ids=["serve", "stop"])
def test_a_renewed_word_keeps_the_law(rules: Rules) -> None:
    assert Model(replace(rules, renewed=True), highest=2).search() is None


@pytest.mark.parametrize("rules", [SERVE, STOP], ids=["serve", "stop"])
def test_the_very_first_claim_needs_no_wait(rules: Rules) -> None:
    """A tenant serves at once in no other history than it may after a wait: the first search above grants at once."""
    assert not rules.first_waits
    at_once, waiting = Model(rules, highest=2), Model(replace(rules, first_waits=True), highest=2)
    assert at_once.search() is None
    assert waiting.search() is None
    assert at_once.served == waiting.served


@pytest.mark.parametrize("rules", [SERVE, STOP], ids=["serve", "stop"])
def test_a_fresh_agent_may_not_trust_an_emergency_claim_that_it_merely_finds(rules: Rules) -> None:
    """Home, take-over, take-back; then the second site returns, cut off, and finds its old opened claim."""
    history = Model(replace(rules, found_word=True), highest=3).search()
    assert history is not None
    assert {"emergency1:2", "open:2", "emergency0:3"} <= set(history)
    assert history[-1] == "split 3/2"


@pytest.mark.parametrize(
    "sabotage",
    [replace(SERVE, must_age=False), replace(SERVE, fresh_reads_peer=False), replace(SERVE, leap=True)],
    ids=["unaged", "fresh agent reads no peer", "claim over an own claim"],
)
def test_each_rule_is_needed(sabotage: Rules) -> None:
    assert Model(sabotage, highest=3).search() is not None
