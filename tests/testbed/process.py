"""Long-running processes of the testbed: started in a network namespace and a control group, logged, killed exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed import cgroups

# The shell enters the group before it forks, so that no moment exists in which the process runs outside of it.
_START = 'echo $$ > "$1/cgroup.procs" && log=$2 && shift 2 && { setsid "$@" </dev/null >>"$log" 2>&1 & echo $!; }'


class TestbedError(Exception):
    """The testbed can't do what was asked; the message says what is wrong and shows the end of the log."""

    __test__ = False


@dataclass(frozen=True)
class Process:
    """A daemon. ``enter`` is the nsenter prefix that puts it into its namespaces."""

    name: str
    group: str
    log: Path
    command: Sequence[str]
    enter: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def _record(self) -> Path:
        return self.log.with_suffix(".pid")

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.alive():
            return
        folder = cgroups.create(self.group)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", _START, "sh", str(folder), str(self.log), *self.enter, *self.command],
            env={"PATH": os.environ["PATH"], "HOME": "/root", **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TestbedError(f"testbed: can't start {self.name}: {done.stderr.strip()}")
        pid = int(done.stdout)
        self._record.write_text(f"{pid} {started(pid)}")

    def pid(self) -> int | None:
        """Its process id, or None when it is dead; a reused id isn't mistaken for it."""
        try:
            pid, begun = self._record.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if started(int(pid)) == begun else None

    def alive(self) -> bool:
        """Whether it runs."""
        return self.pid() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; SIGSTOP and SIGCONT pause and resume it."""
        pid = self.pid()
        if pid is None:
            raise TestbedError(f"testbed: {self.name} isn't running\n{self.tail()}")
        os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL the process and whatever it started, and wait until they are gone."""
        cgroups.kill(self.group)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            text = "(no log)"
        return f"--- {self.log}\n" + "\n".join(text.splitlines()[-lines:])

    def wait(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Poll until ``ready``. Raises TestbedError with the log's end where the process dies or time runs out."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive():
                raise TestbedError(f"testbed: {self.name} died while waiting for {what}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise TestbedError(f"testbed: no {what} within {seconds:.0f} s\n{self.tail()}")
            time.sleep(0.1)


def started(pid: int) -> str | None:
    """Start time in clock ticks since boot (proc(5), stat field 22); None for the dead and for zombies."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def run(*command: str, given: str | None = None, seconds: float = 60) -> str:
    """Run a command to its end and return its output. Raises TestbedError with its own words."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TestbedError(f"testbed: no end of {' '.join(command)} within {seconds:.0f} s") from None
    if done.returncode:
        raise TestbedError(f"testbed: {' '.join(command)[:300]} failed: {(done.stderr or done.stdout).strip()[-3000:]}")
    return done.stdout


def eventually(ready: Callable[[], bool], what: str, seconds: float = 60, pause: float = 0.2) -> None:
    """Poll until ``ready``. Raises TestbedError when time runs out."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TestbedError(f"testbed: no {what} within {seconds:.0f} s")
        time.sleep(pause)
