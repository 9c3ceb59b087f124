"""The wide area network: one router namespace between all clusters and stores, links that can be cut, and counters.

Every namespace has one link, to the router ``wan``. Whatever leaves the instance's addresses goes to ``outside``, which
counts it and answers nothing. The machine reaches the instance by one link and never forwards for it: a blackhole route
stands behind that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed.process import TestbedError, run
from tests.testbed.topology import Plan

NETNS = Path("/run/netns")
_TABLE = "inet testbed"
_QUIET = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
_ROUTER = {**_QUIET, "net.ipv4.ip_forward": 1, "net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0}


@dataclass(frozen=True)
class Count:
    """Packets and bytes (of whole IP packets)."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.bytes + other.bytes)

    def __sub__(self, other: Count) -> Count:
        return Count(self.packets - other.packets, self.bytes - other.bytes)


@dataclass(frozen=True)
class Counters:
    """What was counted since the instance came up: by (source, store) to and from stores, and what went outside."""

    to_stores: dict[tuple[str, str], Count]
    from_stores: dict[tuple[str, str], Count]
    outside: Count

    def to_store(self, store: str, source: str | None = None) -> Count:
        """What reached a site's store, from one site (or ``host``) or from all."""
        return sum((c for (s, t), c in self.to_stores.items() if t == store and source in (None, s)), Count())

    def from_store(self, store: str, reader: str | None = None) -> Count:
        """What a site's store sent, to one site (or ``host``) or to all."""
        return sum((c for (s, t), c in self.from_stores.items() if t == store and reader in (None, s)), Count())


