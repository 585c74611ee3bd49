"""A circuit breaker for each model: an upstream that is down is spared, and its callers are told at once.

    closed     calls pass; failures in a row are counted, a success forgets them
    open       none passes, for CIRCUIT_OPEN_SECONDS
    half-open  one passes, the next once that is being answered or has been silent for SILENT_SECONDS: a
               success closes the circuit, a failure may open it again

A refused connection, a wrong certificate or a name that is not found is no request's fault: after
CIRCUIT_FAILURES of them a circuit opens, whoever met them. What a request could have brought about (a
timeout, a 500, an answer that breaks off) opens it after three times as many, of which one run's count for a
third at most.

A half-open circuit is in no single run's hands either: whose turn it was lets the others try first for
CIRCUIT_OPEN_SECONDS, counted from where the turn began. A run that leaves before the end has had it as well.

A deadline counts where nothing of an answer had come, and no other call of the model had gone well since its
call began. The first alone would not do: a whole answer's status comes at its end, so a few runs that ask for
answers which are too long, many at once, would look like an upstream that hangs.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, OrderedDict
from contextlib import contextmanager, nullcontext
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

RUNS = 3
"""What befalls so many is no single agent's doing."""

SILENT_SECONDS = 2.0
"""How long a try may be silent before another run may try beside it; while that one is silent too, twice as
long, up to the open period. Longer than most answers take to begin, and short enough that nobody's silence
keeps the others waiting; but each of the tries at an upstream that hangs is charged."""

UNTRIED_PERIODS = 2
"""For so many times the open period behind it a circuit that nobody tries still counts as down; then nobody
knows."""

logger = logging.getLogger(__name__)


class CircuitBreaker:
    """Of one model, in one process."""

    def __init__(self, model: str, failures: int, open_seconds: float, clock: Callable[[], float]) -> None:
        self._model = model
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._try_at: float | None = None
        self._openings = 0
        self._successes = 0
        self._probe: Attempt | None = None
        self._probe_until = self._silent_seconds = 0.0
        self._forget()

    @property
    def is_down(self) -> bool:
        """Whether calls are refused, or were a moment ago."""
        if self._try_at is None:
            return False
        return self._clock() < self._try_at + UNTRIED_PERIODS * self._open_seconds

    def check(self, run_id: str) -> None:
        """Raise UpstreamDownError if no call of the run would be let through."""
        if self._try_at is None:
            return
        try_at = max(self._try_at, self._next_turns.get(run_id, -math.inf))
        # A try that is being answered says enough, and one that is not may take long: neither stops others.
        if self._probe is not None and not self._probe.answering:
            try_at = max(try_at, self._probe_until)
        wait_seconds = try_at - self._clock()
        if wait_seconds > 0:
            raise UpstreamDownError(math.ceil(wait_seconds))

    @contextmanager
    def guard(self, run_id: str, attempt: Attempt) -> Iterator[None]:
        """Let a call of the run to the upstream, and learn from how it ends. Raises UpstreamDownError.

        A call that began before the circuit last opened says nothing of the time since.
        """
        self.check(run_id)
        openings, successes = self._openings, self._successes
        if self._try_at is not None:
            self._take_turn(run_id, attempt)
        try:
            yield
        except UpstreamError as error:
            if self._openings == openings:
                self._note(error, run_id, attempt, unanswered=self._successes == successes)
            if attempt.refused:
                self._give_back_turn(run_id)
            raise
        except BaseException:
            if not attempt.sent:
                self._give_back_turn(run_id)
            raise
        else:
            self._successes += 1
            if self._openings == openings:
                self._close()
        finally:
            if self._probe is attempt:
                self._probe = None

    def _take_turn(self, run_id: str, attempt: Attempt) -> None:
        now = self._clock()
        is_beside_silence = self._probe is not None and not self._probe.answering
        silent_seconds = 2 * self._silent_seconds if is_beside_silence else SILENT_SECONDS
        self._silent_seconds = min(silent_seconds, self._open_seconds)
        self._probe, self._probe_until = attempt, now + self._silent_seconds
        while self._next_turns and next(iter(self._next_turns.values())) <= now:
            self._next_turns.popitem(last=False)
        self._next_turns[run_id] = now + self._open_seconds

    def _give_back_turn(self, run_id: str) -> None:
        """A call that was not sent, or was answered at once, has kept nobody waiting."""
        self._next_turns.pop(run_id, None)

    def _note(self, error: UpstreamError, run_id: str, attempt: Attempt, *, unanswered: bool) -> None:
        """Count a failure; `unanswered`: no call of the model has gone well since this one began."""
        if isinstance(error, UpstreamRefusedError):
            self._unreached = 0  # who answers has been reached
        if not error.may_be_outage or attempt.complete:
            return
        if isinstance(error, DeadlineExceededError) and (attempt.upstream_status or not unanswered):
            return  # the answer was too long
        self._unreached += isinstance(error, UpstreamUnreachableError)
        self._of_runs[run_id] += 1
        if self._is_enough():
            self._open()

    def _is_enough(self) -> bool:
        if self._try_at is not None:
            return self._unreached > 0 or len(self._of_runs) >= RUNS
        counted = sum(min(failures, self._failures) for failures in self._of_runs.values())
        return self._unreached >= self._failures or counted >= RUNS * self._failures

    def _open(self) -> None:
        if self._try_at is None:
            logger.error("the upstream is down: calls are refused", extra={"model": self._model})
        self._try_at = self._clock() + self._open_seconds
        self._openings += 1
        self._forget()

    def _close(self) -> None:
        if self._try_at is not None:
            logger.info("the upstream answers again", extra={"model": self._model})
        self._try_at = None
        self._forget()

    def _forget(self) -> None:
        self._unreached = 0
        self._of_runs: Counter[str] = Counter()  # their failures since the last success
        self._next_turns: OrderedDict[str, float] = OrderedDict()  # of those that tried; the soonest first


class CircuitBreakers:
    """The circuits of one process: one for each model that was ever called, and only priced ones are."""

    def __init__(
        self, failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """With 0 failures no circuit ever opens."""
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._by_model: dict[str, CircuitBreaker] = {}

    def guard(self, model: str, run_id: str, attempt: Attempt) -> AbstractContextManager[None]:
        """Let a call to the upstream, as `Circuit.passing` does."""
        if not self._failures:
            return nullcontext()
        circuit = self._by_model.get(model)
        if circuit is None:
            circuit = CircuitBreaker(model, self._failures, self._open_seconds, self._clock)
            self._by_model[model] = circuit
        return circuit.guard(run_id, attempt)

    def check(self, model: str, run_id: str) -> None:
        """Raise UpstreamDownError if no call of the run to the model would be let through."""
        circuit = self._by_model.get(model)
        if circuit is not None:
            circuit.check(run_id)

    @property
    def down(self) -> list[str]:
        """The models whose calls are refused."""
        return sorted(model for model, circuit in self._by_model.items() if circuit.is_down)
