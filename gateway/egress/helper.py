"""Decides for squid, in a process of its own: who may reach what, and whether a client's TLS names what it asked for.

    python3 -P -m domicile.gateway.egress.helper connect FILE
    python3 -P -m domicile.gateway.egress.helper name

squid's protocol for external ACLs with concurrency: a line with a number and words in, the number and the verdict out.
``connect`` takes CREDENTIAL TAG HOST PORT and answers with account, route and reason; ``name`` takes HOST SNI and
answers with a reason where the two differ. Words are URL-encoded by squid, which adds one of its own. The list is read
anew when it has changed; where it can't be, this ends, and squid refuses everything meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from domicile.gateway.egress.accounts import Book, again, decide, host_of, parse

_NONE = "-"


class List:
    """The accounts in a file that is replaced as a whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._book = Book({}, {})

    def book(self) -> Book:
        """The accounts of now. Raises OSError and UnknownError."""
        found = self._file.stat()
        stamp = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if stamp != self._stamp:
            self._book, self._stamp = parse(self._file.read_bytes()), stamp
        return self._book


def connect(words: Sequence[str], known: List) -> str:
    """Who asks, and by what route the list has it, if it has. Raises what ``List.book`` does.

    When it has looked at the client's TLS, squid asks again, as for one more CONNECT on the same connection, which has
    no credential: the account then is the one that the first answer has tagged the connection with.
    """
    credential, tag, host, port, _ = words
    decision = decide(known.book(), credential, host, port) if credential else again(known.book(), tag, host, port)
    told = f"{'ERR' if decision.route is None else 'OK'} reason={decision.reason}"
    if decision.account:
        told += f" account={decision.account} stage={'asked' if credential else 'tunnel'}"
    return told + (f" route={decision.route} clt_conn_tag={decision.account}" if decision.route else "")


def name(words: Sequence[str]) -> str:
    """Whether there is a name in TLS, and it is the one that was asked for."""
    host, sni, _ = words
    same = bool(sni) and host_of(sni) == host_of(host)
    return "OK" if same else "ERR late=sni-mismatch"


def main() -> None:
    """Answer until squid hangs up."""
    kind, *files = sys.argv[1:]
    answer = partial(connect, known=List(Path(files[0]))) if kind == "connect" else name
    for line in sys.stdin:
        number, *words = line.rstrip("\r\n").split(" ")
        sys.stdout.write(f"{number} {answer(['' if w == _NONE else unquote(w) for w in words])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