@dataclass(frozen=True)
class Network:
    """The network of an instance."""

    plan: Plan

    @property
    def _link(self) -> str:
        return f"dt{self.plan.index}"

    def namespace(self, name: str) -> str:
        """Name of a network namespace of the instance."""
        return f"{self.plan.prefix}{name}"

    def enter(self, name: str) -> list[str]:
        """Prefix that runs a command in a namespace."""
        return ["nsenter", f"--net={NETNS / self.namespace(name)}", "--"]

    def _ip(self, lines: Iterable[str], name: str | None = None) -> None:
        where = ["-n", self.namespace(name)] if name else []
        run("ip", *where, "-batch", "-", given="\n".join(lines) + "\n")

    def _sysctl(self, name: str, values: dict[str, int]) -> None:
        run(*self.enter(name), "sysctl", "-qw", *(f"{k}={v}" for k, v in values.items()))

    def create(self) -> None:
        """Make the router, the outside and the machine's link, with rules and counters."""
        plan, wan = self.plan, self.namespace("wan")
        outside = self.namespace("outside")
        self._ip([f"netns add {wan}", f"netns add {outside}"])
        self._sysctl("wan", _ROUTER)
        self._sysctl("outside", _QUIET)
        self._ip(
            [
                f"route add blackhole {plan.net} metric 4096",
                f"link add {self._link} type veth peer name host netns {wan}",
                f"addr add {plan.host}/32 dev {self._link}",
                f"link set {self._link} up",
                f"route add {plan.gateway} dev {self._link} src {plan.host}",
                f"route add {plan.net} via {plan.gateway} dev {self._link} src {plan.host}",
            ]
        )
        self._ip(
            [
                "link set lo up",
                f"addr add {plan.gateway}/32 dev lo",
                f"route add blackhole {plan.net} metric 4096",
                "link set host up",
                f"route add {plan.host} dev host src {plan.gateway}",
                f"link add outside type veth peer name eth0 netns {outside}",
                "link set outside up",
                f"route add {plan.outside} dev outside src {plan.gateway}",
                f"route add default via {plan.outside} dev outside",
            ],
            "wan",
        )
        self._ip(
            [
                "link set lo up",
                f"addr add {plan.outside}/32 dev eth0",
                "link set eth0 up",
                f"route add {plan.gateway} dev eth0",
            ],
            "outside",
        )
        run(*self.enter("wan"), "nft", "-f", "-", given=self._rules())
        run(
            *self.enter("outside"),
            "nft",
            "-f",
            "-",
            given=f"""table {_TABLE} {{
              counter reached {{ }}
              set seen {{ type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }}
              chain arrivals {{ type filter hook prerouting priority -300;
                iifname "eth0" counter name reached
                iifname "eth0" update @seen {{ ip saddr . ip daddr }} drop
              }}
            }}""",
        )

    def _sources(self) -> list[str]:
        return [*(s.name for s in self.plan.topology.sites), "host"]

    def _rules(self) -> str:
        counters, rules = [], []
        for store in self.plan.topology.sites:
            address = self.plan.store(store)
            for source in self._sources():
                block = ", ".join(self.plan.addresses(source))
                pair = f"{source}/{store.name}"
                counters += [f"counter to/{pair} {{ }}", f"counter from/{pair} {{ }}"]
                rules += [
                    f"ip saddr {{ {block} }} ip daddr {address} counter name to/{pair}",
                    f"ip saddr {address} ip daddr {{ {block} }} counter name from/{pair}",
                ]
        lines = "\n".join(rules)
        stores = ", ".join(self.plan.store(s) for s in self.plan.topology.sites)
        # The machine may open connections into the instance, but nothing in the instance to the machine.
        return f"""table {_TABLE} {{
          {chr(10).join(counters)}
          set callers {{ type ipv4_addr . ipv4_addr; flags dynamic; size 4096; }}
          chain cuts {{ }}
          chain forward {{ type filter hook forward priority 0;
            jump cuts
            oifname "host" ct state new drop
            ip daddr {{ {stores} }} update @callers {{ ip saddr . ip daddr }}
            {lines}
          }}
        }}"""

    def attach(self, name: str, address: str, routes: Iterable[str] = ()) -> None:
        """Make a namespace anew: one link to the router, an address and the prefixes that are routed to it."""
        self.detach(name, address)
        gateway, space, link = self.plan.gateway, self.namespace(name), self._wan_link(address)
        self._ip([f"netns add {space}"])
        self._sysctl(name, _ROUTER)
        self._ip(
            [
                f"link add {link} type veth peer name eth0 netns {space}",
                f"link set {link} up",
                f"route add {address} dev {link} src {gateway}",
                *(f"route add {r} via {address} dev {link} onlink" for r in routes),
            ],
            "wan",
        )
        self._ip(
            [
                "link set lo up",
                f"addr add {address}/32 dev eth0",
                "link set eth0 up",
                f"route add {gateway} dev eth0 src {address}",
                f"route add default via {gateway} dev eth0 src {address}",
            ],
            name,
        )

    @staticmethod
    def _wan_link(address: str) -> str:
        return "to-" + ".".join(address.split(".")[2:])

    def attached(self, name: str) -> bool:
        """Whether the namespace exists."""
        return (NETNS / self.namespace(name)).exists()

    def detach(self, name: str, address: str) -> None:
        """Remove a namespace and its link; packets to it vanish from then on."""
        with suppress(TestbedError):
            run("ip", "-n", self.namespace("wan"), "link", "del", self._wan_link(address))
        if self.attached(name):
            run("ip", "netns", "del", self.namespace(name))

    def cut(self, a: str, b: str) -> None:
        """Drop every packet between two places (site, cluster, ``store:SITE``, ``host``), of open connections, too."""
        first, second = (", ".join(self.plan.addresses(name)) for name in (a, b))
        if self._pair(a, b) not in self.cuts():
            rules = [
                f'add rule {_TABLE} cuts ip saddr {{ {x} }} ip daddr {{ {y} }} drop comment "{self._pair(a, b)}"'
                for x, y in ((first, second), (second, first))
            ]
            run(*self.enter("wan"), "nft", "-f", "-", given="\n".join(rules))

    def heal(self, a: str, b: str) -> None:
        """Undo ``cut``; a link that isn't cut stays as it is."""
        handles = [r["handle"] for r in self._cut_rules() if r["comment"] == self._pair(a, b)]
        rules = [f"delete rule {_TABLE} cuts handle {h}" for h in handles]
        run(*self.enter("wan"), "nft", "-f", "-", given="\n".join(rules))

    @staticmethod
    def _pair(a: str, b: str) -> str:
        return " | ".join(sorted((a, b)))

    def _cut_rules(self) -> list[dict[str, Any]]:
        listed = json.loads(run(*self.enter("wan"), "nft", "-j", "list", "chain", *_TABLE.split(), "cuts"))
        return [o["rule"] for o in listed["nftables"] if "rule" in o]

    def cuts(self) -> list[str]:
        """The pairs of places between which packets are dropped, as ``a | b``."""
        return sorted({r["comment"] for r in self._cut_rules()})

    def counters(self) -> Counters:
        """Read all counters."""
        towards: dict[tuple[str, str], Count] = {}
        away: dict[tuple[str, str], Count] = {}
        for name, count in self._read("wan").items():
            direction, source, store = name.split("/")
            (towards if direction == "to" else away)[source, store] = count
        return Counters(towards, away, self._read("outside")["reached"])

    def callers(self, store: str) -> set[str]:
        """Every address from which a packet was sent to a site's store since the instance came up."""
        address = self.plan.store(next(s for s in self.plan.topology.sites if s.name == store))
        listed = json.loads(run(*self.enter("wan"), "nft", "-j", "list", "set", *_TABLE.split(), "callers"))
        pairs = [e["concat"] for e in next(o["set"] for o in listed["nftables"] if "set" in o).get("elem", [])]
        return {source for source, target in pairs if target == address}

    def outside_flows(self) -> dict[str, Count]:
        """What reached the outside, by "source -> destination"."""
        listed = json.loads(run(*self.enter("outside"), "nft", "-j", "list", "set", *_TABLE.split(), "seen"))
        elements = next(o["set"] for o in listed["nftables"] if "set" in o).get("elem", [])
        return {
            " -> ".join(e["elem"]["val"]["concat"]): Count(
                e["elem"].get("counter", {}).get("packets", 0), e["elem"].get("counter", {}).get("bytes", 0)
            )
            for e in elements
        }

    def _read(self, name: str) -> dict[str, Count]:
        listed = json.loads(run(*self.enter(name), "nft", "-j", "list", "counters", "table", *_TABLE.split()))
        found = [o["counter"] for o in listed["nftables"] if "counter" in o]
        return {c["name"]: Count(c["packets"], c["bytes"]) for c in found}


def remove(index: int) -> None:
    """Remove every namespace, link and route of the instance with that index, whatever state they are in."""
    for space in sorted(NETNS.glob(f"dt{index}-*")) if NETNS.exists() else ():
        run("ip", "netns", "del", space.name)
    with suppress(TestbedError):
        run("ip", "link", "del", f"dt{index}")
    with suppress(TestbedError):
        run("ip", "route", "del", "blackhole", f"10.{200 + index}.0.0/16", "metric", "4096")


def leftovers(index: int) -> list[str]:
    """Namespaces, links and routes of the instance with that index."""
    spaces = [f"namespace {p.name}" for p in NETNS.glob(f"dt{index}-*")] if NETNS.exists() else []
    links = [f"link {p.name}" for p in Path("/sys/class/net").glob(f"dt{index}")]
    return [*spaces, *links, *(["route"] if taken(index) else [])]


def taken(index: int) -> bool:
    """Whether the machine already routes the instance's addresses somewhere."""
    return f"10.{200 + index}." in run("ip", "-4", "route", "show", "table", "all")
