"""A Redis Cluster under a ledger, while slots move and nodes fail."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from redis.crc import key_slot

from ridges_proxy.errors import LedgerUnavailableError, RunBusyError
from ridges_proxy.ledger import Kind, Run
from tests.contract.stores import PATIENCE_SECONDS
from tests.contract.test_redis_client import ledger_of
from tests.support.redis_kinds import NODES, redis_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.ledger import Hold
    from ridges_proxy.ledger.redis.ledger import RedisLedger
    from tests.support.redis_server import RedisServer

BUDGET_NANOUSD = 1_000
RUNS = [f"run-{number}" for number in range(20)]
"""Enough to have a run in every bucket."""


def reserve(ledger: RedisLedger, amount: int, run: str = RUNS[0]) -> Hold:
    return ledger.reserve(Run(run, BUDGET_NANOUSD), Kind.INFERENCE, amount, amount, 60.0)


def wait_until(step: Callable[[], object]) -> None:
    """Repeat the step until the ledger answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            step()
        except LedgerUnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


def slot_of(ledger: RedisLedger, run: str) -> int:
    slot: int = key_slot(ledger._key_of(run).encode())
    return slot


def node_of(nodes: list[RedisServer], slot: int) -> RedisServer:
    """Return the master that serves the slot."""
    for first, last, (_, port, *_), *_ in nodes[-1].ask("CLUSTER SLOTS"):
        if first <= slot <= last:
            return next(node for node in nodes if node.port == port)
    raise LookupError(slot)


# --- slots that move


class SlotMove:
    """Moves a slot from one node to another, in the steps of `redis-cli --cluster reshard`."""

    def __init__(self, nodes: list[RedisServer], slot: int) -> None:
        self._nodes = nodes[:NODES]  # the masters
        self._slot = slot
        self._old = node_of(nodes, slot)
        self._new = next(node for node in nodes if node is not self._old)
        self._set(self._new, "IMPORTING", self._old)
        self._set(self._old, "MIGRATING", self._new)

    def keys(self) -> list[bytes]:
        keys: list[bytes] = self._old.ask("CLUSTER", "GETKEYSINSLOT", self._slot, 1_000)
        return keys

    def move(self, key: bytes) -> None:
        self._old.ask("MIGRATE", "127.0.0.1", self._new.port, key.decode(), 0, 5_000)

    def finish(self) -> None:
        assert not self.keys()
        for node in [self._new, self._old, *self._nodes]:
            self._set(node, "NODE", self._new)

    def _set(self, node: RedisServer, what: str, other: RedisServer) -> None:
        node.ask("CLUSTER", "SETSLOT", self._slot, what, other.ask("CLUSTER", "MYID").decode())


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_run_whose_slot_moves_is_refused_until_the_move_is_complete(replicas: int) -> None:
    with redis_cluster(replicas=replicas) as (url, nodes):
        ledger = ledger_of(url, wait_replicas=replicas)
        ledger.settle(reserve(ledger, 600), 600)
        reserve(ledger, 100)
        other = next(run for run in RUNS if ledger._key_of(run) != ledger._key_of(RUNS[0]))
        move = SlotMove(nodes, slot_of(ledger, RUNS[0]))
        for key in [None, *move.keys()]:
            if key is not None:
                move.move(key)
            with pytest.raises(LedgerUnavailableError):
                reserve(ledger, 10)
            reserve(ledger, 10, other)  # all other runs continue
        move.finish()
        with pytest.raises(RunBusyError):
            wait_until(lambda: reserve(ledger, 301))
        wait_until(lambda: reserve(ledger, 300))
        usage = ledger.usage(RUNS[0])
        assert usage
        assert (usage.spent_nanousd, usage.held_nanousd, usage.calls) == (600, 400, 1)


# --- nodes that fail


@contextmanager
def spent_everywhere(replicas: int) -> Iterator[tuple[RedisLedger, list[RedisServer], list[Hold]]]:
    """A Cluster with runs in every bucket, each with 600 spent and 400 held."""
    with redis_cluster("--appendonly", "yes", "--appendfsync", "always", replicas=replicas) as (url, nodes):
        ledger = ledger_of(url, timeout=1.0, wait_replicas=replicas)
        for run in RUNS:
            ledger.settle(reserve(ledger, 600, run), 600)
        yield ledger, nodes, [reserve(ledger, 400, run) for run in RUNS]


def assert_nothing_was_lost(ledger: RedisLedger, holds: list[Hold]) -> None:
    for hold in holds:
        wait_until(lambda hold=hold: ledger.usage(hold.run_id))  # type: ignore[misc] # mypy#12557
        wait_until(lambda hold=hold: ledger.settle(hold, 300))  # type: ignore[misc] # mypy#12557
        usage = ledger.usage(hold.run_id)
        assert usage
        assert (usage.spent_nanousd, usage.held_nanousd) == (900, 0)


def test_a_node_that_restarts_has_lost_nothing() -> None:
    with spent_everywhere(replicas=0) as (ledger, nodes, holds):
        node = node_of(nodes, slot_of(ledger, RUNS[0]))
        node.kill()
        with pytest.raises(LedgerUnavailableError):
            ledger.settle(holds[0], 300)
        node.start()
        assert_nothing_was_lost(ledger, holds)


def test_a_promoted_replica_has_every_hold_that_waited_for_it() -> None:
    with spent_everywhere(replicas=1) as (ledger, nodes, holds):
        node_of(nodes, slot_of(ledger, RUNS[0])).kill()
        assert_nothing_was_lost(ledger, holds)
