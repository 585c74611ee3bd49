"""What `/metrics` tells. No label grows with runs, or with what agents send."""

from __future__ import annotations

import time
from functools import partial, wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

CALL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
"""Buckets for calls of models: from a first token to DEADLINE_SECONDS."""

LEDGER_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 5)
"""Buckets for the ledger's verbs: from what SQLite takes to its longest wait for a lock."""


class Metrics:
    """The metrics of one process; those of all processes of a server where they share a folder."""

    def __init__(self, folder: str | None = None) -> None:
        """The folder is the one that PROMETHEUS_MULTIPROC_DIR named when prometheus-client was imported."""
        self._folder = folder
        self._registry = CollectorRegistry()
        self._declare_counters(partial(Counter, registry=self._registry))
        self._declare_histograms(partial(Histogram, registry=self._registry))
        self._declare_gauges(partial(Gauge, registry=self._registry))

    def _declare_counters(self, counter: partial[Counter]) -> None:
        self.requests = counter("ridges_requests", "Requests by their outcome.", ["route", "model", "code"])
        self.upstream_responses = counter(
            "ridges_upstream_responses", "Calls sent to the upstream by its status.", ["model", "status"]
        )
        self.tokens = counter("ridges_tokens", "Tokens that the upstream reported.", ["model", "kind"])
        self.settled_usd = counter("ridges_settled_usd", "What calls were charged.", ["model"])
        self.refused_usd = counter("ridges_refused_usd", "What refused calls wanted to hold.", ["code"])
        self.overdue_usd = counter(
            "ridges_overdue_usd", "What holds were charged whose call never settled: its process was killed."
        )
        self.under_estimates = counter(
            "ridges_under_estimates", "Calls that cost more than was held for them."
        )
        self.ledger_errors = counter(
            "ridges_ledger_errors", "Questions that the ledger did not answer.", ["verb"]
        )

    def _declare_histograms(self, histogram: partial[Histogram]) -> None:
        self.call_seconds = histogram(
            "ridges_call_seconds",
            "How long calls took, from the request to the end of the answer.",
            ["route", "model"],
            buckets=CALL_SECONDS,
        )
        self.first_event_seconds = histogram(
            "ridges_first_event_seconds",
            "How long the upstream took to the first event of a streamed answer.",
            ["model"],
            buckets=CALL_SECONDS,
        )
        self.ledger_seconds = histogram(
            "ridges_ledger_seconds", "How long the ledger took.", ["verb"], buckets=LEDGER_SECONDS
        )

    def _declare_gauges(self, gauge: partial[Gauge]) -> None:
        """Of living workers alone: their sum, or the worst of them."""
        self.calls_in_flight = gauge(
            "ridges_calls_in_flight", "Calls in flight.", multiprocess_mode="livesum"
        )
        self.held_usd = gauge(
            "ridges_held_usd", "What is held for calls in flight.", multiprocess_mode="livesum"
        )
        self.last_sweep = gauge(
            "ridges_last_sweep_timestamp_seconds",
            "When the worker that swept longest ago last did.",
            multiprocess_mode="livemin",
        )
        self.settlements_kept = gauge(
            "ridges_settlements_kept",
            "Settlements that wait until the ledger answers.",
            multiprocess_mode="livemax",
        )
        self.runs = gauge(
            "ridges_runs",
            "Runs that the ledger knows; NaN where it does not answer.",
            multiprocess_mode="livemostrecent",
        )

    def text(self) -> bytes:
        """All of them, of all processes, in Prometheus' text format."""
        if self._folder is None:
            return generate_latest(self._registry)
        whole = CollectorRegistry()
        MultiProcessCollector(whole, self._folder)  # type: ignore[no-untyped-call] # prometheus-client's
        return generate_latest(whole)

    def timed(self, verb: str, ask: Callable[P, T]) -> Callable[P, T]:
        """The verb of a ledger, with its time and its errors counted."""
        seconds, errors = self.ledger_seconds.labels(verb), self.ledger_errors.labels(verb)

        @wraps(ask)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            began = time.perf_counter()
            try:
                return ask(*args, **kwargs)
            except LedgerUnavailableError:
                errors.inc()
                raise
            finally:
                seconds.observe(time.perf_counter() - began)

        return timed
