"""A store that answers but refuses writes: `ping` fails, and succeeds again when the store has recovered."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Kind, LevelUsage, Run, SqliteLedger, WriteCheck
from ridges_proxy.ledger.redis.client import RETRY_SECONDS
from tests.contract.test_redis_client import TIMEOUT_SECONDS, ledger_of
from tests.support.clock import Clock
from tests.support.redis_server import RedisServer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ridges_proxy.ledger import Ledger

LEVEL = Level("all", "all", "lifetime", 10**9)
RUN = Run("run", 10**9, levels=(LEVEL,))

WAL_FRAME_BYTES = 24 + 1024
"""A page in the write-ahead log, with its header."""


@contextmanager
def no_file_above(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow above a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def reserve(ledger: Ledger) -> None:
    ledger.reserve(RUN, Kind.INFERENCE, 10, 10, 60.0)


def test_a_disk_without_room_for_a_reservation_fails_the_ping(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", 600.0)
    reserve(ledger)
    log_bytes = (tmp_path / "ledger.db-wal").stat().st_size

    def check(frames: int) -> None:
        with no_file_above(log_bytes + frames * WAL_FRAME_BYTES):
            with pytest.raises(LedgerUnavailableError):
                ledger.ping()
            if frames < 3:
                with pytest.raises(LedgerUnavailableError):
                    reserve(ledger)

    check_rows([0, 1, 2], check)
    ledger.ping()
    reserve(ledger)
    usage = ledger.usage("run")
    assert usage
    assert (usage.in_flight, usage.held_nanousd) == (2, 20)
    assert ledger.levels([LEVEL]) == [LevelUsage(LEVEL, held_nanousd=20, in_flight=2)]


def test_a_ping_changes_no_row_and_leaves_no_growing_log(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", 600.0)
    reserve(ledger)
    before = list(ledger._connection.iterdump())
    sizes = set()
    for _ in range(20):
        ledger.ping()
        sizes.add((tmp_path / "ledger.db-wal").stat().st_size)
        ledger.maintain()
    assert len(sizes) <= 2
    after = list(ledger._connection.iterdump())
    assert [line for line in after if "pings" not in line] == [line for line in before if "pings" not in line]


def test_a_redis_that_refuses_writes_fails_the_ping() -> None:
    with RedisServer() as server, RedisServer() as master:
        rows: list[tuple[tuple[str | int, ...], tuple[str | int, ...]]] = [
            (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
            (("CONFIG", "SET", "min-replicas-to-write", 1), ("CONFIG", "SET", "min-replicas-to-write", 0)),
            (("REPLICAOF", "127.0.0.1", master.port), ("REPLICAOF", "NO", "ONE")),
            (("ACL", "SETUSER", "default", "-evalsha", "-eval"), ("ACL", "SETUSER", "default", "+@all")),
        ]

        def check(row: tuple[tuple[str | int, ...], tuple[str | int, ...]]) -> None:
            refuse, recover = row
            ledger = ledger_of(server.url, TIMEOUT_SECONDS, clock := Clock())
            ledger.ping()
            server.ask(*refuse)
            try:
                with pytest.raises(LedgerUnavailableError):
                    ledger.ping()
            finally:
                server.ask(*recover)
            clock.advance(RETRY_SECONDS)
            ledger.ping()

        check_rows(rows, check)


def test_a_redis_without_the_replicas_that_reservations_wait_for_fails_the_ping() -> None:
    with RedisServer() as server:
        ledger_of(server.url, TIMEOUT_SECONDS).ping()
        with pytest.raises(LedgerUnavailableError):
            ledger_of(server.url, TIMEOUT_SECONDS, wait_replicas=1).ping()


class CountingLedger(SqliteLedger):
    """A ledger that counts its pings, and refuses them while it is told to."""

    pings = 0
    refuses = False

    def ping(self) -> None:
        self.pings += 1
        if self.refuses:
            raise LedgerUnavailableError


def test_all_callers_of_a_second_share_one_ping(tmp_path: Path) -> None:
    clock = Clock()
    ledger = CountingLedger(tmp_path / "ledger.db", 600.0)
    write_check = WriteCheck(ledger, clock)
    assert [write_check.accepts_writes() for _ in range(50)] == [True] * 50
    assert ledger.pings == 1
    ledger.refuses = True
    clock.advance(0.99)
    assert write_check.accepts_writes()
    clock.advance(0.01)
    assert not write_check.accepts_writes()
    ledger.refuses = False
    clock.advance(1)
    assert write_check.accepts_writes()
    assert ledger.pings == 3
