"""What is known of requests afterwards: a line of JSON each, and metrics. Neither says who asked, or what."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as Counting


@dataclass
class Record:
    """One request."""

    request: str
    """A random number of its own, which the answer's header ``X-Request-Id`` has, too."""
    route: str = "none"
    status: int = 500
    code: str = "ok"
    """``ok``, or the code of the refusal."""
    provider: str = ""
    """Name of the endpoint that has taken it."""
    tokens: int = 0
    added: float | None = None
    """Seconds until the question was sent."""
    found: Counter[str] = field(default_factory=Counter)
    """Findings by kind."""


class Records:
    """All requests of the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counting(
            "domicile_gateway_requests",
            "Requests, by how they ended.",
            ["route", "code", "provider"],
            registry=self._registry,
        )
        self._tokens = Counting(
            "domicile_gateway_tokens", "Tokens of questions and answers.", ["provider"], registry=self._registry
        )
        self._found = Counting(
            "domicile_gateway_findings", "What was found in questions.", ["kind"], registry=self._registry
        )
        self._added = Histogram(
            "domicile_gateway_added_seconds",
            "From a question's arrival until it was sent on.",
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=self._registry,
        )

    def ended(self, record: Record, seconds: float) -> None:
        """A request has ended, after ``seconds``."""
        self._requests.labels(record.route, record.code, record.provider).inc()
        if record.tokens:
            self._tokens.labels(record.provider).inc(record.tokens)
        for kind, count in record.found.items():
            self._found.labels(kind).inc(count)
        if record.added is not None:
            self._added.observe(record.added)
        line = {
            "event": "request",
            "request": record.request,
            "route": record.route,
            "status": record.status,
            "code": record.code,
            "ms": round(seconds * 1000),
            "provider": record.provider,
            "tokens": record.tokens,
            "found": dict(record.found),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def render(self) -> bytes:
        """Text exposition format, version 0.0.4."""
        return generate_latest(self._registry)
