"""Runs one command on the clients' core and measures it.

The measuring process must stay smaller than what it measures: Linux counts the memory of the process that forks into
``ru_maxrss`` of the new one (getrusage(2); exec keeps the maximum). So this side of the benchmark imports the standard
library only, and a measurement that can't be told from ours is refused.
"""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.servers import BenchError, Servers, cores, environment, pinned

_DEADLINE_SECONDS = 3600.0


@dataclass(frozen=True)
class Run:
    """One measured process. Seconds of wall time and CPU; ``foreign_cpu`` is what else ran on the machine.

    ``wire_bytes`` is what crossed loopback, headers included; None behind the delaying proxy, where all crosses twice.
    """

    wall: float
    cpu: float
    rss_mib: float
    server_cpu: float
    foreign_cpu: float
    requests: dict[str, dict[str, int]]
    wire_bytes: int | None

    def wire(self) -> dict[str, Any]:
        """Its figures as JSON; requests, which hardly vary, are told once a case."""
        figures = {name: value for name, value in asdict(self).items() if name != "requests"}
        return {name: round(v, 3) if isinstance(v, float) else v for name, v in figures.items()}


def _busy() -> float:
    """Seconds in which the machine's processors did anything, the hypervisor's share included (proc(5), stat)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _loopback() -> int:
    """Bytes that were sent over loopback (of this network namespace)."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    return next(int(line.partition(":")[2].split()[8]) for line in lines if line.strip().startswith("lo:"))


def run(servers: Servers, command: Sequence[str], name: str, **variables: str) -> Run:
    """Run a command to its end. Raises BenchError where it fails or takes an hour."""
    return together(servers, [command], name, **variables)


def together(servers: Servers, commands: Sequence[Sequence[str]], name: str, **variables: str) -> Run:
    """Run commands at the same time, on the same core; CPU is their sum, memory the largest one's."""
    _, core = cores()
    log = servers.root / "client.log"
    servers.requests()
    busy, own, server, bytes_ = _busy(), time.process_time(), servers.cpu(), _loopback()
    with log.open("wb") as out:
        begun = time.perf_counter()
        children = [
            subprocess.Popen(
                pinned(core, *command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment(servers.root) | variables,
            )
            for command in commands
        ]
        usages = [_wait(child, name, log) for child in children]
        wall = time.perf_counter() - begun
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    rss = max(usage.ru_maxrss for usage in usages)
    if rss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        raise BenchError(f"bench: {name}: its memory can't be told from that of the benchmark itself")
    server = servers.cpu() - server
    foreign = _busy() - busy - cpu - server - (time.process_time() - own)
    wire = _loopback() - bytes_ if servers.mode == "plain" else None
    return Run(wall, cpu, rss / 1024, server, max(foreign, 0.0), servers.requests(), wire)


def _wait(child: subprocess.Popen[bytes], name: str, log: Path) -> resource.struct_rusage:
    overdue = threading.Timer(_DEADLINE_SECONDS, child.kill)
    overdue.start()
    _, status, usage = os.wait4(child.pid, 0)
    overdue.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        last = log.read_text(errors="replace")[-3000:]
        raise BenchError(f"bench: {name} ended with {child.returncode} (-9: it took an hour):\n{last}")
    return usage
