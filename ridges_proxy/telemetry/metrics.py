"""What `/metrics` tells. No label grows with runs, or with what agents send."""

from __future__ import annotations

import math
import time
from collections import Counter as Counts
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", Counter, Histogram)

CALL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
"""Buckets for calls of models: from a first token to DEADLINE_SECONDS."""

OK = "ok"
"""The code of what went well."""

NONE = "none"
"""Where there is nothing to tell: no route, no model, no status."""

CALLERS_ROUTES = ("/agents/", "/v1/")

LEDGER_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 5)
"""Buckets for the ledger's verbs: from what SQLite takes to its longest wait for a lock."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What all processes of a server have done since it started, and do now."""

    usd: float
    """Settled."""
    calls: dict[str, int]
    """By code; among them requests that were refused before they became calls."""
    durations: list[int]
    """How many calls took at most each of CALL_SECONDS; the last of these is all calls."""
    in_flight: int
    held_usd: float


class _Labelled(Generic[M]):
    """A metric by its labels; each child is looked up once, as the library's own looking takes 2 µs a time.

    There are as few of them as there are values of labels: no label grows.
    """

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._children: dict[tuple[object, ...], M] = {}

    def labels(self, *values: object) -> M:
        """The child for these values."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


class Metrics:
    """The metrics of one process; those of all processes of a server where they share a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Declare the metrics.

        `folder` is the one that PROMETHEUS_MULTIPROC_DIR names; None: the metrics are of this process alone.
        """
        self._folder = folder
        # prometheus-client chooses at its import. The server sets the variable after that.
        values.ValueClass = values.MutexValue if folder is None else values.MultiProcessValue()  # type: ignore[no-untyped-call] # no types
        self._registry = CollectorRegistry()
        self._declare_counters(partial(Counter, registry=self._registry))
        self._declare_histograms(partial(Histogram, registry=self._registry))
        self._declare_gauges(partial(Gauge, registry=self._registry))

    def _declare_counters(self, counter: partial[Counter]) -> None:
        self.requests = _Labelled(
            counter("ridges_requests", "Requests by their outcome.", ["route", "model", "code"])
        )
        self.upstream_responses = _Labelled(
            counter(
                "ridges_upstream_responses", "Calls sent to the upstream by its status.", ["model", "status"]
            )
        )
        self.tokens = _Labelled(
            counter("ridges_tokens", "Tokens that the upstream reported.", ["model", "kind"])
        )
        self.settled_usd = _Labelled(counter("ridges_settled_usd", "What calls were charged.", ["model"]))
        self.refused_usd = _Labelled(
            counter("ridges_refused_usd", "What refused calls wanted to hold.", ["code"])
        )
        self.overdue_usd = counter(
            "ridges_overdue_usd", "What holds were charged whose call never settled: its process was killed."
        )
        self.under_estimates = counter(
            "ridges_under_estimates", "Calls that cost more than was held for them."
        )
        self.ledger_errors = _Labelled(
            counter("ridges_ledger_errors", "Questions that the ledger did not answer.", ["verb"])
        )

    def _declare_histograms(self, histogram: partial[Histogram]) -> None:
        self.call_seconds = _Labelled(
            histogram(
                "ridges_call_seconds",
                "How long calls took, from the request to the end of the answer.",
                ["route", "model"],
                buckets=CALL_SECONDS,
            )
        )
        self.first_event_seconds = _Labelled(
            histogram(
                "ridges_first_event_seconds",
                "How long the upstream took to the first event of a streamed answer.",
                ["model"],
                buckets=CALL_SECONDS,
            )
        )
        self.ledger_seconds = _Labelled(
            histogram("ridges_ledger_seconds", "How long the ledger took.", ["verb"], buckets=LEDGER_SECONDS)
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
        self.circuits_open = gauge(
            "ridges_circuits_open",
            "Models whose calls are refused, as the upstream is down for them.",
            multiprocess_mode="livemax",
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
        return generate_latest(self._whole())

    def totals(self) -> Totals:
        """What the metrics of all processes come to."""
        usd = held_usd = 0.0
        in_flight = 0
        codes: Counts[str] = Counts()
        seconds: Counts[float] = Counts()
        for sample in (sample for family in self._whole().collect() for sample in family.samples):
            labels = sample.labels
            if sample.name == "ridges_settled_usd_total":
                usd += sample.value
            elif sample.name == "ridges_call_seconds_bucket":
                seconds[float(labels["le"])] += int(sample.value)
            elif sample.name == "ridges_requests_total" and _is_call_or_refusal(labels):
                codes[labels["code"]] += int(sample.value)
            elif sample.name == "ridges_calls_in_flight":
                in_flight = int(sample.value)
            elif sample.name == "ridges_held_usd":
                held_usd = sample.value
        durations = [seconds[bound] for bound in (*CALL_SECONDS, math.inf)]
        return Totals(usd, dict(codes), durations, in_flight, held_usd)

    def _whole(self) -> CollectorRegistry:
        if self._folder is None:
            return self._registry
        whole = CollectorRegistry()
        MultiProcessCollector(whole, str(self._folder))  # type: ignore[no-untyped-call] # prometheus-client's
        return whole

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


def _is_call_or_refusal(labels: dict[str, str]) -> bool:
    """Whether a request was a caller's, and more than a look."""
    looks = labels["code"] == OK and labels["model"] == NONE
    return labels["route"].startswith(CALLERS_ROUTES) and not looks
