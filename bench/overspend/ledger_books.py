"""The ledger of the gateway under test: what it records of shared budgets, and how its replies get lost."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.ledger_setup import open_ledger_url
from bench.overspend.gateways import ALL_CORES, Spending
from bench.overspend.shared_budgets import LevelKey
from bench.servers import redis
from ridges_proxy.ledger import LevelQuery
from tests.concurrency.lossy_proxy import LossyProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.overspend.shared_budgets import SharedBudget
    from ridges_proxy.ledger import Ledger

LOSS_RATE = 0.05
"""The share of replies that are lost."""


@dataclass
class LedgerBooks:
    """A ledger, beside the servers that use it."""

    url: str
    lossy: LossyProxy | None = None
    """The way to it on which replies may be lost; None if its replies cannot be lost."""
    is_lost_with_server: bool = False
    _opened: Ledger | None = field(default=None, init=False)

    @property
    def lossy_url(self) -> str:
        assert self.lossy is not None
        return f"redis://127.0.0.1:{self.lossy.port}"

    def levels(self, budgets: Sequence[SharedBudget]) -> dict[LevelKey, Spending] | None:
        """The amounts of all levels of these budgets; None if only the server can read its ledger."""
        if self.is_lost_with_server:
            return None
        self._opened = self._opened or open_ledger_url(self.url)
        return {
            LevelKey(budget.name, usage.level.scope, usage.level.resets_at == budget.ends_at): Spending(
                usage.spent_nanousd, usage.held_nanousd, usage.calls
            )
            for budget in budgets
            for usage in self._opened.list_levels(LevelQuery(budget=budget.name)).levels
        }

    def lose_replies(self) -> Callable[[], int]:
        """Lose replies on the lossy way, until the returned function is called. It returns their number."""
        assert self.lossy is not None
        lossy, before = self.lossy, self.lossy.lost
        lossy.loss_rate = LOSS_RATE

        def end() -> int:
            lossy.loss_rate = 0.0
            return lossy.lost - before

        return end

    def close(self) -> None:
        if self._opened is not None:
            self._opened.disconnect()


@contextlib.contextmanager
def new_ledger(store: str, machine_count: int) -> Iterator[LedgerBooks]:
    """An empty ledger. For several machines it listens on all addresses."""
    match store:
        case "memory":
            yield LedgerBooks("memory://", is_lost_with_server=True)
        case "SQLite":
            with (
                tempfile.TemporaryDirectory() as folder,
                contextlib.closing(LedgerBooks(f"sqlite:///{folder}/ledger.db")) as books,
            ):
                yield books
        case _:
            bind = "0.0.0.0" if machine_count > 1 else "127.0.0.1"
            with redis(ALL_CORES, append_only=True, bind=bind) as url:
                if url is None:
                    sys.exit("Redis is needed for this deployment")
                port = urlsplit(url).port or 0
                with (
                    LossyProxy(port, seed=0, host=bind) as lossy,
                    contextlib.closing(LedgerBooks(url, lossy)) as books,
                ):
                    yield books
