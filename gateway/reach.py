"""Which of some places a pod can connect to, told in its termination message.

    python3 -P -m domicile.gateway.reach

Nothing is sent: a TCP connection is opened and closed. What is found is what its network lets through at last: rules
of a pod that has just started may come a moment after it, and a server that is starting has a moment to listen.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

_CONNECT_SECONDS = 3.0
_PAUSE_SECONDS = 2.0
# A network that still lets too much through so long after the pod has started does not merely lag.
_LAG_SECONDS = 15.0
_TERMINATION_LOG = Path("/dev/termination-log")

Place = tuple[str, int]


class Settings(NamedTuple):
    """What is tried, environment variables with the prefix DOMICILE_."""

    places: Mapping[str, Place]
    """Host and TCP port by name."""
    expected: frozenset[str]
    """Names of those that should be reached, and no other: once it is so there is nothing to wait for."""
    seconds: float
    """How long to wait for that."""

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Settings from the environment. Raises ValueError or KeyError."""
        places = {name: (str(host), int(port)) for name, (host, port) in json.loads(env["DOMICILE_PLACES"]).items()}
        return cls(places, frozenset(json.loads(env["DOMICILE_EXPECTED"])), float(env["DOMICILE_SECONDS"]))


def connects(place: Place) -> bool:
    """Whether a TCP connection can be opened, by name or address."""
    try:
        socket.create_connection(place, _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def look(settings: Settings) -> frozenset[str]:
    """Names of the places that were reached in the last round."""
    begun = time.monotonic()
    with ThreadPoolExecutor(max(1, len(settings.places))) as threads:
        while True:
            answers = zip(settings.places, threads.map(connects, settings.places.values()), strict=True)
            reached = frozenset(name for name, answered in answers if answered)
            patience = min(_LAG_SECONDS, settings.seconds) if reached - settings.expected else settings.seconds
            if reached == settings.expected or time.monotonic() - begun >= patience:
                return reached
            time.sleep(_PAUSE_SECONDS)


def main() -> int:
    """Look, and tell."""
    _TERMINATION_LOG.write_text(json.dumps(sorted(look(Settings.read(os.environ)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
