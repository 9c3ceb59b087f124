"""Exhaustive model of claims and leases: two sites, two stores, no witness.

A claim is written into its writer's own store first, and copied to the other store at any later time or never; the
person who orders an emergency needs to reach their own store only. Agents read, and never write: so a history is a
sequence of claims, copies and ticks, and at each of its moments each site is the set of all that an agent of it could
know and could have granted by then, over every order of its reads, lost reads and restarts. A lease runs on when the
agent that gave it is gone.

Law 2 allows two sites at once only after a person took over from a holder that was alive and cut off. ``_excused`` is
that sentence: the lower claim's lease came from a round that couldn't read the peer, by an agent that was already
running when the emergency claim above it was written (and, in a zone that stops on partition, itself on a person's word).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

D = 2
INITIAL, EMERGENCY = "initial", "emergency"


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
    first_is_lowest: bool = True  # it skips the wait only where no lower claim is listed


class Claim(NamedTuple):
    kind: str
    copied: bool = False  # also in the store of the site that did not write it
    opened: bool = False


Claims = tuple[Claim | None, ...]


class Lease(NamedTuple):
    left: int
    n: int
    blind: bool  # granted without the peer
    born: int  # the highest claim of the other site when the granting agent started


class Round(NamedTuple):
    """A round between its two reads. It starts with the first and ends with the second: anything slower grants less.

    A round that can't read the peer is one step: delaying it would only shorten what it grants.
    """

    elapsed: int
    own_first: bool
    listed: int  # bit set of the claims that the first read listed


class Agent(NamedTuple):
    n: int = 0
    age: int = 0
    born: int = 0
    own_top: int | None = None  # highest of the last own listing of this life
    peer_read: bool = False  # since this agent started
    peer_has: bool = False  # claim n was seen in the peer's store
    word: bool = False  # claim n is an own emergency claim that appeared while this agent ran
    used: bool = False  # the peer was read since claim n was first seen
    round: Round | None = None


class Site(NamedTuple):
    agents: frozenset[Agent]
    leases: frozenset[Lease]


class Moment(NamedTuple):
    claims: Claims
    sites: tuple[Site, Site]


def writer(n: int) -> int:
    """Index of the only site that writes claims of this number; here it is the holder, too."""
    return 0 if n % 2 else 1


def listed(claims: Claims, store: int) -> int:
    """Bit set of the claims in one store."""
    return sum(1 << n for n, c in enumerate(claims) if c and (writer(n) == store or c.copied))


def top(bits: int) -> int:
    """Highest claim of a bit set, 0 if none."""
    return max(bits.bit_length() - 1, 0)


class Model:
    """``search`` returns the first history that ends in a forbidden moment, or None when no history has one."""

    def __init__(self, rules: Rules, highest: int = 3) -> None:
        self.rules, self.highest = rules, highest
        self.moments = 0
        self.excused = 0
        self.served: set[tuple[int, int]] = set()  # (site, claim)
        self.at_once: set[int] = set()  # claims that were served while not yet seen for D by anybody
        self._steps: dict[tuple[int, Claims, Agent], tuple[tuple[Agent, ...], Lease | None]] = {}
        self._closed: dict[tuple[int, Claims, frozenset[Agent]], tuple[frozenset[Agent], frozenset[Lease]]] = {}

    def search(self) -> list[str] | None:
        nothing: Claims = (None,) * (self.highest + 1)
        start = Moment(nothing, (Site(frozenset(), frozenset()), Site(frozenset(), frozenset())))
        came: dict[Moment, tuple[Moment, str] | None] = {start: None}
        queue = deque([start])
        while queue:
            moment = queue.popleft()
            self.moments = len(came)
            for a in moment.sites[0].leases:
                self.served.add((0, a.n))
                for b in moment.sites[1].leases:
                    if not self._excused(moment.claims, *sorted((a, b), key=lambda x: x.n)):
                        return [*self._path(came, moment), f"split {min(a.n, b.n)}/{max(a.n, b.n)}"]
                    self.excused += 1
            self.served |= {(1, b.n) for b in moment.sites[1].leases}
            for action, following in self._successors(moment):
                if following not in came:
                    came[following] = (moment, action)
                    queue.append(following)
        return None

    @staticmethod
    def _path(came: dict[Moment, tuple[Moment, str] | None], moment: Moment) -> list[str]:
        path = []
        while (step := came[moment]) is not None:
            moment, action = step
            path.append(action)
        return path[::-1]

    def _excused(self, claims: Claims, low: Lease, high: Lease) -> bool:
        above, below = claims[high.n], claims[low.n]
        assert above is not None
        assert below is not None
        alive_and_cut_off = low.blind and low.born < high.n and above.kind == EMERGENCY
        return alive_and_cut_off and (not self.rules.stop or below.kind == EMERGENCY)

    def _successors(self, moment: Moment) -> Iterator[tuple[str, Moment]]:
        claims, sites = moment
        yield "tick", self._settle(claims, (self._tick(sites[0]), self._tick(sites[1])))
        for action, changed in self._changes(claims):
            yield action, self._settle(changed, sites)

    @staticmethod
    def _tick(site: Site) -> Site:
        agents = set()
        for agent in site.agents:
            rnd = agent.round
            if rnd is not None:
                rnd = rnd._replace(elapsed=rnd.elapsed + 1) if rnd.elapsed + 1 < D else None
            agents.add(agent._replace(age=min(agent.age + 1, D) if agent.n else 0, round=rnd))
        leases = frozenset(x._replace(left=x.left - 1) for x in site.leases if x.left > 1)
        return Site(frozenset(agents), leases)

    def _changes(self, claims: Claims) -> Iterator[tuple[str, Claims]]:
        def put(n: int, claim: Claim) -> Claims:
            return (*claims[:n], claim, *claims[n + 1 :])

        for s in (0, 1):
            own = top(listed(claims, s))
            n = own + 1 if writer(own + 1) == s else own + 2
            if n <= self.highest and claims[n] is None:
                if own == 0:
                    yield f"initial{s}:{n}", put(n, Claim(INITIAL))
                yield f"emergency{s}:{n}", put(n, Claim(EMERGENCY))
        for n, c in enumerate(claims):
            if c and not c.copied:
                yield f"copy:{n}", put(n, c._replace(copied=True))
            # Only where a rule asks for the marker: elsewhere "always open" covers every case.
            if c and not c.opened and c.kind == EMERGENCY and self.rules.found_word:
                yield f"open:{n}", put(n, c._replace(opened=True))

    def _settle(self, claims: Claims, sites: tuple[Site, Site]) -> Moment:
        """Add all that the agents could do and learn before the next change or tick."""
        settled = []
        for s, site in enumerate(sites):
            known = self._closed.get((s, claims, site.agents))
            if known is None:
                known = self._closed[s, claims, site.agents] = self._close(s, claims, site.agents)
            # Of leases alike the one that runs longest covers the others.
            longest: dict[tuple[int, bool, int], Lease] = {}
            for lease in (*site.leases, *known[1]):
                kept = longest.setdefault(lease[1:], lease)
                if lease.left > kept.left:
                    longest[lease[1:]] = lease
            settled.append(Site(known[0], frozenset(longest.values())))
        return Moment(claims, (settled[0], settled[1]))

    def _close(self, s: int, claims: Claims, agents: frozenset[Agent]) -> tuple[frozenset[Agent], frozenset[Lease]]:
        started = Agent(born=max((n for n, c in enumerate(claims) if c and writer(n) != s), default=0))
        reached = {*agents, started}
        todo, granted = list(reached), set()
        while todo:
            agent = todo.pop()
            step = self._steps.get((s, claims, agent))
            if step is None:
                step = self._steps[s, claims, agent] = self._step(s, claims, agent)
            if step[1]:
                granted.add(step[1])
            for following in step[0]:
                if following not in reached:
                    reached.add(following)
                    todo.append(following)
        return frozenset(reached), frozenset(granted)

    def _step(self, s: int, claims: Claims, agent: Agent) -> tuple[tuple[Agent, ...], Lease | None]:
        own, peer, rnd = listed(claims, s), listed(claims, 1 - s), agent.round
        if rnd is None:
            blind, lease = self._end(claims, s, agent, 0, own, None)
            return (
                agent._replace(round=Round(0, own_first=True, listed=own)),
                agent._replace(round=Round(0, own_first=False, listed=peer)),
                blind,
            ), lease
        if rnd.own_first:
            own = rnd.listed
        else:
            peer = rnd.listed
        ended, lease = self._end(claims, s, agent._replace(round=None), rnd.elapsed, own, peer)
        return (ended,), lease

    def _end(
        self, claims: Claims, s: int, agent: Agent, elapsed: int, own: int, peer: int | None
    ) -> tuple[Agent, Lease | None]:
        agent, grant = self._judge(claims, s, agent, own, peer)
        blind = peer is None
        lease = Lease(D - elapsed, agent.n, blind, agent.born if blind else 0) if grant else None
        # Forget what no rule will ask again: it would only multiply equal states.
        if agent.peer_read and not self.rules.stop:
            agent = agent._replace(own_top=0, word=False)
        return agent, lease

    def _judge(self, claims: Claims, s: int, agent: Agent, own: int, peer: int | None) -> tuple[Agent, bool]:
        rules = self.rules
        n = max(top(own), top(peer or 0), agent.n)
        before = agent.own_top
        agent = agent._replace(own_top=top(own), peer_read=agent.peer_read or peer is not None)
        if n > agent.n:
            agent = agent._replace(n=n, age=0, peer_has=False, word=False, used=False)
        claim = claims[n]
        if claim is None:
            return agent, False
        own_has = bool(own >> n & 1)
        mine = own_has and claim.kind == EMERGENCY and writer(n) == s
        agent = agent._replace(
            peer_has=not mine and (agent.peer_has or bool((peer or 0) >> n & 1)),
            word=mine and (agent.word or (before is not None and before < n)),
            used=rules.stop and (agent.used or peer is not None),
        )
        if writer(n) != s or (rules.must_stand and not (mine or (own_has and agent.peer_has))):
            return agent, False
        if peer is None:
            word = agent.word or (rules.found_word and mine and claim.opened)
            may = (word and not agent.used) if rules.stop else (agent.peer_read or word or not rules.fresh_reads_peer)
            if not may:
                return agent, False
        return agent, not rules.must_age or agent.age >= D or self._first(claim, n, own, peer)

    def _first(self, claim: Claim, n: int, own: int, peer: int | None) -> bool:
        rules = self.rules
        if claim.kind != INITIAL or rules.first_waits or (rules.first_needs_peer and peer is None):
            return False
        return not rules.first_is_lowest or not (own | (peer or 0)) & ((1 << n) - 1)
