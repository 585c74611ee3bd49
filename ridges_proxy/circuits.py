"""A circuit breaker for each model: an upstream that is down is spared, and its callers are told at once.

    closed     calls pass; failures in a row are counted, a success forgets them
    open       none passes, for CIRCUIT_OPEN_SECONDS
    half-open  one passes at a time: a success closes the circuit, a failure may open it again

A refused connection, a wrong certificate or a name that is not found is no request's fault: after
CIRCUIT_FAILURES of them a circuit opens, whoever met them. What a request could have brought about (a
timeout, a 500, an answer that breaks off) opens it after three times as many, of which one run's count for a
third at most.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from ridges_proxy.errors import (
    DeadlineExceededError,
    UpstreamDownError,
    UpstreamError,
    UpstreamUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.upstream import Attempt

RUNS = 3
"""What befalls so many is no single agent's doing."""

logger = logging.getLogger(__name__)


class Circuit:
    """Of one model, in one process."""

    def __init__(self, model: str, failures: int, open_seconds: float, clock: Callable[[], float]) -> None:
        self._model = model
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._try_at: float | None = None
        self._probe: Attempt | None = None
        self._forget()

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for those that try whether it answers again."""
        return self._try_at is not None

    def check(self, run_id: str) -> None:
        """Raise UpstreamDownError if no call of the run would be let through."""
        if self._try_at is not None:
            try_at = max(self._try_at, self._failed_at.get(run_id, -math.inf) + self._open_seconds)
            wait_seconds = try_at - self._clock()
            # A try that is being answered says enough: a long answer must not keep all others waiting.
            if wait_seconds > 0 or (self._probe is not None and not self._probe.answering):
                raise UpstreamDownError(max(1, math.ceil(wait_seconds)))

    @contextmanager
    def passing(self, run_id: str, attempt: Attempt) -> Iterator[None]:
        """Let a call of the run to the upstream, and learn from how it ends. Raises UpstreamDownError."""
        self.check(run_id)
        self._probe = attempt if self.is_open else None
        try:
            yield
        except UpstreamError as error:
            if _speaks_of_outage(error, attempt):
                self._note(error, run_id)
            raise
        else:
            self._close()
        finally:
            if self._probe is attempt:
                self._probe = None

    def _note(self, error: UpstreamError, run_id: str) -> None:
        self._unreached += isinstance(error, UpstreamUnreachableError)
        self._of_runs[run_id] += 1
        self._failed_at[run_id] = self._clock()
        if self.is_open:
            enough = self._unreached or len(self._of_runs) >= RUNS
        else:
            counted = sum(min(failures, self._failures) for failures in self._of_runs.values())
            enough = self._unreached >= self._failures or counted >= RUNS * self._failures
        if enough:
            self._open()

    def _open(self) -> None:
        if not self.is_open:
            logger.error("the upstream is down: calls are refused", extra={"model": self._model})
        self._try_at = self._clock() + self._open_seconds
        self._forget()

    def _close(self) -> None:
        if self.is_open:
            logger.info("the upstream answers again", extra={"model": self._model})
        self._try_at = None
        self._forget()

    def _forget(self) -> None:
        self._unreached = 0
        self._of_runs: Counter[str] = Counter()  # their failures since the last success
        self._failed_at: dict[str, float] = {}


class Circuits:
    """The circuits of one process: one for each model that was ever called, and only priced ones are."""

    def __init__(
        self, failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """With 0 failures no circuit ever opens."""
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._by_model: dict[str, Circuit] = {}

    def passing(self, model: str, run_id: str, attempt: Attempt) -> AbstractContextManager[None]:
        """Let a call to the upstream, as `Circuit.passing` does."""
        if not self._failures:
            return nullcontext()
        circuit = self._by_model.get(model)
        if circuit is None:
            circuit = Circuit(model, self._failures, self._open_seconds, self._clock)
            self._by_model[model] = circuit
        return circuit.passing(run_id, attempt)

    def check(self, model: str, run_id: str) -> None:
        """Raise UpstreamDownError if no call of the run to the model would be let through."""
        circuit = self._by_model.get(model)
        if circuit is not None:
            circuit.check(run_id)

    @property
    def down(self) -> list[str]:
        """The models whose calls are refused."""
        return sorted(model for model, circuit in self._by_model.items() if circuit.is_open)


def _speaks_of_outage(error: UpstreamError, attempt: Attempt) -> bool:
    """Whether a failure may mean that the upstream is down: not a long answer that ran into its deadline."""
    return error.may_be_outage and not (attempt.answering and isinstance(error, DeadlineExceededError))
