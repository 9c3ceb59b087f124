"""Prometheus metrics of the operator. No label holds the name of a tenant or of an object."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector


class Metrics:
    """One registry with all of the operator's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "domicile_reconcile_seconds",
            "Duration of a reconcile, failed ones included.",
            ["kind"],
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
            registry=self.registry,
        )
        self._errors = Counter(
            "domicile_reconcile_errors",
            "Reconciles that raised an error, by its class.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._waiting = Gauge("domicile_queue_waiting", "Objects that wait, due or not.", registry=self.registry)
        self._working = Gauge("domicile_queue_working", "Objects in work.", registry=self.registry)
        self._writes = Counter(
            "domicile_kube_writes",
            "Requests to the Kubernetes API that write, by outcome.",
            ["resource", "method", "status"],
            registry=self.registry,
        )
        self._leading = Gauge("domicile_leading", "1 while this process leads.", registry=self.registry)
        self._events = Counter(
            "domicile_watch_events", "Watch events that were turned into work.", ["kind"], registry=self.registry
        )
        soonest = Gauge(
            "domicile_certificate_expiry_timestamp_seconds",
            "When the first of all certificates expires (Unix time), +Inf without any: those that front doors show to"
            " browsers (door), and those that pods show to each other (pods).",
            ["use"],
            registry=self.registry,
        )
        self._certificates: dict[str, float] = {}
        self._of_pods: dict[str, float] = {}
        soonest.labels("door").set_function(lambda: min(self._certificates.values(), default=math.inf))
        soonest.labels("pods").set_function(lambda: min(self._of_pods.values(), default=math.inf))
        self._posted = Counter(
            "domicile_events", "Events posted on our resources.", ["reason", "type"], registry=self.registry
        )

    def reconciled(self, kind: str, seconds: float, error: str | None) -> None:
        """A reconcile ended."""
        self._seconds.labels(kind).observe(seconds)
        if error:
            self._errors.labels(kind, error).inc()

    def depth(self, waiting: int, working: int) -> None:
        """Length of the queue."""
        self._waiting.set(waiting)
        self._working.set(working)

    def wrote(self, method: str, resource: str, status: int) -> None:
        """A write was answered; status 0 stands for no answer."""
        self._writes.labels(resource, method, str(status)).inc()

    def leading(self, value: bool) -> None:
        """Leadership began or ended."""
        self._leading.set(value)

    def event(self, kind: str) -> None:
        """A watch event arrived."""
        self._events.labels(kind).inc()

    def posted(self, reason: str, type_: str) -> None:
        """An event was posted on one of our resources."""
        self._posted.labels(reason, type_).inc()

    def certificate(self, tenant: str, until: datetime | None) -> None:
        """When a tenant's certificate expires; None where it has none, or is gone."""
        self._certificates.pop(tenant, None)
        if until is not None:
            self._certificates[tenant] = until.timestamp()

    def pods_certificates(self, owner: str, untils: Iterable[datetime | None]) -> None:
        """When the certificates of an owner's pods expire: all of them, None for one that there is not."""
        self._of_pods[owner] = min((u.timestamp() for u in untils if u is not None), default=math.inf)

    def render(self) -> bytes:
        """Text exposition format, version 0.0.4."""
        return generate_latest(self.registry)
