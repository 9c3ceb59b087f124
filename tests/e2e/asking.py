"""What the end-to-end tests look with: continuous asking from a node, and connection attempts from inside a pod.

Times are CLOCK_BOOTTIME in seconds, the same clock for the tests and everything on the testbed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from tests.estate import NAMESPACE, Estate, wait_for
from tests.testbed.testbed import Site

EGRESS = "app.kubernetes.io/component=egress"
# Every question has a thread and much time: one that a paused guard holds back must not hide its late answer.
_ASKER = """
import http.client, json, sys, threading, time
host, port, path, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
now = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
def ask():
    asked, status, reason = now(), 0, ""
    try:
        c = http.client.HTTPConnection(host, port, timeout=60)
        c.request("GET", path)
        r = c.getresponse()
        status, body = r.status, r.read()
        if status == 503:
            reason = json.loads(body).get("reason", "")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = type(error).__name__
    sys.stdout.write(json.dumps([asked, now(), status, reason]) + "\\n")
    sys.stdout.flush()
while True:
    threading.Thread(target=ask, daemon=True).start()
    time.sleep(pause)
"""

_CONNECT = """
import json, socket, sys, threading
found = {}
def reach(name, host, port):
    try:
        socket.create_connection((host, port), float(sys.argv[2])).close()
        found[name] = True
    except OSError:
        found[name] = False
threads = [threading.Thread(target=reach, args=(n, *t)) for n, t in json.loads(sys.argv[1]).items()]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps(found))
"""


def now() -> float:
    """The common clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall(moment: float) -> float:
    """A wall-clock time (seconds since 1970) on the common clock."""
    return moment - time.time() + now()


@dataclass(frozen=True)
class Answer:
    """When a question was asked and answered, its HTTP status (0: no answer) and the guard's reason."""

    asked: float
    answered: float
    status: int
    reason: str


class Asking:
    """Asks a pod's guard about seven times a second from the pod's node; needs no API server."""

    def __init__(self, site: Site, pod: dict[str, Any], path: str = "/healthz", pause: float = 0.15) -> None:
        address = pod["status"]["podIP"]
        node = next(n for n in site.cluster.nodes if n.name == pod["spec"]["nodeName"])
        self.answers: list[Answer] = []
        self._process = subprocess.Popen(
            [*node.enter(), sys.executable, "-c", _ASKER, address, "8080", path, str(pause)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.answers.append(Answer(*json.loads(line)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def served(self, since: float = 0, until: float = float("inf")) -> list[Answer]:
        """Questions of that time that were answered with 200."""
        return [a for a in self.answers if since <= a.asked < until and a.status == 200]

    def refused(self, since: float = 0, until: float = float("inf")) -> list[Answer]:
        """Questions of that time that were answered otherwise or not at all."""
        return [a for a in self.answers if since <= a.asked < until and a.status != 200]

    def last_served(self) -> float:
        """When the last question that got a 200 was asked: then at the latest the guard held a lease."""
        return max(a.asked for a in self.served())

    def wait_open(self, since: float, seconds: float = 60) -> float:
        """When the first question since then got its 200. Raises GaveUpError."""
        return wait_for("an open guard", lambda: self.served(since), seconds)[0].asked

    def wait_closed(self, since: float, seconds: float = 60) -> Answer:
        """The first refusal behind the last 200, once ten in a row were refused. Raises GaveUpError."""

        def look() -> list[Answer]:
            tail = self.refused(max([since, *(a.asked for a in self.served(since))]))
            return tail if len(tail) >= 10 else []

        return wait_for("a closed guard", look, seconds)[0]

    def longest_gap(self, since: float) -> float:
        """Seconds between the two served questions that lie furthest apart."""
        times = [since, *(a.asked for a in self.served(since))]
        return max(b - a for a, b in pairwise(times))


def reached(
    site: Site, namespace: str, pod: str, container: str, targets: dict[str, tuple[str, int]]
) -> dict[str, bool]:
    """Which addresses (host, TCP port) a pod's container can connect to within two seconds."""
    command = ["python3", "-c", _CONNECT, json.dumps(targets), "2"]
    where = ["-n", namespace, pod, "-c", container] if container else ["-n", namespace, pod]
    found: dict[str, bool] = json.loads(site.kubectl("exec", *where, "--", *command))
    return found


def containers(estate: Estate, site: Site, namespace: str, component: str, container: str) -> dict[str, int]:
    """Process ids of a container by pod, for signals."""
    pods = estate.pods(site, namespace, f"app.kubernetes.io/component={component}")
    live = [p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running" and not _leaving(p)]
    return {name: site.cluster.container_pid(namespace, name, container) for name in live}


def _leaving(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Pause processes (SIGSTOP) for the body."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def cut(estate: Estate, a: str, b: str) -> Iterator[float]:
    """Cut a link for the body; yields the moment from which nothing passed."""
    estate.testbed.cut(a, b)
    try:
        yield now()
    finally:
        estate.testbed.heal(a, b)


def decisions(site: Site, **wanted: object) -> list[dict[str, Any]]:
    """Lines of the log of the site's way out with these fields."""
    text = site.kubectl("logs", "-n", NAMESPACE, "-l", EGRESS, "-c", "egress", "--tail=-1")
    return [line for line in map(json.loads, text.splitlines()) if wanted.items() <= line.items()]
