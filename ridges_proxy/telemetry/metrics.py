"""The metrics of `/metrics`. The values of each label are few: none depends on runs or on agents' input."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter as Counts
from collections import defaultdict
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.registry import Collector

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.runtime.shared_memory import reason_of
from ridges_proxy.telemetry.shared_values import READ_ERRORS, SharedValues

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import Metric

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", Counter, Histogram)

CALL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
"""Buckets for calls to models, from the time to a first token up to DEADLINE_SECONDS."""

HOLD_WAIT_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
"""Buckets for the wait for a hold, from one poll of the ledger up to twice the default limit."""

OK = "ok"
"""The code of a request that succeeded."""

NONE = "none"
"""The label of a request that has no route, no model or no status."""

CALL_ROUTES = ("/agents/", "/v1/", "/api/")

LEDGER_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 5)
"""Buckets for the ledger's methods, from the time of one in SQLite up to its longest wait for a lock."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of all processes of a server since its start."""

    usd: float
    """The settled costs."""
    calls: dict[str, int]
    """The number of calls by code, with the requests that were refused before they became calls."""
    durations: list[int]
    """The number of calls that took at most each of CALL_SECONDS. The last item counts all calls."""
    in_flight: int
    """At present, as are `waiting` and `held_usd`."""
    waiting: int
    """Those of `in_flight` that wait for a hold."""
    held_usd: float
    circuits_open: int
    """Models with an open circuit breaker, at present, in the worker with the most."""
    settlements_kept: int
    """At present, as are the two below."""
    last_sweep_at: float | None
    """Seconds since 1970, of the worker whose last sweep is the oldest. None: none is known."""
    webhook_fails: bool
    """Whether the webhook did not take the latest alert that was sent to it."""
    process: int | None
    """The only process whose totals these are. None: they are those of all processes."""


