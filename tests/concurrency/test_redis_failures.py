"""Failures of Redis under a ledger, each 20 times at a seeded random moment: kills, freezes, lost replies.

The rounds of a test run in parallel.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Outbox
from ridges_proxy.ledger.redis.client import RedisClient, client_of
from ridges_proxy.ledger.redis.ledger import RedisLedger
from tests.concurrency.lossy_proxy import LossyProxy
from tests.support.ledger_workload import (
    PATIENCE_SECONDS,
    RUNS,
    Entry,
    Journal,
    Workload,
    assert_matches,
    sweep_until_nothing_is_held,
)
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 20
PARALLEL_ROUNDS = 10
TTL_SECONDS = 1e6
TIMEOUT_SECONDS = 0.3
FREEZE_SECONDS = 5.0
BUCKETS = 4
LOST_REPLIES = 10
FSYNC_SECONDS = 2.0
"""With appendfsync everysec, Redis delays writes to its log for up to 2 s while an earlier fsync runs."""


@dataclass
class Trial:
    """One ledger under one workload, which continues through failures. `checker` has a longer timeout."""

    url: str
    seed: int
    journal: Journal = field(default_factory=Journal)
    charged: list[tuple[float, int]] = field(default_factory=list)
    """Time and cost of each acknowledged charge."""

    def __post_init__(self) -> None:
        self.ledger = ledger_of(self.url, TIMEOUT_SECONDS)
        self.checker = ledger_of(self.url, PATIENCE_SECONDS)
        self.outbox = Outbox(self.ledger)
        self._workload = Workload(self.ledger, self.outbox, self.seed, self._record)
        self._stop = threading.Event()

    def _record(self, entry: Entry) -> None:
        self.journal.record(entry)
        if entry.outcome == "charged":
            self.charged.append((time.monotonic(), entry.amount_nanousd))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the workload in the block, and after it until the ledger answers; then deliver the outbox."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            self.wait_for(20)
            yield
            self.wait_for(self.journal.entries + 20)
        finally:
            self._stop.set()
            thread.join()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._has_delivered():
            assert time.monotonic() < deadline, "the ledger does not answer again"
            time.sleep(0.01)
        assert self.outbox.kept() == 0

    def _has_delivered(self) -> bool:
        try:
            self.outbox.deliver()
            self.ledger.maintain()
        except LedgerUnavailableError:
            return False
        return True

    def wait_for(self, entries: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.journal.entries < entries:
            assert time.monotonic() < deadline, "the ledger does not answer again"
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._workload.step():
                self._stop.wait(0.01)


@contextmanager
def trial_of(url: str, seed: int) -> Iterator[Trial]:
    """Close the connections at the end of the block, while their server still runs."""
    trial = Trial(url, seed)
    try:
        yield trial
    finally:
        trial.ledger.disconnect()
        trial.checker.disconnect()


def ledger_of(url: str, timeout_seconds: float) -> RedisLedger:
    client = RedisClient(lambda: client_of(redis_url(url), timeout_seconds), timeout_seconds)
    return RedisLedger(client, TTL_SECONDS, buckets=BUCKETS)


def run_rounds(run_round: Callable[[int], None], parallel: int = PARALLEL_ROUNDS) -> None:
    """Run each round in a thread. Raises the error of a round that fails."""
    with ThreadPoolExecutor(parallel) as pool:
        for result in [pool.submit(run_round, seed) for seed in range(ROUNDS)]:
            result.result()


def test_a_killed_redis_with_appendfsync_always_loses_nothing() -> None:
    def run_round(seed: int) -> None:
        with (
            RedisServer("--appendonly", "yes", "--appendfsync", "always") as server,
            trial_of(server.url, seed) as trial,
        ):
            with trial.running():
                time.sleep(random.Random(seed).uniform(0, 0.2))
                server.kill()
                server.start()
            assert_matches(trial.checker, [trial.journal])

    run_rounds(run_round)


def test_a_killed_redis_with_appendfsync_everysec_loses_at_most_two_seconds() -> None:
    def run_round(seed: int) -> None:
        with (
            RedisServer("--appendonly", "yes", "--appendfsync", "everysec") as server,
            trial_of(server.url, seed) as trial,
        ):
            with trial.running():
                time.sleep(random.Random(seed).uniform(0, 0.2))
                server.kill()
                killed_at = time.monotonic()
                server.start()
            usages = sweep_until_nothing_is_held(trial.checker)
            spent = sum(usage.spent_nanousd for usage in usages.values())
            lost = sum(trial.journal.charged.values()) - spent
            allowed = sum(cost for at, cost in trial.charged if killed_at - FSYNC_SECONDS < at <= killed_at)
            assert lost <= allowed
            assert spent <= sum(trial.journal.max_spent(run) for run in RUNS)

    run_rounds(run_round)


def test_a_redis_frozen_for_five_seconds_delays_no_caller_and_loses_nothing() -> None:
    def run_round(seed: int) -> None:
        with RedisServer() as server, trial_of(server.url, seed) as trial:
            with trial.running():
                time.sleep(random.Random(seed).uniform(0, 0.2))
                server.freeze()
                slowest = slowest_refusal(trial, FREEZE_SECONDS)
                server.thaw()
            assert slowest < FREEZE_SECONDS / 2, "no caller waited until Redis answered again"
            assert_matches(trial.checker, [trial.journal])

    run_rounds(run_round, parallel=ROUNDS)


def slowest_refusal(trial: Trial, seconds: float) -> float:
    """Ping the ledger again and again for that time. Return the duration of the slowest refusal."""
    deadline, slowest = time.monotonic() + seconds, 0.0
    while (started := time.monotonic()) < deadline:
        with pytest.raises(LedgerUnavailableError):
            trial.ledger.ping()
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.05)
    return slowest


def test_lost_replies_charge_nothing_twice_and_nothing_that_was_not_spent() -> None:
    def run_round(seed: int) -> None:
        with (
            RedisServer() as server,
            LossyProxy(server.port, seed) as proxy,
            trial_of(f"redis://127.0.0.1:{proxy.port}", seed) as trial,
        ):
            with trial.running():
                proxy.loss_rate = 0.05
                deadline = time.monotonic() + PATIENCE_SECONDS
                while proxy.lost < LOST_REPLIES:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                proxy.loss_rate = 0.0
            trial.journal.unanswered = dict.fromkeys(RUNS, 0)  # `maintain` has released all of them
            assert_matches(trial.checker, [trial.journal])

    run_rounds(run_round)
