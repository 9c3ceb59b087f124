"""squid's log of decisions, one JSON object a line: who asked for what, what became of it, and why. Never what passed.

squid writes words to a named pipe, each of them URL-encoded; what a client may have chosen can neither end a word nor a
line. A word that isn't as it should be is told as it came.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

WORDS = (
    "time", "client", "method", "host", "port", "sni", "address", "status", "sent", "received", "ms", "account",
    "stage", "reason", "late", "mode", "error",
)  # fmt: skip
HEALTH = "health.invalid"
"""The host that a look at squid's health asks for."""
_NUMBERS = ("port", "status", "sent", "received", "ms")
_LONGEST = 255
# squid's own names of what went wrong behind a CONNECT that was allowed.
_FAILURES = {
    "ERR_DNS_FAIL": "dns",
    "ERR_CONNECT_FAIL": "unreachable",
    "ERR_CANNOT_FORWARD": "unreachable",
    "ERR_READ_TIMEOUT": "unreachable",
}


def decision(line: str) -> dict[str, object] | None:
    """The fields of a line; None for a look of this pod's own at its health."""
    words = line.split(" ")
    if len(words) != len(WORDS):
        return {"event": "refused", "reason": "malformed"}
    known = {name: "" if word == "-" else word for name, word in zip(WORDS, words, strict=True)}
    # Clients are told of by stunnel, and none of them is the pod itself.
    if (known["client"], known["host"]) == ("127.0.0.1", HEALTH):
        return None
    reason = _reason(known)
    event = "refused" if reason != "allowed" else "closed" if known["stage"] == "tunnel" else "opened"
    fields: dict[str, object] = {"time": _time(known["time"]), "event": event, "reason": reason}
    for name in ("account", "client", "method", "host", "sni", "address"):
        fields[name] = _text(known[name])
    for name in _NUMBERS:
        fields[name] = int(known[name]) if re.fullmatch("-?[0-9]{1,18}", known[name], re.ASCII) else None
    return fields


def _reason(known: dict[str, str]) -> str:
    """The last thing that was decided."""
    if known["late"]:
        return _last(known["late"])
    reason = _last(known["reason"])
    if known["mode"] == "terminate" and reason == "allowed":
        # Of its own rules squid notes nothing there; this is the only one of them.
        return "private-destination"
    if reason not in {"", "allowed"}:
        return reason
    if known["error"] in _FAILURES:
        return _FAILURES[known["error"]]
    if known["error"]:
        # Behind a CONNECT that was allowed: no TLS came.
        return "not-tls" if reason else "malformed"
    return reason or "malformed"


def _last(word: str) -> str:
    return unquote(word).rpartition(",")[2]


def _text(word: str) -> str | None:
    return unquote(word, errors="backslashreplace")[:_LONGEST] or None


def _time(word: str) -> str:
    try:
        return datetime.fromtimestamp(float(word), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""


class Pipe:
    """The named pipe; a thread of its own tells what comes through."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        """Raises OSError where it can't be made."""
        os.mkfifo(path, 0o600)
        # Open for writing, too: otherwise it would end with the first writer.
        self._end = os.open(path, os.O_RDWR)
        self._tell = tell
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with os.fdopen(self._end, "rb") as lines:
            for line in lines:
                fields = decision(line.decode("ascii", errors="replace").rstrip("\n"))
                if fields is not None:
                    self._tell(json.dumps(fields) + "\n")
