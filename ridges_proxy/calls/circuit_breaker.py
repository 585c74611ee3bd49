"""A circuit breaker for each model: while the upstream is down, calls are refused at once.

    closed     calls pass; consecutive failures are counted, and a success resets the count
    open       no call passes, for CIRCUIT_OPEN_SECONDS
    half-open  one probe after another passes: a success closes the breaker, a failure may open it again

A refused connection, a wrong certificate or an unknown name cannot be caused by a request. CIRCUIT_FAILURES
of them open the breaker, from any runs. A request can cause the other failures (a timeout, a 500, an answer
that breaks off): three times as many of them open the breaker, and the failures of one run make up at most a
third.

A half-open breaker lets the next probe through as soon as the last one ends, is being answered, or has been
silent for SILENT_SECONDS. A run may probe again CIRCUIT_OPEN_SECONDS after the start of its last probe, so
that other runs can probe. So no single run can keep the breaker open: not by failing, not by an answer that
never begins, and not by hanging up before each answer. Nor can a few runs that take turns.

A call that meets its deadline counts as a failure only if no part of an answer came, and no other call of the
model succeeded since it began. The first condition alone is too weak. The status of an answer in one piece
comes with its end, so a few runs that ask for too long answers at once would look like a hanging upstream.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.errors import (
    DeadlineExceededError,
    UpstreamDownError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.upstream import Attempt

MIN_RUNS = 3
"""Minimum number of runs whose failures open the breaker, where a request can cause the failure."""

SILENT_SECONDS = 2.0
"""How long a silent probe blocks the next one. Longer than most answers take to begin. A probe that starts
beside a silent one blocks for twice as long, up to CIRCUIT_OPEN_SECONDS, because each probe of a hanging
upstream is charged."""

MAX_WAITING_RUNS = 1000
"""Maximum number of runs whose wait for another probe is remembered. Above it, the oldest wait is dropped."""

UNTRIED_PERIODS = 2
"""A breaker that no call probes counts as down for this many more open periods."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Probe:
    """A call that a half-open breaker let through."""

    run_id: str
    attempt: Attempt
    began_at: float
    silent_seconds: float
    """How long it blocks the next probe while it is silent."""
    ended: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether it is in progress, and no part of an answer has come."""
        return not (self.ended or self.attempt.answering)


class CircuitBreaker:
    """The circuit breaker of one model, in one process."""

    def __init__(self, model: str, failures: int, open_seconds: float, clock: Callable[[], float]) -> None:
        self._model = model
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._half_open_at: float | None = None
        """When the breaker becomes half-open; None while it is closed."""
        self._openings = 0
        self._successes = 0
        self._probe: Probe | None = None
        """The last one, in progress or ended."""
        self._probe_again_at: dict[str, float] = {}
        """When each run that has probed may probe again, the earliest time first."""
        self._reset_failures()

    @property
    def is_down(self) -> bool:
        """Whether calls are refused, or were a short time ago."""
        if self._half_open_at is None:
            return False
        return self._clock() < self._half_open_at + UNTRIED_PERIODS * self._open_seconds

    def check(self, run_id: str) -> None:
        """Raise UpstreamDownError if `guard` would not let a call of the run through."""
        if self._half_open_at is None:
            return
        wait_seconds = self._probe_at(run_id, self._half_open_at) - self._clock()
        if wait_seconds > 0:
            raise UpstreamDownError(math.ceil(wait_seconds))

    @contextmanager
    def guard(self, run_id: str, attempt: Attempt) -> Iterator[None]:
        """Let a call of the run through, and learn from its end. Raises UpstreamDownError.

        A call that began before the breaker last opened proves nothing about the time since.
        """
        self.check(run_id)
        openings, successes = self._openings, self._successes
        last_probe = self._probe
        probe = None if self._half_open_at is None else self._begin_probe(run_id, attempt)
        try:
            yield
        except UpstreamError as error:
            if self._openings == openings:
                self._record_failure(error, run_id, attempt, no_success=self._successes == successes)
            if attempt.refused:
                self._undo_turn(probe, last_probe)
            raise
        except BaseException:
            if not attempt.sent:
                self._undo_turn(probe, last_probe)
            raise
        else:
            self._successes += 1
            if self._openings == openings:
                self._close()
        finally:
            if probe is not None:
                probe.ended = True

    def _undo_turn(self, probe: Probe | None, last_probe: Probe | None) -> None:
        """Let the run probe again: a call that was not sent, or was refused at once, blocked no other run."""
        if probe is None:
            return
        self._probe_again_at.pop(probe.run_id, None)
        if probe is self._probe:
            self._probe = last_probe

    def _probe_at(self, run_id: str, half_open_at: float) -> float:
        """Return the time from which a call of the run may be a probe."""
        probe_at = max(half_open_at, self._probe_again_at.get(run_id, half_open_at))
        if self._probe is not None and self._probe.is_silent:
            probe_at = max(probe_at, self._probe.began_at + self._probe.silent_seconds)
        return probe_at

    def _begin_probe(self, run_id: str, attempt: Attempt) -> Probe:
        silent_seconds = SILENT_SECONDS
        if self._probe is not None and self._probe.is_silent:
            silent_seconds = 2 * self._probe.silent_seconds
        now = self._clock()
        self._probe = Probe(run_id, attempt, now, min(silent_seconds, self._open_seconds))
        waiting = [(run, again_at) for run, again_at in self._probe_again_at.items() if again_at > now]
        self._probe_again_at = {**dict(waiting[1 - MAX_WAITING_RUNS :]), run_id: now + self._open_seconds}
        return self._probe

    def _record_failure(
        self, error: UpstreamError, run_id: str, attempt: Attempt, *, no_success: bool
    ) -> None:
        """Count a failure. `no_success`: no call of the model succeeded since this one began."""
        if isinstance(error, UpstreamRefusedError):
            self._unreachable = 0  # an error status proves that the upstream was reached
        if not error.may_be_outage or attempt.complete:
            return
        if isinstance(error, DeadlineExceededError) and (attempt.upstream_status or not no_success):
            return  # the answer was too long
        self._unreachable += isinstance(error, UpstreamUnreachableError)
        self._failures_by_run[run_id] += 1
        if self._is_outage():
            self._open()

    def _is_outage(self) -> bool:
        if self._half_open_at is not None:
            return self._unreachable > 0 or len(self._failures_by_run) >= MIN_RUNS
        counted = sum(min(failures, self._failures) for failures in self._failures_by_run.values())
        return self._unreachable >= self._failures or counted >= MIN_RUNS * self._failures

    def _open(self) -> None:
        if self._half_open_at is None:
            logger.error("the upstream is down: calls are refused", extra={"model": self._model})
        self._half_open_at = self._clock() + self._open_seconds
        self._openings += 1
        self._reset_failures()

    def _close(self) -> None:
        if self._half_open_at is not None:
            logger.info("the upstream answers again", extra={"model": self._model})
        self._half_open_at = None
        self._reset_failures()

    def _reset_failures(self) -> None:
        self._unreachable = 0
        self._failures_by_run: Counter[str] = Counter()


class CircuitBreakers:
    """The circuit breakers of one process, by model. Only models that have a price are ever called."""

    def __init__(
        self, failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make no breaker yet. With 0 failures, none is ever made."""
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._by_model: dict[str, CircuitBreaker] = {}

    def guard(self, model: str, run_id: str, attempt: Attempt) -> AbstractContextManager[None]:
        """Let a call to the upstream through, as `CircuitBreaker.guard` does."""
        if not self._failures:
            return nullcontext()
        breaker = self._by_model.get(model)
        if breaker is None:
            breaker = CircuitBreaker(model, self._failures, self._open_seconds, self._clock)
            self._by_model[model] = breaker
        return breaker.guard(run_id, attempt)

    def check(self, model: str, run_id: str) -> None:
        """Raise UpstreamDownError if `guard` would not let a call of the run to the model through."""
        breaker = self._by_model.get(model)
        if breaker is not None:
            breaker.check(run_id)

    @property
    def down(self) -> list[str]:
        """The models whose calls are refused."""
        return sorted(model for model, breaker in self._by_model.items() if breaker.is_down)
