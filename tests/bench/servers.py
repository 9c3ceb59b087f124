"""The stores of the benchmark: versitygw for S3, the stand-in for Cloud Storage, both pinned to one core.

Each is reached in two ways: plainly, and with TLS behind a proxy that delays every byte (``tests.bench.delay``). This
module is imported by the measuring process, which must stay small (``tests.bench.measure``): standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import digest

ACCESS, SECRET = "bench", "bench-secret"
REGION, LOCATION = "eu-central-1", "europe-west3"
ONE_WAY_MILLISECONDS = 10.0
MODES = ("plain", "tls20")


class BenchError(Exception):
    """The benchmark can't go on; the message says why."""


def environment(root: Path) -> dict[str, str]:
    """What every process of the benchmark gets to see; nothing of the caller's but the path."""
    authority = str(root / "pki" / "ca.crt")
    trust = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
    return {"PATH": os.environ["PATH"], "HOME": str(root), "LANG": "C.UTF-8"} | dict.fromkeys(trust, authority)


def cores() -> tuple[int, int]:
    """The servers' core and the clients'. Raises BenchError where there is one only."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchError("bench: two cores are needed, one for the servers and one for the clients")
    return usable[0], usable[1]


def pinned(core: int, *command: str | Path) -> list[str]:
    """The command, held to one core."""
    return ["taskset", "--cpu-list", str(core), *map(str, command)]


def module(name: str, *arguments: str | Path) -> list[str]:
    """Command of a module of this package."""
    return [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]


def helper(root: Path, name: str, *arguments: str | Path) -> str:
    """Run a module to its end and return what it prints. Raises BenchError with its last words."""
    done = subprocess.run(module(name, *arguments), env=environment(root), capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{' '.join([name, *map(str, arguments)])} ended with {done.returncode}"
        raise BenchError(f"bench: {said}:\n{done.stderr.strip()[-3000:]}")
    return done.stdout


class _Talker:
    """A process that answers lines of JSON."""

    def __init__(self, command: list[str], root: Path) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(root)
        )

    def read(self) -> Any:
        """The next line. Raises BenchError where the process has ended."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"bench: {self.process.args!r} ended; its last words are above")
        return json.loads(line)

    def ask(self, *order: str) -> Any:
        """Send an order and return the answer."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.read()


@dataclass
class Servers:
    """Running stores under ``root``. ``mode`` says by which way ``url`` leads to them."""

    root: Path
    gcs: _Talker
    pids: list[int]
    ports: dict[tuple[str, str], int]
    mode: str = "plain"
    _logged: int = 0

    @property
    def objects(self) -> Path:
        """Where versitygw keeps buckets as folders."""
        return self.root / "s3"

    def enter(self, mode: str) -> None:
        """Reach the stores plainly, or with TLS and delay."""
        self.mode = mode
        self.gcs.ask("url", self.url("gcs"))

    def url(self, store: str) -> str:
        """Address of store ``s3`` or ``gcs``."""
        return f"{'http' if self.mode == 'plain' else 'https'}://127.0.0.1:{self.ports[store, self.mode]}"

    def requests(self) -> dict[str, dict[str, int]]:
        """Requests by store and kind since the last call."""
        counts: Counter[str] = Counter()
        with (self.root / "access.log").open("rb") as log:
            log.seek(self._logged)
            for line in log:
                # Server access log: owner, bucket, [time, zone], address, requester, request, operation.
                fields = line.split(b" ", 8)
                if len(fields) == 9:
                    counts[fields[7].decode()] += 1
            self._logged = log.tell()
        return {"s3": dict(counts), "gcs": self.gcs.ask("requests")}

    def cpu(self) -> float:
        """CPU seconds that the servers and proxies have used so far."""
        return sum(_ticks(pid) for pid in self.pids) / os.sysconf("SC_CLK_TCK")

    def digest(self, store: str, bucket: str) -> str:
        """Digest of what a bucket holds."""
        return str(self.gcs.ask("digest", bucket)) if store == "gcs" else digest.of_folder(self.objects / bucket)

    def drop(self, store: str, bucket: str) -> None:
        """Remove a bucket and all that is in it, behind the server's back."""
        if store == "gcs":
            self.gcs.ask("drop", bucket)
        else:
            for folder in (self.objects, self.root / "s3-versions"):
                shutil.rmtree(folder / bucket, ignore_errors=True)

    def clear(self) -> None:
        """Remove all buckets."""
        for bucket in self.gcs.ask("buckets"):
            self.drop("gcs", bucket)
        for folder in self.objects.iterdir():
            self.drop("s3", folder.name)


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _process(command: list[str], root: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment(root))
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def _talker(command: list[str], root: Path) -> Iterator[_Talker]:
    talker = _Talker(command, root)
    try:
        yield talker
    finally:
        talker.process.kill()
        talker.process.communicate()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"bench: versitygw does not listen:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def running(root: Path, versitygw: Path) -> Iterator[Servers]:
    """Both stores with their data under ``root``."""
    core, _ = cores()
    for name in ("s3", "s3-versions"):
        (root / name).mkdir()
    certificate, key = helper(root, "data", "certificate", root / "pki").split()
    ports: dict[tuple[str, str], int] = {}
    with ExitStack() as stack:
        processes = []
        for mode in MODES:
            port = ports["s3", mode] = _free_port()
            command = [
                *(str(versitygw), "--access", ACCESS, "--secret", SECRET, "--region", REGION, "--quiet"),
                *("--port", f"127.0.0.1:{port}", "--keep-alive", "--access-log", str(root / "access.log")),
                *(("--cert", certificate, "--key", key) if mode != "plain" else ()),
                *("posix", "--versioning-dir", str(root / "s3-versions"), str(root / "s3")),
            ]
            log = root / f"versitygw-{mode}.log"
            process = stack.enter_context(_process(pinned(core, *command), root, log))
            _await(port, process, log)
            processes.append(process)
        gcs = stack.enter_context(_talker(pinned(core, *module("gcs", certificate, key)), root))
        ports["gcs", "plain"], ports["gcs", "tls20"] = gcs.read()
        targets = [str(ports[store, "tls20"]) for store in ("s3", "gcs")]
        way = stack.enter_context(_talker(pinned(core, *module("delay", str(ONE_WAY_MILLISECONDS), *targets)), root))
        ports["s3", "tls20"], ports["gcs", "tls20"] = way.read()
        pids = [process.pid for process in processes] + [gcs.process.pid, way.process.pid]
        yield Servers(root, gcs, pids, ports)
