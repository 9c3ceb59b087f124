"""The benchmark of replication and restore against rclone.

    python -m tests.bench [--quick] [--runs N] [--scale X] [--only PATTERN ...] [--mode MODE] [--loaded] [--out FILE]

What is measured and how is said in docs/replication-bench.md. Patterns choose sections, such as ``gcs-s3/*``,
``s3-s3/million``, ``gcs-s3/shards`` or ``gcs-s3/flags``; their results are merged into those of earlier calls. The last
line holds the ratios. Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 the machine is busy.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import importlib.metadata
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import cases, chart, results
from tests.bench.cases import LANES, SETS, Bench, Runs
from tests.bench.servers import MODES, ONE_WAY_MILLISECONDS, BenchError, cores, running
from tests.bench.tools import BEST, FLAGS, OURS
from tests.testbed.build import TOOLS, build

_OUT, _QUICK_OUT = Path("bench/results/replication.json"), Path("build/replication-quick.json")
_CHART = Path("docs/replication-bench.svg")
_QUIET_LOAD = 0.5
_PATIENCE_SECONDS = 180
# The largest set is there once for the source, once for each tool's replica, and restored.
_BYTES = 12 << 30
_IN_MEMORY = Path("/dev/shm")

Section = tuple[str, Callable[[Bench], Runs]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Replication against rclone.")
    parser.add_argument("--quick", action="store_true", help="a few minutes: one direction, plain, small and large")
    parser.add_argument("--runs", type=int, help="of every case (default: 5; 3 with --quick)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sets (to try the benchmark itself)")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="sections; merge with earlier")
    parser.add_argument("--mode", action="append", choices=MODES, help="of the network (default: all)")
    parser.add_argument("--candidate", action="append", choices=list(cases.CANDIDATES), help="of section flags")
    parser.add_argument("--loaded", action="store_true", help="measure although the machine is busy, and say so")
    parser.add_argument("--out", type=Path, help=f"default: {_OUT}; {_QUICK_OUT} with --quick")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def _sections(arguments: argparse.Namespace) -> Iterator[Section]:
    sets = [each.scaled(arguments.scale) for each in SETS]
    if arguments.quick:
        small, _, large = sets
        for each in (small, large):
            yield f"gcs-s3/{each.name}", partial(_compare, "gcs-s3", ("plain",), each, (OURS, BEST))
        return
    for lane in LANES:
        for each in sets:
            modes = tuple(arguments.mode or MODES)
            yield f"{lane}/{each.name}", partial(_compare, lane, modes, each, (OURS, *FLAGS))
    yield "s3-s3/million", lambda bench: cases.million(bench, max(int(1_000_000 * arguments.scale), 1000))
    yield "gcs-s3/shards", lambda bench: cases.shards(bench, "gcs-s3", "tls20", sets[0])
    wanted = arguments.candidate or list(cases.CANDIDATES)
    yield "gcs-s3/flags", lambda bench: cases.flags(bench, "gcs-s3", (sets[0], sets[2]), wanted)


def _compare(lane: str, modes: tuple[str, ...], what: cases.Set, names: tuple[str, ...], bench: Bench) -> Runs:
    return cases.compare(bench, lane, modes, what, names)


def _await_quiet(loaded: bool) -> bool:
    """Whether the machine is idle enough, after some patience."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while os.getloadavg()[0] > _QUIET_LOAD and not loaded:
        if time.monotonic() > until:
            return False
        time.sleep(5)
    return True


def _machine() -> dict[str, Any]:
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "server_core": cores()[0],
        "client_core": cores()[1],
    }


def _versions() -> dict[str, str]:
    packages = ("obstore", "cryptography", "tink", "boto3", "google-cloud-storage", "urllib3", "orjson", "aiohttp")
    found = {"python": platform.python_version(), **{name: TOOLS[name].version for name in ("rclone", "versitygw")}}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _folder(scale: float) -> Path:
    """Memory if it is large enough and keeps extended attributes (versitygw's metadata), else the disk."""
    try:
        free = min(shutil.disk_usage(_IN_MEMORY).free, _available())
        root = Path(tempfile.mkdtemp(prefix="bench-", dir=_IN_MEMORY))
        os.setxattr(root, "user.bench", b"")
    except OSError:
        return Path(tempfile.mkdtemp(prefix="bench-"))
    if free > _BYTES * scale:
        return root
    root.rmdir()
    return Path(tempfile.mkdtemp(prefix="bench-"))


