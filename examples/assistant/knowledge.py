"""The knowledge base: passages of the tenant's own texts, found by SQLite's full-text ranking (FTS5, bm25).

The index lives in memory and follows ``knowledge/*.md`` and ``knowledge/*.txt`` of the live bucket.
Reference: https://www.sqlite.org/fts5.html
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from . import text
from .anonymiser import AnonymiserError
from .store import Entry, NotFoundError, Store

PREFIX = "knowledge/"
ENDINGS = (".md", ".txt")
MAX_FILE_BYTES = 2 * 1024 * 1024
PASSAGE_CHARS = 900
MAX_PASSAGES = 4
REFRESH_SECONDS = 3.0
WAIT_SECONDS = 2.0
CHUNK_CHARS = 32_000
# A passage is relevant if it has at least this share of the content words of one sentence of the question.
RELEVANT = 0.5

_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")
_LOG = logging.getLogger("assistant.knowledge")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a knowledge file. ``source`` is the file's name under ``knowledge/``."""

    source: str
    heading: str
    body: str

    @property
    def title(self) -> str:
        """What the passage is about: the file's name without its ending, and the heading."""
        return f"{self.source.rpartition('.')[0]} {self.heading}"


def split(source: str, content: str) -> list[Passage]:
    """Passages of at most PASSAGE_CHARS characters, cut at headings, paragraphs, then sentences."""
    passages: list[Passage] = []
    for heading, paragraph in _paragraphs(content):
        for piece in _pieces(paragraph):
            last = passages[-1] if passages else None
            if last and last.heading == heading and len(last.body) + len(piece) + 2 <= PASSAGE_CHARS:
                passages[-1] = Passage(source, heading, f"{last.body}\n\n{piece}")
            else:
                passages.append(Passage(source, heading, piece))
    return passages


def _paragraphs(content: str) -> Iterator[tuple[str, str]]:
    heading, lines, fenced = "", list[str](), False
    for line in [*content.removeprefix("\ufeff").splitlines(), ""]:
        fenced ^= line.lstrip().startswith("```")
        title = None if fenced else _HEADING.match(line)
        if line.strip() and not title:
            lines.append(line)
            continue
        if lines:
            yield heading, "\n".join(lines).strip()
            lines = []
        heading = title[1] if title else heading


def _pieces(paragraph: str) -> list[str]:
    if len(paragraph) <= PASSAGE_CHARS:
        return [paragraph]
    pieces = [""]
    for sentence in text.sentences(paragraph):
        for start in range(0, len(sentence), PASSAGE_CHARS):
            part = sentence[start : start + PASSAGE_CHARS]
            if len(pieces[-1]) + len(part) + 1 > PASSAGE_CHARS:
                pieces.append("")
            pieces[-1] = f"{pieces[-1]} {part}".strip()
    return pieces


def match_expression(question: str) -> str:
    """The FTS5 query for any of the question's content words, '' where it has none. Every word is quoted."""
    return " OR ".join(f'"{t.stem}"{"*" if t.prefix else ""}' for t in text.terms(question))


def is_relevant(question: str, passage: Passage) -> bool:
    """Whether the passage has enough of what one sentence of the question asks for."""
    present = f"{passage.title} {passage.body}"
    return any(text.coverage(text.terms(s), present) >= RELEVANT for s in text.sentences(question))


