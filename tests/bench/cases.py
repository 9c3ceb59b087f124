"""What is measured: sets of objects, each copied, copied again, changed and restored by every tool in turn."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import measure
from tests.bench.measure import Run
from tests.bench.servers import MODES, BenchError, Servers, helper
from tests.bench.tools import BEST, DEFAULTS, FLAGS, OURS, Ours, Rclone, Tool, tool

# From, to. The first is the one of the closing line: home on one cloud, replica on the other.
LANES = {"gcs-s3": ("gcs", "s3"), "s3-gcs": ("s3", "gcs"), "s3-s3": ("s3", "s3")}
STEPS = ("cold", "noop", "delta", "restore")
_CHANGED = 100

Runs = dict[str, dict[str, list[Run]]]


@dataclass(frozen=True)
class Set:
    """So many objects of so many bytes."""

    name: str
    count: int
    bytes: int

    def scaled(self, scale: float) -> Set:
        """A smaller set of the same kind: fewer objects, or smaller ones where they are few."""
        if self.count < 100:
            return replace(self, bytes=max(int(self.bytes * scale), 1))
        return replace(self, count=max(int(self.count * scale), 20))


SETS = (Set("small", 20_000, 8 << 10), Set("medium", 2_000, 1 << 20), Set("large", 4, 512 << 20))


@dataclass
class Bench:
    """Running servers, the tools, and where results go while they come in."""

    servers: Servers
    rclone: Path
    runs: int
    say: Callable[[str], None]

    def measured(self, into: Runs, case: str, contestant: Tool, command: Sequence[str]) -> Run:
        """Run a command and keep its figures."""
        run = measure.run(self.servers, command, f"{case}: {contestant.name}", **contestant.variables())
        into[case][contestant.name].append(run)
        self.say(f"{case:28} {contestant.name:18} {run.wall:8.2f} s  cpu {run.cpu:7.2f} s  {run.rss_mib:5.0f} MiB")
        return run

    def source(self, store: str, bucket: str) -> None:
        """Create a live bucket, as the operator would."""
        maker = Ours(OURS, self.servers, store, store, bucket, "maker")
        maker.prepare()
        helper(self.servers.root, "ours", "buckets", maker.lane, f"{bucket}=source")
        maker.clean()

    def fill(self, store: str, bucket: str, what: Set, seed: int, first: int = 0, step: int = 1) -> None:
        """Write each ``step``-th object of a set, without delay whatever the mode."""
        url = f"http://127.0.0.1:{self.servers.ports[store, 'plain']}"
        span = map(str, (first, what.count, step))
        helper(self.servers.root, "data", "fill", store, url, bucket, str(what.bytes), str(seed), *span)


def compare(bench: Bench, lane: str, modes: Sequence[str], what: Set, names: Sequence[str]) -> Runs:
    """All steps of a set by all tools, run by run, the tools in turn first. Raises BenchError.

    What was restored is compared byte by byte. rclone with its defaults runs once only, for it takes twice as long, and
    not where there is delay, for it takes hours.
    """
    stores, results = LANES[lane], _none()
    live = f"live-{what.name}"
    bench.servers.enter("plain")
    bench.source(stores[0], live)
    bench.fill(stores[0], live, what, seed=0)
    seed = 0
    for mode in modes:
        bench.servers.enter(mode)
        for number in range(bench.runs):
            turn = [name for name in names if name != DEFAULTS or (number == 0 and mode == MODES[0])]
            turn = turn[number % len(turn) :] + turn[: number % len(turn)]
            tools = [tool(name, bench.servers, bench.rclone, stores, live, number) for name in turn]
            seed += 1
            _steps(bench, f"{lane}/{mode}/{what.name}", what, seed, tools, results)
    bench.servers.drop(stores[0], live)
    return results


def _none() -> Runs:
    return defaultdict(lambda: defaultdict(list))


def _steps(bench: Bench, case: str, what: Set, seed: int, tools: list[Tool], results: Runs) -> None:
    for each in tools:
        each.prepare()
    for each in tools:
        bench.measured(results, f"{case}/cold", each, each.replicate())
    for each in tools:
        run = bench.measured(results, f"{case}/noop", each, each.replicate())
        _require_still(case, each, run, what)
    step = min(_CHANGED, what.count)
    bench.fill(tools[0].source, tools[0].live, what, seed, seed % step, step)
    for each in tools:
        bench.measured(results, f"{case}/delta", each, each.replicate())
    expected = bench.servers.digest(tools[0].source, tools[0].live)
    for each in tools:
        bench.measured(results, f"{case}/restore", each, each.restore())
        found = bench.servers.digest(each.target, each.restored)
        if found != expected:
            raise BenchError(f"bench: {case}: {each.name} restored {found}, but the source holds {expected}")
        each.clean()


def _require_still(case: str, each: Tool, run: Run, what: Set) -> None:
    writes = sum(count for kinds in run.requests.values() for kind, count in kinds.items() if _writes(kind))
    if each.name != DEFAULTS and writes > 4 + what.count // 10:
        raise BenchError(f"bench: {case}: {each.name} wrote {writes} times though nothing had changed")


def _writes(kind: str) -> bool:
    return kind in {"PUT", "POST"} or kind.startswith(("s3:Put", "s3_Put")) or ".PUT." in kind


def million(bench: Bench, count: int) -> Runs:
    """Very many tiny objects with nothing changed, from S3 to S3.

    Our first snapshot is taken for good and measured once. rclone's first copy would take half an hour, so its replica
    is laid out by script: crypt's names for the same objects, with crypt's sizes, which is all that a run looks at
    where nothing has changed. That it copies nothing is checked.
    """
    servers, results, live = bench.servers, _none(), "live-million"
    servers.enter("plain")
    bench.source("s3", live)
    helper(servers.root, "data", "files", servers.objects / live, str(count))
    what = Set("million", count, 8)
    ours, rclone = (tool(name, servers, bench.rclone, ("s3", "s3"), live, 0) for name in (OURS, BEST))
    assert isinstance(rclone, Rclone)
    for each in (ours, rclone):
        each.prepare()
    numbers = [f"{number:03d}" for number in range(1000)]
    told = rclone.call("backend", "encode", rclone.crypt, *(f"{number}/{number}" for number in numbers))
    sealed = [name.partition("/") for name in told.split()]
    names = [json.dumps([name[part] for name in sealed]) for part in (0, 2)]
    helper(servers.root, "data", "files", servers.objects / rclone.replica, str(count), *names)
    case = "s3-s3/plain/million"
    bench.measured(results, f"{case}/cold", ours, ours.replicate())
    for number in range(bench.runs):
        for each in (ours, rclone)[:: -1 if number % 2 else 1]:
            run = bench.measured(results, f"{case}/noop", each, each.replicate())
            _require_still(case, each, run, what)
    for each in (ours, rclone):
        each.clean()
    servers.drop("s3", live)
    return results


def shards(bench: Bench, lane: str, mode: str, what: Set) -> Runs:
    """A cold run split over 1, 2 and 4 processes, which share the clients' core."""
    stores, results, live = LANES[lane], _none(), "live-shards"
    bench.servers.enter("plain")
    bench.source(stores[0], live)
    bench.fill(stores[0], live, what, seed=0)
    bench.servers.enter(mode)
    for number in range(bench.runs):
        for count in (1, 2, 4):
            ours = tool(OURS, bench.servers, bench.rclone, stores, live, number)
            assert isinstance(ours, Ours)
            ours.prepare()
            case = f"{lane}/{mode}/{what.name}/shards-{count}"
            run = measure.together(bench.servers, ours.shards(count), case)
            results[case][OURS].append(run)
            bench.say(f"{case:28} {OURS:18} {run.wall:8.2f} s  cpu {run.cpu:7.2f} s  {run.rss_mib:5.0f} MiB")
            ours.clean()
    bench.servers.drop(stores[0], live)
    return results