def _available() -> int:
    return next(int(line.split()[1]) << 10 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable"))


def _isolate() -> None:
    """Go on in a network namespace of our own, whose loopback carries nothing else."""
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    command = ["unshare", *user, "--net", sys.executable, "-m", "tests.bench", "--inside", *sys.argv[1:]]
    os.execvp(command[0], command)


def _measure(arguments: argparse.Namespace, wanted: list[Section], out: Path) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    rclone, versitygw = build("rclone"), build("versitygw")
    root = _folder(arguments.scale)
    found = results.load(out) if arguments.only else {"cases": {}}
    found |= {
        "machine": _machine(),
        "versions": _versions(),
        "rclone_flags": {name: " ".join(flags) for name, flags in FLAGS.items()},
        "one_way_milliseconds": ONE_WAY_MILLISECONDS,
        "data_in": str(root.parent),
    }
    failed = False
    try:
        with running(root, versitygw) as servers:
            bench = Bench(servers, rclone, arguments.runs, partial(print, flush=True))
            _warm_up(bench, {name.partition("/")[0] for name, _ in wanted}, arguments.quick)
            for name, section in wanted:
                load, now = os.getloadavg()[0], datetime.now(UTC).isoformat(timespec="seconds")
                print(f"bench: {name} (load {load:.2f})", flush=True)
                try:
                    measured = section(bench)
                except BenchError as error:
                    print(error, file=sys.stderr, flush=True)
                    failed = True
                    servers.clear()
                    continue
                stamp = {"measured": now, "scale": arguments.scale, "loaded": arguments.loaded, "load": round(load, 2)}
                found["cases"] |= {case: results.case(runs) | stamp for case, runs in measured.items()}
                found["line"] = results.line(found["cases"])
                results.save(out, found)
                gc.collect()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if found["cases"]:
        print(results.table(found["cases"]))
        if out == _OUT:
            _CHART.write_text(chart.draw(found))
        print(results.line(found["cases"]))
    return int(failed)


def _warm_up(bench: Bench, lanes: set[str], quick: bool) -> None:
    """Compile modules, fill caches, and learn early of what does not work; nothing of it is kept."""
    still = Bench(bench.servers, bench.rclone, 1, lambda _: None)
    for lane in sorted(lanes):
        cases.compare(still, lane, MODES[:1] if quick else MODES, cases.Set("warm-up", 20, 1000), (OURS, *FLAGS))


def main() -> int:
    """Measure; returns the exit code."""
    arguments = _parser().parse_args()
    arguments.runs = arguments.runs or (3 if arguments.quick else 5)
    out = arguments.out or (_QUICK_OUT if arguments.quick else _OUT)
    wanted = [
        section
        for section in _sections(arguments)
        if not arguments.only or any(fnmatch.fnmatch(section[0], pattern) for pattern in arguments.only)
    ]
    if not wanted:
        names = ", ".join(name for name, _ in _sections(arguments))
        print(f"bench: no section fits {' '.join(arguments.only)}; there are {names}", file=sys.stderr)
        return 2
    if arguments.inside:
        try:
            return _measure(arguments, wanted, out)
        except BenchError as error:
            print(error, file=sys.stderr)
            return 1
    build("rclone")
    build("versitygw")
    if not _await_quiet(arguments.loaded):
        print(
            f"bench: the machine is busy (load {os.getloadavg()[0]:.2f}); stop what runs, or measure with --loaded,"
            " which marks the results",
            file=sys.stderr,
        )
        return 3
    _isolate()
    return 1


if __name__ == "__main__":
    sys.exit(main())