class _Labelled(Generic[M]):
    """A metric with labels that caches its children: the library's own lookup takes 2 µs each time.

    The cache is bounded, because the values of each label are few.
    """

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._children: dict[tuple[object, ...], M] = {}

    def labels(self, *values: object) -> M:
        """Return the child for these values."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


class Metrics:
    """The metrics of one process, or of all processes of a server if they share a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Declare the metrics.

        `folder` is the value of PROMETHEUS_MULTIPROC_DIR. None: the metrics are those of this process only.
        """
        self._shared = None if folder is None else SharedValues(folder)
        self._logged_failure: str | None = None
        # prometheus-client chooses this class when it is imported, before the server sets the variable.
        values.ValueClass = values.MutexValue if self._shared is None else self._shared.value_class()
        self._registry = CollectorRegistry()
        self._declare_counters(partial(Counter, registry=self._registry))
        self._declare_alert_counters(partial(Counter, registry=self._registry))
        self._declare_histograms(partial(Histogram, registry=self._registry))
        self._declare_gauges(partial(Gauge, registry=self._registry))

    def _declare_counters(self, counter: partial[Counter]) -> None:
        self.requests = _Labelled(
            counter("ridges_requests", "Requests, by route, model and code.", ["route", "model", "code"])
        )
        self.upstream_responses = _Labelled(
            counter(
                "ridges_upstream_responses",
                "Calls sent to the upstream, by the status of its response.",
                ["model", "status"],
            )
        )
        self.tokens = _Labelled(
            counter("ridges_tokens", "Tokens that the upstream reported.", ["model", "kind"])
        )
        self.settled_usd = _Labelled(
            counter("ridges_settled_usd", "Cost charged for calls, in USD.", ["model"])
        )
        self.refused_usd = _Labelled(
            counter("ridges_refused_usd", "Amount that refused calls asked to hold, in USD.", ["code"])
        )
        self.overdue_usd = counter(
            "ridges_overdue_usd",
            "Cost charged for expired holds, in USD: the process of the call was killed.",
        )
        self.receipts_unwritten = counter(
            "ridges_receipts_unwritten", "Receipts that could not be written into the file of receipts."
        )
        self.under_estimates = counter("ridges_under_estimates", "Calls that cost more than their hold.")
        self.prompts_above_bound = counter(
            "ridges_prompts_above_bound", "Prompts that had more tokens than their bound."
        )
        self.ledger_errors = _Labelled(
            counter(
                "ridges_ledger_errors",
                "Ledger requests that failed because the ledger was unavailable.",
                ["verb"],
            )
        )

    def _declare_alert_counters(self, counter: partial[Counter]) -> None:
        self.budget_alerts = _Labelled(
            counter(
                "ridges_budget_alerts",
                "Budgets that reached a share of their amount, in percent.",
                ["budget", "percent"],
            )
        )
        self.alert_posts = _Labelled(
            counter(
                "ridges_alert_posts",
                "Alerts sent to the webhook, by the outcome: ok, or why it did not take them.",
                ["result"],
            )
        )
        self.alerts_expired = counter(
            "ridges_alerts_expired", "Alerts that were given up: the webhook had not taken them in a day."
        )

    def _declare_histograms(self, histogram: partial[Histogram]) -> None:
        self.call_seconds = _Labelled(
            histogram(
                "ridges_call_seconds",
                "Duration of calls, from the request to the end of the answer.",
                ["route", "model"],
                buckets=CALL_SECONDS,
            )
        )
        self.first_event_seconds = _Labelled(
            histogram(
                "ridges_first_event_seconds",
                "Time until the first event of a streamed answer of the upstream.",
                ["model"],
                buckets=CALL_SECONDS,
            )
        )
        self.hold_wait_seconds = histogram(
            "ridges_hold_wait_seconds",
            "Time for which calls waited because other calls held what they need of a budget.",
            buckets=HOLD_WAIT_SECONDS,
        )
        self.ledger_seconds = _Labelled(
            histogram(
                "ridges_ledger_seconds", "Duration of ledger requests.", ["verb"], buckets=LEDGER_SECONDS
            )
        )

    def _declare_gauges(self, gauge: partial[Gauge]) -> None:
        """Declare the gauges. They cover live workers only: their sum, or the worst value."""
        self.calls_in_flight = gauge(
            "ridges_calls_in_flight", "Calls in flight.", multiprocess_mode="livesum"
        )
        self.calls_waiting = gauge(
            "ridges_calls_waiting",
            "Calls in flight that wait because other calls hold what they need of a budget.",
            multiprocess_mode="livesum",
        )
        self.held_usd = gauge(
            "ridges_held_usd", "Amount held for calls in flight, in USD.", multiprocess_mode="livesum"
        )
        self.last_sweep = gauge(
            "ridges_last_sweep_timestamp_seconds",
            "Time of the last sweep, of the worker whose last sweep is the oldest.",
            multiprocess_mode="livemin",
        )
        self.circuits_open = gauge(
            "ridges_circuits_open",
            "Models whose calls are refused because their circuit breaker is open.",
            multiprocess_mode="livemax",
        )
        self.settlements_kept = gauge(
            "ridges_settlements_kept",
            "Settlements that wait in the outbox for the ledger.",
            multiprocess_mode="livemax",
        )
        self.webhook_fails = gauge(
            "ridges_webhook_fails",
            "1 if the webhook did not take the latest alert that was sent to it, else 0.",
            multiprocess_mode="livemostrecent",
        )
        self.runs = gauge(
            "ridges_runs",
            "Runs in the ledger. NaN if the ledger does not answer.",
            multiprocess_mode="livemostrecent",
        )

    def text(self) -> bytes:
        """Return the metrics of all processes in Prometheus' text format."""
        return generate_latest(self._all_processes())

    def totals(self) -> Totals:
        """Sum the metrics of all processes."""
        usd = 0.0
        single: defaultdict[str, float] = defaultdict(float)
        codes: Counts[str] = Counts()
        seconds: Counts[float] = Counts()
        registry = self._all_processes()
        for sample in (sample for family in registry.collect() for sample in family.samples):
            labels = sample.labels
            if sample.name == "ridges_settled_usd_total":
                usd += sample.value
            elif sample.name == "ridges_call_seconds_bucket":
                seconds[float(labels["le"])] += int(sample.value)
            elif sample.name == "ridges_requests_total" and _is_call_or_refusal(labels):
                codes[labels["code"]] += int(sample.value)
            elif not labels:
                single[sample.name] = sample.value
        return Totals(
            usd=usd,
            calls=dict(codes),
            durations=[seconds[bound] for bound in (*CALL_SECONDS, math.inf)],
            in_flight=int(single["ridges_calls_in_flight"]),
            waiting=int(single["ridges_calls_waiting"]),
            held_usd=single["ridges_held_usd"],
            circuits_open=int(single["ridges_circuits_open"]),
            settlements_kept=int(single["ridges_settlements_kept"]),
            last_sweep_at=single["ridges_last_sweep_timestamp_seconds"] or None,
            webhook_fails=bool(single["ridges_webhook_fails"]),
            process=os.getpid() if registry is self._registry else None,
        )

    def check(self) -> None:
        """Share the values again if their files have vanished or could not be written. Once a second."""
        if self._shared is None:
            return
        self._shared.check()
        if self.failure == self._logged_failure:
            return
        self._logged_failure = self.failure
        if self.failure:
            logger.warning("metrics are not shared by the workers", extra={"error": self.failure})
        else:
            logger.info("metrics are shared by the workers again")

    @property
    def failure(self) -> str | None:
        """Why the metrics are those of this worker only; None if they are those of all workers."""
        failure = self._shared.failure if self._shared else None
        return None if failure is None else reason_of(failure)

    def _all_processes(self) -> CollectorRegistry:
        """Return the metrics of all workers, or those of this one if the files of all cannot be used."""
        if self._shared is None or self._shared.failure:
            return self._registry
        try:
            families = self._shared.collect()
        except READ_ERRORS:  # the folder has vanished: check() makes it again
            return self._registry
        registry = CollectorRegistry()
        registry.register(_Collected(families))
        return registry

    def timed(self, verb: str, method: Callable[P, T]) -> Callable[P, T]:
        """Wrap a method of a ledger: measure its duration and count its errors."""
        seconds, errors = self.ledger_seconds.labels(verb), self.ledger_errors.labels(verb)

        @wraps(method)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            started_at = time.perf_counter()
            try:
                return method(*args, **kwargs)
            except LedgerUnavailableError:
                errors.inc()
                raise
            finally:
                seconds.observe(time.perf_counter() - started_at)

        return timed


class _Collected(Collector):
    """Metrics that were read together."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _is_call_or_refusal(labels: dict[str, str]) -> bool:
    """Whether a request was a call or a refused call. A successful request without a model only read data."""
    is_read = labels["code"] == OK and labels["model"] == NONE
    return labels["route"].startswith(CALL_ROUTES) and not is_read
