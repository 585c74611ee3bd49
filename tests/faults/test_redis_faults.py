"""What may happen to a Redis ledger, each 20 times at a seeded random moment, many rounds at once."""

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
from tests.faults.crew import PATIENCE_SECONDS, assert_true, settle_all
from tests.faults.hammer import RUNS, Hammer, Journal
from tests.faults.lossy import LossyProxy
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 20
AT_ONCE = 10
TTL_SECONDS = 1e6
TIMEOUT_SECONDS = 0.3
FREEZE_SECONDS = 5.0
BUCKETS = 4
LOST_ANSWERS = 10
FSYNC_SECONDS = 2.0
"""With appendfsync everysec, Redis writes to its log before it answers, but puts that off for up to two
seconds while the disk is slow to take what came before."""


@dataclass
class Round:
    """One ledger under one hammer, which goes on whatever happens; an auditor takes its time."""

    url: str
    seed: int
    journal: Journal = field(default_factory=Journal)
    charged: list[tuple[float, int]] = field(default_factory=list)
    """When, and how much."""

    def __post_init__(self) -> None:
        self.ledger = ledger_of(self.url, TIMEOUT_SECONDS)
        self.auditor = ledger_of(self.url, PATIENCE_SECONDS)
        self.outbox = Outbox(self.ledger)
        self._hammer = Hammer(self.ledger, self.outbox, self.seed, self._note)
        self._stop = threading.Event()

    def _note(self, line: tuple[str, str, str, int]) -> None:
        self.journal.note(line)
        if line[0] == "charged":
            self.charged.append((time.monotonic(), line[3]))

    @contextmanager
    def hammering(self) -> Iterator[None]:
        """Hammer inside, and after it until the ledger answers again; then deliver what was kept."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            self.wait_for(20)
            yield
            self.wait_for(self.journal.lines + 20)
        finally:
            self._stop.set()
            thread.join()
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._has_delivered():
            assert time.monotonic() < end, "the ledger does not come back"
            time.sleep(0.01)
        assert self.outbox.kept() == 0

    def _has_delivered(self) -> bool:
        try:
            self.outbox.deliver()
            self.ledger.maintain()
        except LedgerUnavailableError:
            return False
        return True

    def wait_for(self, lines: int) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while self.journal.lines < lines:
            assert time.monotonic() < end, "the ledger does not come back"
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._hammer.step():
                self._stop.wait(0.01)


def ledger_of(url: str, timeout_seconds: float) -> RedisLedger:
    link = RedisClient(lambda: client_of(redis_url(url), timeout_seconds), timeout_seconds)
    return RedisLedger(link, TTL_SECONDS, buckets=BUCKETS)


def in_rounds(one: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(one, seed) for seed in range(ROUNDS)]:
            done.result()


def test_a_redis_that_is_killed_and_has_a_log_that_is_always_written_loses_nothing() -> None:
    def one(seed: int) -> None:
        with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
            work = Round(server.url, seed)
            with work.hammering():
                time.sleep(random.Random(seed).uniform(0, 0.2))
                server.kill()
                server.start()
            assert_true(work.auditor, [work.journal])

    in_rounds(one)


def test_a_redis_that_is_killed_and_has_a_log_written_every_second_loses_no_more_than_is_allowed() -> None:
    def one(seed: int) -> None:
        with RedisServer("--appendonly", "yes", "--appendfsync", "everysec") as server:
            work = Round(server.url, seed)
            with work.hammering():
                time.sleep(random.Random(seed).uniform(0, 0.2))
                server.kill()
                killed_at = time.monotonic()
                server.start()
            spent = sum(books.spent_nanousd for books in settle_all(work.auditor).values())
            lost = sum(work.journal.charged.values()) - spent
            allowed = sum(cost for at, cost in work.charged if killed_at - FSYNC_SECONDS < at <= killed_at)
            assert lost <= allowed
            assert spent <= sum(work.journal.most(run, 0) for run in RUNS)

    in_rounds(one)


def test_a_redis_that_stands_still_for_five_seconds_holds_up_nobody_and_loses_nothing() -> None:
    def one(seed: int) -> None:
        with RedisServer() as server:
            work = Round(server.url, seed)
            with work.hammering():
                time.sleep(random.Random(seed).uniform(0, 0.2))
                server.freeze()
                longest = longest_wait(work, FREEZE_SECONDS)
                server.thaw()
            assert longest < FREEZE_SECONDS / 2, "nobody waited for it to come back"
            assert_true(work.auditor, [work.journal])

    with ThreadPoolExecutor(ROUNDS) as pool:
        for done in [pool.submit(one, seed) for seed in range(ROUNDS)]:
            done.result()


def longest_wait(work: Round, seconds: float) -> float:
    """Ask for so long; how long the longest answer, or refusal, took."""
    end, longest = time.monotonic() + seconds, 0.0
    while (began := time.monotonic()) < end:
        with pytest.raises(LedgerUnavailableError):
            work.ledger.ping()
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.05)
    return longest


def test_answers_that_are_lost_charge_nothing_twice_and_nothing_that_was_not_spent() -> None:
    def one(seed: int) -> None:
        with RedisServer() as server, LossyProxy(server.port, seed) as proxy:
            work = Round(f"redis://127.0.0.1:{proxy.port}", seed)
            with work.hammering():
                proxy.losing = 0.05
                end = time.monotonic() + PATIENCE_SECONDS
                while proxy.lost < LOST_ANSWERS:
                    assert time.monotonic() < end
                    time.sleep(0.01)
                proxy.losing = 0.0
            work.journal.doubts.clear()
            work.journal.doubts.update(dict.fromkeys(RUNS, 0))  # they were all released
            assert_true(work.auditor, [work.journal])

    in_rounds(one)