class Index:
    """Full-text index of passages, in memory; thread-safe.

    Each change is a transaction of its own: within one, FTS5 of SQLite 3.40 misreads what was deleted and is searched.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute("PRAGMA temp_store = MEMORY")
        self._db.execute(
            "CREATE VIRTUAL TABLE passage USING fts5(title_words, body_words, source UNINDEXED, heading UNINDEXED,"
            " body UNINDEXED, tokenize = 'unicode61 remove_diacritics 2', prefix = '4 6')"
        )
        self._rows: dict[str, list[int]] = {}

    def put(self, source: str, content: str) -> None:
        """Index a file in place of what the index holds of it."""
        with self._lock, self._db:
            self._remove(source)
            self._rows[source] = [
                self._db.execute(
                    "INSERT INTO passage VALUES (?, ?, ?, ?, ?)",
                    (" ".join(text.words(p.title)), " ".join(text.words(p.body)), p.source, p.heading, p.body),
                ).lastrowid
                or 0
                for p in split(source, content)
            ]

    def remove(self, source: str) -> None:
        """Forget a file."""
        with self._lock, self._db:
            self._remove(source)

    def _remove(self, source: str) -> None:
        rows = self._rows.pop(source, [])
        self._db.executemany("DELETE FROM passage WHERE rowid = ?", [(row,) for row in rows])

    def search(self, question: str, limit: int = MAX_PASSAGES) -> list[Passage]:
        """The passages that are relevant to the question, best first."""
        expression = match_expression(question)
        if not expression:
            return []
        with self._lock:
            found = self._db.execute(
                "SELECT source, heading, body FROM passage WHERE passage MATCH ?"
                " ORDER BY bm25(passage, 2.0, 1.0), rowid LIMIT 20",
                (expression,),
            ).fetchall()
        passages = [Passage(*row) for row in found]
        return [p for p in passages if is_relevant(question, p)][:limit]


class Knowledge:
    """The index of a bucket's knowledge files; looks for changes at most every REFRESH_SECONDS.

    Where names are to be taken out, a file is in the index only once they are. Nobody waits for that longer than
    WAIT_SECONDS: what is not ready then is found by later questions.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
        anonymise: Callable[[Sequence[str]], list[str]] | None = None,
    ) -> None:
        """``anonymise``: takes the names out of texts, or raises AnonymiserError. None: names stay."""
        self._store = store
        self._clock = clock
        self._anonymise = anonymise
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._versions: dict[str, str] = {}
        self._too_large = 0
        self._pool = ThreadPoolExecutor(max_workers=8 if anonymise is None else 2)
        self._loading: dict[str, tuple[Entry, Future[str | None]]] = {}
        self._told = ""
        self.index = Index()
        self.waiting = 0
        """Files that are not in the index yet: names could not be taken out, or that takes its time."""

    def search(self, question: str) -> list[Passage]:
        """Relevant passages of the bucket's present files. Raises StoreError where they can't be read."""
        with self._lock:
            begun = self._clock()
            if self._looked is None or begun - self._looked >= REFRESH_SECONDS:
                self._refresh()
                self._looked = begun
        return self.index.search(question)

    def _refresh(self) -> None:
        entries = [e for e in self._store.list(PREFIX) if e.name.endswith(ENDINGS)]
        large = sum(e.size > MAX_FILE_BYTES for e in entries)
        if large != self._too_large:
            _LOG.warning("%d knowledge files are larger than %d bytes and left out: split them", large, MAX_FILE_BYTES)
            self._too_large = large
        wanted = {e.name: e for e in entries if e.size <= MAX_FILE_BYTES}
        for name in [n for n, version in self._versions.items() if n not in wanted or wanted[n].version != version]:
            if name not in wanted or self._anonymise is not None:
                self.index.remove(name.removeprefix(PREFIX))
            del self._versions[name]
        for entry in wanted.values():
            begun = self._loading.get(entry.name)
            if entry.name not in self._versions and (begun is None or begun[0] != entry):
                self._loading[entry.name] = entry, self._pool.submit(self._load, entry)
        wait([future for _, future in self._loading.values()], None if self._anonymise is None else WAIT_SECONDS)
        self._collect(wanted)

    def _collect(self, wanted: Mapping[str, Entry]) -> None:
        failed, told = 0, ""
        for name, (entry, future) in list(self._loading.items()):
            if not future.done():
                continue
            del self._loading[name]
            if wanted.get(name) != entry:
                continue
            try:
                content = future.result()
            except AnonymiserError as error:
                failed, told = failed + 1, str(error)
                continue
            if content is not None:
                self.index.put(name.removeprefix(PREFIX), content)
                self._versions[name] = entry.version
        self.waiting = failed + len(self._loading)
        if told != self._told:
            self._told = told
            if told:
                _LOG.warning("%d knowledge files are not indexed, and are tried again: %s", failed, told)

    def _load(self, entry: Entry) -> str | None:
        try:
            content = self._store.read(entry.name).decode("utf-8", "replace")
        except NotFoundError:
            # Deleted since the listing; the next one will not show it.
            return None
        if self._anonymise is None:
            return content
        return "".join(text for chunk in chunks(content) for text in self._anonymise([chunk]))


def chunks(content: str) -> Iterator[str]:
    """The text in pieces of whole lines that the gateway looks at in time; a longer line is a piece of its own."""
    piece = ""
    for line in content.splitlines(keepends=True):
        if piece and len(piece) + len(line) > CHUNK_CHARS:
            yield piece
            piece = ""
        piece += line
    if piece:
        yield piece
