"""Analysers in processes of their own, ended when they take too long: a regular expression can't be stopped."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from pebble import ProcessExpired, ProcessPool

from domicile.api.gateway import Privacy
from domicile.gateway.privacy.finding import AnalyzerError, Finding
from domicile.gateway.privacy.memory import Memory, fingerprint
from domicile.gateway.privacy.resolve import resolved
from domicile.gateway.privacy.wanted import understood
from domicile.gateway.privacy.windows import SIZE, windows

if TYPE_CHECKING:
    from domicile.gateway.privacy.analyzer import Analyzer

PIECES = 512
"""How many tasks may wait or run at once, each of at most 16384 code points or 256 texts; more are refused."""
_TEXTS = 256
# Of a worker process, which has one: pebble passes nothing else from its initializer to its tasks.
_loaded: list[Analyzer] = []


def _made(privacy: Privacy, model: Path | None) -> Analyzer:
    # Recognisers take some 100 MiB: only who looks at texts loads them.
    from domicile.gateway.privacy.analyzer import Analyzer

    return Analyzer(privacy, model)


def _load(privacy: str, model: Path | None) -> None:
    _loaded.append(_made(Privacy.model_validate_json(privacy), model))


def _find(texts: list[str]) -> list[list[Finding]]:
    (analyzer,) = _loaded
    return [analyzer.find(text) for text in texts]


class _Piece(NamedTuple):
    text: int
    """Which of the request's texts it is of."""
    start: int
    content: str


def _tasks(texts: Sequence[str], wanted: Sequence[int]) -> list[list[_Piece]]:
    """The pieces of the wanted texts, as many together as are small enough for one task."""
    tasks: list[list[_Piece]] = []
    size = SIZE
    for i in wanted:
        for start, content in windows(texts[i]):
            if size + len(content) > SIZE or len(tasks[-1]) == _TEXTS:
                tasks.append([])
                size = 0
            tasks[-1].append(_Piece(i, start, content))
            size += len(content)
    return tasks


class Pool:
    """Finder with ``processes`` workers, each of which loads ``model``, the folder of a spaCy pipeline, if any.

    A task that runs for more than ``timeout_seconds`` is ended with its worker, and another worker takes the place.
    Raises ValueError as Analyzer does. Use it as a context manager: workers end with it.
    """

    def __init__(self, privacy: Privacy, processes: int, timeout_seconds: float, model: Path | None = None) -> None:
        # What is wrong in it is told here, and not by workers that end again and again.
        if model is None:
            understood(privacy)
        else:
            _made(privacy, model)
        self._privacy, self._processes, self._model = privacy, processes, model
        self._timeout = timeout_seconds
        self._memory = Memory()
        self._under_way = 0
        self._pool, self._probe = self._started()

    def _started(self) -> tuple[ProcessPool, Future[list[list[Finding]]]]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["domicile.gateway.privacy.analyzer"])
        pool = ProcessPool(
            max_workers=self._processes,
            initializer=_load,
            initargs=(self._privacy.model_dump_json(), self._model),
            context=context,
        )
        return pool, pool.schedule(_find, args=([],))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; what they are being asked fails."""
        self._pool.stop()
        self._pool.join()

    def ready(self) -> bool:
        """Whether a worker has loaded all it needs, and texts are taken."""
        return bool(self._pool.active) and self._probe.done() and self._probe.exception() is None

    async def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings of each text, sorted, none touching another.

        Raises AnalyzerError if a task takes too long, a worker ends, or more than PIECES tasks would be under way.
        """
        keys = [fingerprint(text) for text in texts]
        found = {key: known for key in set(keys) if (known := self._memory.get(key)) is not None}
        wanted = {key: i for i, key in enumerate(keys) if key not in found}
        gathered: dict[int, list[Finding]] = {i: [] for i in wanted.values()}
        for piece, findings in await self._run(_tasks(texts, list(wanted.values()))):
            gathered[piece.text] += [f._replace(start=piece.start + f.start, end=piece.start + f.end) for f in findings]
        for key, i in wanted.items():
            found[key] = resolved(gathered[i])
            self._memory.put(key, found[key])
        return [list(found[key]) for key in keys]

    async def _run(self, tasks: list[list[_Piece]]) -> list[tuple[_Piece, list[Finding]]]:
        if self._under_way + len(tasks) > PIECES:
            raise AnalyzerError(f"overloaded: {self._under_way} pieces of texts are under way, and {PIECES} may be")
        if not self._pool.active:
            # Pebble gives a pool up when one of its workers ends while it has nothing to do.
            self._pool.stop()
            self._pool, self._probe = self._started()
        self._under_way += len(tasks)
        running: list[Future[list[list[Finding]]]] = []
        try:
            for task in tasks:
                contents = [piece.content for piece in task]
                running.append(self._pool.schedule(_find, args=(contents,), timeout=self._timeout))
            answers = await asyncio.gather(*(asyncio.wrap_future(future) for future in running))
        except TimeoutError:
            raise AnalyzerError(f"a text took longer than {self._timeout:g} s") from None
        except (ProcessExpired, BrokenProcessPool):
            raise AnalyzerError("a worker ended while it looked at a text") from None
        # Whatever a recogniser fails with may quote the text.
        except Exception as error:  # noqa: BLE001
            raise AnalyzerError(f"a worker failed: {type(error).__name__}") from None
        finally:
            for future in running:
                future.cancel()
            self._under_way -= len(tasks)
        return [pair for task, answer in zip(tasks, answers, strict=True) for pair in zip(task, answer, strict=True)]