# Each is measured beside the flags that the comparison uses.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "as compared": (),
    "transfers 8": ("--transfers", "8"),
    "transfers 32": ("--transfers", "32", "--checkers", "32"),
    "transfers 64": ("--transfers", "64", "--checkers", "64"),
    "no fast-list": ("--fast-list=false",),
    "list v1": ("--s3-list-version", "1"),
    "unsigned payload": ("--s3-use-unsigned-payload", "true"),
    "presigned": ("--s3-use-presigned-request",),
    "no HEAD of objects": ("--s3-no-head-object",),
    "no second checksum": ("--s3-disable-checksum",),
    "one stream": ("--multi-thread-streams", "0"),
    "64 MiB chunks": ("--s3-chunk-size", "64Mi"),
    "no buffer": ("--buffer-size", "0"),
    "large buffer": ("--buffer-size", "64Mi"),
    "no checksum": ("--ignore-checksum",),
}


def flags(bench: Bench, lane: str, sets: Sequence[Set], wanted: Sequence[str]) -> Runs:
    """rclone with further flags, by which those of the comparison were chosen: cold and nothing changed."""
    stores, results = LANES[lane], _none()
    for what in sets:
        live = f"live-{what.name}"
        bench.servers.enter("plain")
        bench.source(stores[0], live)
        bench.fill(stores[0], live, what, seed=0)
        for number in range(min(bench.runs, 3)):
            for candidate in wanted:
                base = tool(BEST, bench.servers, bench.rclone, stores, live, number)
                each = replace(base, name=candidate, flags=FLAGS[BEST] + CANDIDATES[candidate])
                each.prepare()
                for step in ("cold", "noop"):
                    bench.measured(results, f"flags/{lane}/{what.name}/{step}", each, each.replicate())
                each.clean()
        bench.servers.drop(stores[0], live)
    return results
