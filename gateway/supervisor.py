"""Runs one server in a pod, and gives it new config, keys and certificates without a restart.

What is mounted is copied as a whole into a generation of its own, tested there, and then taken: a broken one is told
and the old one goes on serving. The standard library is all that it needs. It logs one JSON object a line: events to
standard output, where the server's own output goes, too, and what is wrong to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from domicile.gateway.mounts import BrokenError, Generations, digest, read_mounts

_LOOK_SECONDS = 1.0


def say(stream: IO[str], **fields: object) -> None:
    """Log one event."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stream.write(json.dumps({"time": now, **fields}) + "\n")
    stream.flush()


class Server(ABC):
    """What is run: a program that reads its files through ``current``."""

    name: str
    """What lines of its standard error are logged as."""
    runtime: Path
    """The folder of its own, in the pod's scratch volume."""
    mounts: Path
    """Folder of the mounted volumes."""
    needed: tuple[str, ...]
    """What must be mounted, as volume/file."""
    more: tuple[str, ...] = ()
    """What may be."""

    def lay_out(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """Path and content of the files of a generation, made of what is mounted."""
        return dict(files)

    @abstractmethod
    def test(self, folder: Path) -> None:
        """Raises BrokenError where the generation in ``folder`` can't be served."""

    @abstractmethod
    def command(self, current: Path) -> Sequence[str | Path]:
        """What starts it in the foreground."""

    @abstractmethod
    def reload(self, process: subprocess.Popen[bytes], current: Path) -> None:
        """Have it take what ``current`` leads to now. Raises BrokenError where it has not: it is asked again."""

    @abstractmethod
    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Have it end, after what runs."""

    @abstractmethod
    def kept(self, line: str) -> Mapping[str, str] | None:
        """What may be logged of a line of its standard error; None for nothing."""


class Supervisor:
    """One server and the generations of what it serves."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wake = threading.Event()
        self._stopping = False
        self._late = False
        self._seen = self._live = self._told = ""
        self._reloads = 0

    def stop(self) -> None:
        """End when what runs has ended."""
        self._stopping = True
        self._wake.set()

    def run(self) -> int:
        """Serve until ``stop`` or the server's end; its exit code. Raises BrokenError where it can't start."""
        server = self._server
        self._generations = Generations(server.runtime)
        files = read_mounts(server.mounts, server.needed, server.more)
        self._seen = digest(files)
        self._take(files, self._seen)
        process = subprocess.Popen(
            list(server.command(self._generations.current)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # A signal to the terminal's group is not its business; the supervisor hears it.
            start_new_session=True,
        )
        log = threading.Thread(target=self._keep, args=(process,), daemon=True)
        log.start()
        threading.Thread(target=self._await, args=(process,), daemon=True).start()
        say(sys.stdout, event="started", generation=self._seen)
        while not self._wake.wait(_LOOK_SECONDS):
            self._look(process)
        if self._stopping and process.poll() is None:
            server.end(process)
        code = process.wait()
        if self._stopping and code == -signal.SIGTERM:
            code = 0
        log.join(1)
        say(sys.stdout, event="ended", code=code)
        return code if code >= 0 else 128 - code

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._wake.set()

    def _look(self, process: subprocess.Popen[bytes]) -> None:
        """Take what has changed, if it can be served."""
        try:
            files = read_mounts(self._server.mounts, self._server.needed, self._server.more)
        except BrokenError as error:
            self._seen = "nothing whole"
            self._refuse(error)
            return
        generation = digest(files)
        if generation != self._seen:
            self._seen = generation
            if generation == self._live:
                self._told = ""
                say(sys.stdout, event="restored", generation=generation)
            else:
                try:
                    self._take(files, generation)
                except BrokenError as error:
                    self._refuse(error)
                    return
                self._late = True
        if self._late:
            self._reload(process)

    def _reload(self, process: subprocess.Popen[bytes]) -> None:
        try:
            self._server.reload(process, self._generations.current)
        except BrokenError as error:
            self._refuse(error)
            return
        self._late, self._told = False, ""
        self._reloads += 1
        say(sys.stdout, event="reloaded", generation=self._live, count=self._reloads)

    def _refuse(self, error: BrokenError) -> None:
        if str(error) != self._told:
            self._told = str(error)
            say(sys.stderr, event="refused", message=f"The old config keeps serving: {error}")

    def _take(self, files: Mapping[str, bytes], generation: str) -> None:
        self._generations.take(generation, self._server.lay_out(files), self._server.test)
        self._live = generation

    def _keep(self, process: subprocess.Popen[bytes]) -> None:
        if process.stderr is None:
            raise TypeError("the server was started without a pipe for its standard error")
        for line in process.stderr:
            fields = self._server.kept(line.decode(errors="replace").rstrip("\n"))
            if fields is not None:
                say(sys.stderr, event=self._server.name, **fields)


def supervise(server: Server) -> int:
    """Serve until SIGTERM; returns the exit code: the server's, or 1 where nothing can be served."""
    os.umask(0o077)
    supervisor = Supervisor(server)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    try:
        return supervisor.run()
    except BrokenError as error:
        say(sys.stderr, event="refused", message=f"Nothing is served: {error}")
        return 1
