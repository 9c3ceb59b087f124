"""Run the stand-in until it is interrupted.

    python -m tests.gcs_standin --port 4443 --bucket live=EUROPE-WEST3 --fault 503/10 --fault lose/7/objects.insert

Prints its URL once it listens.
"""

from __future__ import annotations

import argparse
import asyncio

from tests.gcs_standin.server import serve
from tests.gcs_standin.state import Fault, State


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gcs_standin", description="A stand-in for Cloud Storage.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME=LOCATION", help="create a bucket")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND[/EVERY[/OPERATION]]", type=Fault.parse)
    arguments = parser.parse_args()

    async def run() -> None:
        state = State(faults=arguments.fault)
        for entry in arguments.bucket:
            name, _, location = entry.partition("=")
            state.add_bucket(name, location or "EUROPE-WEST3")
        await serve(state, arguments.host, arguments.port)
        print(state.url, flush=True)
        await asyncio.Event().wait()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
