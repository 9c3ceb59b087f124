"""What in the logins of a realm a person should look at: pure rules over what one look counted.

Alerts are told where many read them, so they hold numbers only: no name, address or id of anybody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import NamedTuple

# A look counts the logins of at least so many seconds.
WINDOW_SECONDS = 300.0
_DAY_SECONDS = 86400.0
# The identity server locks an account after 5 wrong passwords; who goes on all the same has hardly forgotten theirs.
FAILURES_OF_ONE = 10
# Few tries on each of many accounts lock none of them. Where people come to work many mistype, but more get in.
FAILURES_OF_ALL = 20
# Office, home and telephone.
ADDRESSES_OF_ONE = 3


class Session(NamedTuple):
    """One login that lasts: whose, and the address that it was made from."""

    account: str
    address: str


@dataclass(frozen=True)
class BreakGlass:
    """The account for emergencies: whether it is an owner's that can be used, when it logged in (Unix time), its id."""

    usable: bool
    logins: tuple[float, ...] = ()
    account: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Look:
    """What was seen of a realm: its present sessions, and since ``since`` (Unix time) the logins.

    ``failures`` names the account of each failed login, as far as one was named; ``logins`` counts the others.
    """

    since: float
    failures: tuple[str, ...] = ()
    logins: int = 0
    sessions: tuple[Session, ...] = ()
    break_glass: BreakGlass | None = None


class Alert(NamedTuple):
    """Something to tell a person. ``weight``: it is told anew when this grows."""

    reason: str
    message: str
    weight: int = 1


@dataclass(frozen=True)
class Memory:
    """When the last look was (Unix time), and the weights of the alerts that it found, by reason."""

    at: float
    weights: Mapping[str, int] = field(default_factory=dict)


def since(memory: Memory | None, now: float) -> float:
    """From when on to count (Unix time): no login between two looks is missed, and no look is too short to judge."""
    return min(memory.at if memory else now, now - WINDOW_SECONDS)


def emergencies_since(memory: Memory | None, now: float) -> float:
    """From when on to tell logins of the account for emergencies (Unix time).

    An operator that starts tells those of a day: twice is better than never.
    """
    return since(memory, now) if memory else now - _DAY_SECONDS


def judge(look: Look, memory: Memory | None, now: float) -> tuple[tuple[Alert, ...], Memory]:
    """The alerts to tell, and what to remember. What lasts from look to look is told once.

    Logins of the account for emergencies come back while looks overlap, each in the same words.
    """
    rules = (login_burst, many_addresses, break_glass_missing)
    found = [alert for rule in rules if (alert := rule(look)) is not None]
    before = memory.weights if memory else {}
    told = tuple(a for a in found if a.weight > before.get(a.reason, 0))
    return (*told, *break_glass_logins(look)), Memory(now, {a.reason: a.weight for a in found})


def login_burst(look: Look) -> Alert | None:
    """Somebody guesses: many failures of one account, or of all and more than there are logins."""
    total, most = len(look.failures), max(Counter(look.failures).values(), default=0)
    if most < FAILURES_OF_ONE and (total < FAILURES_OF_ALL or total <= look.logins):
        return None
    begun = datetime.fromtimestamp(look.since, UTC).strftime("%Y-%m-%d %H:%M")
    return Alert(
        "LoginBurst",
        f"Since {begun} UTC {total} logins failed, {most} of them of one account, and {look.logins} succeeded: somebody"
        " may be guessing passwords. The user events of the tenant's realm say who and from where.",
    )


def many_addresses(look: Look) -> Alert | None:
    """A password or a session may be shared, or stolen. An address of IPv6 stands for its /64 (RFC 4291, 2.5.4)."""
    places: dict[str, set[str]] = defaultdict(set)
    for session in look.sessions:
        places[session.account].add(_network(session.address))
    accounts = sum(len(found) > ADDRESSES_OF_ONE for found in places.values())
    if not accounts:
        return None
    return Alert(
        "ManyAddresses",
        f"Accounts that are logged in from more than {ADDRESSES_OF_ONE} addresses at once: {accounts}. The sessions of"
        " the tenant's realm say which.",
        accounts,
    )


def break_glass_missing(look: Look) -> Alert | None:
    """An emergency is a bad moment to find out."""
    if look.break_glass is None or look.break_glass.usable:
        return None
    return Alert(
        "BreakGlassMissing",
        "The account of spec.access.sso.passwords.breakGlass is missing or disabled, has no verified e-mail address, or"
        " has not the role owner: make it so in the tenant's realm, or name another.",
    )


def break_glass_logins(look: Look) -> tuple[Alert, ...]:
    """Each login of the account for emergencies, by its second."""
    return tuple(
        Alert(
            "BreakGlassLogin",
            f"The account for emergencies logged in at {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC. Was it"
            " one?",
        )
        for at in (look.break_glass.logins if look.break_glass else ())
    )


def dormant_disabled(accounts: int) -> tuple[Alert, ...]:
    """Nobody else tells the administrators that people can't log in any more."""
    if not accounts:
        return ()
    text = (
        f"Accounts that were disabled, for nobody had logged in for spec.access.sso.passwords.dormantDays: {accounts}."
    )
    return (Alert("DormantDisabled", f"{text} An administrator of the realm can enable them.", accounts),)


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))
