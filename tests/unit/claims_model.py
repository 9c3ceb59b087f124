"""Exhaustive model of claims and leases: two sites, two stores, no witness.

Breadth-first search over every interleaving of claims (initial, emergency, planned), lost copies, lost reads, agent
restarts and ticks. A claim is written into its writer's own store first, and copied to the other store at any later
time or never; the person who orders an emergency needs to reach their own store only. A site "serves" while any lease
given to one of its guards runs; restarting an agent does not end it.

Law 2 allows two sites at once only after a person took over from a holder that was alive and cut off. ``excused`` is
that sentence: the lower claim's lease came from a round that couldn't read the peer, by an agent that was already
running when the emergency claim above it was written (and, in a zone that stops on partition, itself on a person's word).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

D = 2
INITIAL, EMERGENCY, PLANNED = "i", "e", "p"


@dataclass(frozen=True)
class Rules:
    """What the agents do. The defaults are what is built; every other value is a question or a sabotage."""

    stop: bool = False  # onPartition: stop instead of serve
    first_waits: bool = False  # the very first claim of a tenant waits for a full D, too
    found_word: bool = False  # a fresh agent trusts an opened emergency claim that it merely finds in its own store
    fresh_reads_peer: bool = True
    must_stand: bool = True
    must_age: bool = True
    first_needs_peer: bool = True  # the very first claim skips the wait only in a round that read the peer


class Claim(NamedTuple):
    kind: str
    copied: bool = False  # also in the store of the site that did not write it
    opened: bool = False


class Lease(NamedTuple):
    left: int = 0
    n: int = 0
    blind: bool = False  # granted without the peer
    born: int = 0  # the highest claim anywhere when the granting agent started


class Round(NamedTuple):
    """A round between its two reads. It starts with the first and ends with the second: anything slower grants less.

    A round that can't read the peer is one step: delaying it would only shorten what it grants.
    """

    elapsed: int
    own_first: bool
    bits: int  # the claims that the first read listed


class Agent(NamedTuple):
    n: int = 0
    age: int = 0
    born: int = 0  # highest claim of the other site when this agent started
    own_top: int | None = None  # highest of the last own listing of this life
    peer_read: bool = False  # since this agent started
    peer_has: bool = False  # claim n was seen in the peer's store
    word: bool = False  # claim n is an own emergency claim that appeared while this agent ran
    used: bool = False  # the peer was read since claim n was first seen
    round: Round | None = None


class Site(NamedTuple):
    lease: Lease
    agent: Agent


class State(NamedTuple):
    claims: tuple[Claim | None, ...]
    sites: tuple[Site, Site]


def writer(n: int) -> int:
    """Index of the only site that writes claims of this number."""
    return 0 if n % 2 else 1


def holder(claim: Claim, n: int) -> int:
    """Index of the site that the claim names."""
    return 1 - writer(n) if claim.kind == PLANNED else writer(n)


def listed(claims: tuple[Claim | None, ...], store: int) -> int:
    """Bit set of the claims in one store."""
    return sum(1 << n for n, c in enumerate(claims) if c and (writer(n) == store or c.copied))


def top(bits: int) -> int:
    """Highest claim of a bit set, 0 if none."""
    return max(bits.bit_length() - 1, 0)


class Model:
    """``search`` returns the first forbidden path, or None when there is none among all reachable states."""

    def __init__(self, rules: Rules, highest: int = 3, *, planned: bool = False) -> None:
        self.rules, self.highest, self.planned = rules, highest, planned
        self.states = 0
        self.served = {0: set[int](), 1: set[int]()}
        self.excused = 0

    def search(self) -> list[str] | None:
        site = Site(Lease(), Agent())
        start = State((None,) * (self.highest + 1), (site, site))
        came: dict[State, tuple[State, str] | None] = {start: None}
        queue = deque([start])
        while queue:
            state = queue.popleft()
            a, b = (s.lease for s in state.sites)
            for index, lease in ((0, a), (1, b)):
                if lease.left:
                    self.served[index].add(lease.n)
            if a.left and b.left:
                if not self._excused(state, min(a, b, key=lambda x: x.n), max(a, b, key=lambda x: x.n)):
                    return self._path(came, state)
                self.excused += 1
            for action, following in self._successors(state):
                if following not in came:
                    came[following] = (state, action)
                    queue.append(following)
        self.states = len(came)
        return None

    def _path(self, came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
        self.states = len(came)
        path = []
        while (step := came[state]) is not None:
            state, action = step
            path.append(action)
        return path[::-1]

    def _excused(self, state: State, low: Lease, high: Lease) -> bool:
        above, below = state.claims[high.n], state.claims[low.n]
        assert above is not None
        assert below is not None
        alive_and_cut_off = low.blind and low.born < high.n and above.kind == EMERGENCY
        return alive_and_cut_off and (not self.rules.stop or below.kind == EMERGENCY)

    def _successors(self, state: State) -> Iterator[tuple[str, State]]:
        claims, sites = state
        yield "tick", State(claims, (self._tick(sites[0]), self._tick(sites[1])))
        for s in (0, 1):
            for action, changed in self._claim(s, claims, sites[s]):
                yield action, State(changed, sites)
            for action, moved in self._agent(s, claims, sites[s]):
                yield action, State(claims, (moved, sites[1]) if s == 0 else (sites[0], moved))

    @staticmethod
    def _tick(site: Site) -> Site:
        lease, agent = site
        lease = lease._replace(left=lease.left - 1) if lease.left > 1 else Lease()
        rnd = agent.round
        if rnd is not None:
            rnd = rnd._replace(elapsed=rnd.elapsed + 1) if rnd.elapsed + 1 < D else None
        return Site(lease, agent._replace(age=min(agent.age + 1, D) if agent.n else 0, round=rnd))

    def _claim(
        self, s: int, claims: tuple[Claim | None, ...], site: Site
    ) -> Iterator[tuple[str, tuple[Claim | None, ...]]]:
        def put(n: int, claim: Claim) -> tuple[Claim | None, ...]:
            return (*claims[:n], claim, *claims[n + 1 :])

        own = top(listed(claims, s))
        n = own + 1 if writer(own + 1) == s else own + 2
        if n <= self.highest and claims[n] is None:
            if own == 0:
                yield f"initial{s}:{n}", put(n, Claim(INITIAL))
            else:
                yield f"emergency{s}:{n}", put(n, Claim(EMERGENCY))
                held = claims[own]
                # The holder freezes, waits its lease out and hands over: both stores hold what it hands over from.
                if self.planned and held and holder(held, own) == s and held.copied and not site.lease.left:
                    yield f"planned{s}:{n}", put(n, Claim(PLANNED))
        for m, c in enumerate(claims):
            if c is None:
                continue
            if writer(m) == s and not c.copied:
                yield f"copy{s}:{m}", put(m, c._replace(copied=True))
            # Only where a rule asks for the marker: elsewhere "always open" covers every case.
            if self.rules.found_word and holder(c, m) == s and c.kind == EMERGENCY and not c.opened:
                yield f"open{s}:{m}", put(m, c._replace(opened=True))

    def _agent(self, s: int, claims: tuple[Claim | None, ...], site: Site) -> Iterator[tuple[str, Site]]:
        lease, agent = site
        newest = max((n for n, c in enumerate(claims) if c and writer(n) != s), default=0)
        yield f"restart{s}", Site(lease, Agent(born=newest))
        own, peer = listed(claims, s), listed(claims, 1 - s)
        rnd = agent.round
        if rnd is None:
            yield f"own{s}", Site(lease, agent._replace(round=Round(0, True, own)))
            yield f"peer{s}", Site(lease, agent._replace(round=Round(0, False, peer)))
            yield f"blind{s}", self._end(s, claims, site, 0, own, None)
        elif rnd.own_first:
            yield f"+peer{s}", self._end(s, claims, site, rnd.elapsed, rnd.bits, peer)
        else:
            yield f"+own{s}", self._end(s, claims, site, rnd.elapsed, own, rnd.bits)

    def _end(
        self, s: int, claims: tuple[Claim | None, ...], site: Site, elapsed: int, own: int, peer: int | None
    ) -> Site:
        agent, grant = self._judge(s, claims, site.agent._replace(round=None), own, peer)
        lease = site.lease
        if grant and D - elapsed > lease.left:
            blind = peer is None
            lease = Lease(D - elapsed, agent.n, blind, agent.born if blind else 0)
        # Forget what no rule will ask again: it would only multiply equal states.
        if not self.rules.stop and agent.peer_read:
            agent = agent._replace(own_top=0, word=False)
        return Site(lease, agent)

    def _judge(
        self, s: int, claims: tuple[Claim | None, ...], agent: Agent, own: int, peer: int | None
    ) -> tuple[Agent, bool]:
        rules = self.rules
        n = max(top(own), top(peer or 0), agent.n)
        before = agent.own_top
        agent = agent._replace(own_top=top(own), peer_read=agent.peer_read or peer is not None)
        if n > agent.n:
            agent = agent._replace(n=n, age=0, peer_has=False, word=False, used=False)
        claim = claims[n]
        if claim is None:
            return agent, False
        mine = bool(own >> n & 1) and claim.kind == EMERGENCY and writer(n) == s
        agent = agent._replace(
            peer_has=not mine and (agent.peer_has or bool((peer or 0) >> n & 1)),
            word=mine and (agent.word or (before is not None and before < n)),
            used=rules.stop and (agent.used or peer is not None),
        )
        stands = mine or (bool(own >> n & 1) and agent.peer_has)
        if holder(claim, n) != s or (rules.must_stand and not stands):
            return agent, False
        if peer is None:
            word = agent.word or (rules.found_word and mine and claim.opened)
            may = (word and not agent.used) if rules.stop else (agent.peer_read or word or not rules.fresh_reads_peer)
            if not may:
                return agent, False
        lower = (own | (peer or 0)) & ((1 << n) - 1)
        first = claim.kind == INITIAL and not lower and not rules.first_waits
        if first and rules.first_needs_peer:
            first = peer is not None
        return agent, not rules.must_age or agent.age >= D or first
