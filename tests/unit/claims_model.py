"""Exhaustive model of claims and leases: two sites, two stores, no witness.

A claim is written into its writer's own store first, and copied to the other store at any later time or never; the
person who orders an emergency needs to reach their own store only. Agents read, and never write: so a history is a
sequence of claims, copies and ticks, and at each of its moments each site is the set of all that an agent of it could
know and could have granted by then, over every order of its reads, lost reads and restarts. A lease runs on when the
agent that gave it is gone.

Law 2 allows two sites at once only after a person took over from a holder that was alive and cut off. ``_excused`` is
that sentence: the one site's lease comes from a round that couldn't read the peer, by an agent that was already running
when the other site's emergency claim was written (and, in a zone that stops on partition, itself on a person's word).

People are right about who held last: they take over from the other site's claim, and renew their word for their own.
``leap`` lets them write an emergency claim over their own site's claim, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

D = 2
WORDS = 8  # bit n + WORDS of a listing: a renewed word for claim n
NEWER = [sum(1 << m | 1 << m + WORDS for m in range(n, WORDS)) for n in range(WORDS)]  # claims from n on
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
    renewed: bool = False  # people renew their word for a claim
    leap: bool = False  # people write an emergency claim over their own site's claim, too


class Claim(NamedTuple):
    kind: str
    copied: bool = False  # also in the store of the site that did not write it
    opened: bool = False
    word: bool = False  # a person's word, renewed for this claim in its holder's own store


Claims = tuple[Claim | None, ...]


class Lease(NamedTuple):
    left: int
    n: int
    blind: bool  # granted without the peer
    born: int  # bit set of the other site's claims when the granting agent started


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
    born: int = 0  # bit set of the other site's claims when this agent started
    own_seen: int | None = None  # last own listing of this life
    peer_read: bool = False  # since this agent started
    peer_has: bool = False  # claim n was seen in the peer's store
    word: bool = False  # an own emergency claim n, or a word for it, appeared while this agent ran
    used: bool = False  # the peer was read since that word
    round: Round | None = None


class Site(NamedTuple):
    agents: int = 0  # bit set of interned agents: as frozensets of tuples the search takes twenty times as long
    leases: frozenset[Lease] = frozenset()


class Moment(NamedTuple):
    claims: Claims
    sites: tuple[Site, Site]


def writer(n: int) -> int:
    """Index of the only site that writes claims of this number; here it is the holder, too."""
    return 0 if n % 2 else 1


def listed(claims: Claims, store: int) -> int:
    """Bit set of the claims, and of the words for them, in one store."""
    bits = sum(1 << n for n, c in enumerate(claims) if c and (writer(n) == store or c.copied))
    return bits | sum(1 << n + WORDS for n, c in enumerate(claims) if c and c.word and writer(n) == store)


def top(bits: int) -> int:
    """Highest claim of a bit set, 0 if none."""
    return max((bits & (1 << WORDS) - 1).bit_length() - 1, 0)


class Model:
    """``search`` returns the first history that ends in a forbidden moment, or None when no history has one."""

    def __init__(self, rules: Rules, highest: int = 3) -> None:
        self.rules, self.highest = rules, highest
        self.moments = 0
        self.excused = 0
        self.served: set[tuple[int, int]] = set()  # (site, claim)
        self._agents: list[Agent] = []
        self._bits: dict[Agent, int] = {}
        self._steps: dict[tuple[int, Claims], dict[int, tuple[int, Lease | None]]] = {}
        self._closed: dict[tuple[int, Claims, int], tuple[int, frozenset[Lease]]] = {}
        self._ticked: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def _bit(self, agent: Agent) -> int:
        if agent not in self._bits:
            self._bits[agent] = 1 << len(self._agents)
            self._agents.append(agent)
        return self._bits[agent]

    def search(self) -> list[str] | None:
        nothing: Claims = (None,) * (self.highest + 1)
        start = Moment(nothing, (Site(), Site()))
        came: dict[Moment, tuple[Moment, str] | None] = {start: None}
        queue = deque([start])
        while queue:
            moment = queue.popleft()
            self.moments = len(came)
            for a in moment.sites[0].leases:
                self.served.add((0, a.n))
                for b in moment.sites[1].leases:
                    if not (self._excused(moment.claims, a, b) or self._excused(moment.claims, b, a)):
                        return [*self._path(came, moment), f"split {a.n}/{b.n}"]
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

    def _excused(self, claims: Claims, holder: Lease, taker: Lease) -> bool:
        above, below = claims[taker.n], claims[holder.n]
        assert above is not None
        assert below is not None
        alive_and_cut_off = holder.blind and not holder.born >> taker.n & 1 and above.kind == EMERGENCY
        return alive_and_cut_off and (not self.rules.stop or below.kind == EMERGENCY or below.word)

    def _successors(self, moment: Moment) -> Iterator[tuple[str, Moment]]:
        claims, sites = moment
        yield "tick", self._settle(claims, (self._tick(sites[0]), self._tick(sites[1])))
        for action, changed in self._changes(claims):
            yield action, self._settle(changed, sites)

    def _tick(self, site: Site) -> Site:
        agents = self._ticked.get(site.agents)
        if agents is None:
            agents, left = 0, site.agents
            while left:
                bit = left & -left
                left ^= bit
                older = self._older.get(bit)
                if older is None:
                    older = self._older[bit] = self._bit(self._older_agent(self._agents[bit.bit_length() - 1]))
                agents |= older
            self._ticked[site.agents] = agents
        return Site(agents, frozenset(x._replace(left=x.left - 1) for x in site.leases if x.left > 1))

    @staticmethod
    def _older_agent(agent: Agent) -> Agent:
        rnd = agent.round
        if rnd is not None:
            rnd = rnd._replace(elapsed=rnd.elapsed + 1) if rnd.elapsed + 1 < D else None
        return agent._replace(age=min(agent.age + 1, D) if agent.n else 0, round=rnd)

    def _changes(self, claims: Claims) -> Iterator[tuple[str, Claims]]:
        def put(n: int, claim: Claim) -> Claims:
            return (*claims[:n], claim, *claims[n + 1 :])

        last = max((n for n, c in enumerate(claims) if c), default=0)
        for s in (0, 1):
            own = top(listed(claims, s))
            n = own + 1 if writer(own + 1) == s else own + 2
            if n <= self.highest and claims[n] is None:
                # Only its home mints a tenant's random id; nobody takes over a tenant that their store doesn't know.
                # A home at the second site is the same history with every number one higher.
                if last == 0 and s == 0:
                    yield f"initial{s}:{n}", put(n, Claim(INITIAL))
                elif own and (writer(last) != s or self.rules.leap):
                    yield f"emergency{s}:{n}", put(n, Claim(EMERGENCY))
        for n, c in enumerate(claims):
            if c and n == last and not c.word and self.rules.renewed:
                yield f"word:{n}", put(n, c._replace(word=True))
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

    def _close(self, s: int, claims: Claims, agents: int) -> tuple[int, frozenset[Lease]]:
        started = Agent(born=sum(1 << n for n, c in enumerate(claims) if c and writer(n) != s))
        reached = todo = agents | self._bit(started)
        granted = set()
        steps = self._steps.setdefault((s, claims), {})
        while todo:
            bit = todo & -todo
            step = steps.get(bit)
            if step is None:
                following, lease = self._step(s, claims, self._agents[bit.bit_length() - 1])
                bits = 0
                for agent in following:
                    bits |= self._bit(agent)
                step = steps[bit] = (bits, lease)
            if step[1]:
                granted.add(step[1])
            todo = (todo ^ bit) | (step[0] & ~reached)
            reached |= step[0]
        return reached, frozenset(granted)

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
            agent = agent._replace(own_seen=0, word=False)
        return agent, lease

    def _judge(self, claims: Claims, s: int, agent: Agent, own: int, peer: int | None) -> tuple[Agent, bool]:
        rules = self.rules
        n = max(top(own), top(peer or 0), agent.n)
        before = agent.own_seen
        agent = agent._replace(own_seen=own & NEWER[n], peer_read=agent.peer_read or peer is not None)
        if n > agent.n:
            agent = agent._replace(n=n, age=0, peer_has=False, word=False, used=False)
        claim = claims[n]
        if claim is None:
            return agent, False
        own_has, mine = bool(own >> n & 1), writer(n) == s
        words = (1 << n + WORDS) | (1 << n if claim.kind == EMERGENCY else 0)
        given = mine and before is not None and bool(own & ~before & words)
        agent = agent._replace(
            peer_has=agent.peer_has or bool((peer or 0) >> n & 1),
            word=agent.word or given,
            used=rules.stop and ((agent.used and not given) or peer is not None),
        )
        stands = own_has and (agent.peer_has or bool(own & words))
        if not mine or (rules.must_stand and not stands):
            return agent, False
        if peer is None:
            word = agent.word or (rules.found_word and claim.kind == EMERGENCY and claim.opened)
            may = (word and not agent.used) if rules.stop else (agent.peer_read or word or not rules.fresh_reads_peer)
            if not may:
                return agent, False
        lower = (own | (peer or 0)) & ((1 << n) - 1)
        first = claim.kind == INITIAL and not lower and not rules.first_waits
        if first and rules.first_needs_peer:
            first = peer is not None
        return agent, not rules.must_age or agent.age >= D or first
