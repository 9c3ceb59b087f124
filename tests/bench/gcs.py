"""The stand-in for Cloud Storage as a server process of the benchmark, ruled by lines on its standard input.

    python -m tests.bench.gcs CERTIFICATE KEY

It listens twice, plainly and with TLS, and prints both ports as JSON. Each line in is a JSON list, each line out its
JSON answer: ``["url", URL]`` sets the address that the server gives of itself, ``["requests"]`` counts the requests
since the last such question, ``["digest", BUCKET]`` digests what a bucket holds, ``["drop", BUCKET]`` forgets it,
``["buckets"]`` names all.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import ssl
import sys
from collections import Counter, deque
from typing import Any

from aiohttp import web

from tests.bench.digest import of_rows
from tests.gcs_standin.server import serve
from tests.gcs_standin.state import State


class Tally(deque[tuple[str, str]]):
    """Counts requests instead of keeping them."""

    def __init__(self) -> None:
        super().__init__(maxlen=0)
        self.counts: Counter[str] = Counter()

    def append(self, request: tuple[str, str], /) -> None:
        method, target = request
        path = target.partition("?")[0]
        listing = method == "GET" and path.startswith("/storage/v1/b/") and path.endswith("/o")
        self.counts["LIST" if listing else method] += 1


def answer(state: State, order: list[str]) -> Any:
    """What a line asks for. Raises ValueError for an unknown order."""
    match order:
        case ["url", url]:
            state.url = url
            return url
        case ["requests"]:
            assert isinstance(state.requests, Tally)
            counts, state.requests.counts = state.requests.counts, Counter()
            return counts
        case ["digest", bucket]:
            live = state.buckets[bucket].objects.live
            return of_rows((name, hashlib.sha256(version.data).hexdigest()) for name, version in live.items())
        case ["drop", bucket]:
            del state.buckets[bucket]
            state.uploads.clear()
            gc.collect()
            return bucket
        case ["buckets"]:
            return list(state.buckets)
    raise ValueError(f"unknown order {order}")


async def main(certificate: str, key: str) -> None:
    """Serve until standard input ends."""
    state = State(requests=Tally())
    runner = await serve(state)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    print(json.dumps([address[1] for address in runner.addresses]), flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(json.dumps(answer(state, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
