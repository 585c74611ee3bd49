"""The finished runs that a ledger in memory remembers after it has forgotten them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridges_proxy.ledger.account import Account

MAX_FINISHED_RUNS = 100_000
"""Above it, the one that was forgotten first is dropped. An entry takes 0.6 kB, so all take 60 MB."""


class FinishedRuns:
    """The accounts of forgotten runs that are closed or have used up their budget, oldest first.

    Use it only under the ledger's lock.
    """

    def __init__(self, kept_seconds: float, limit: int = MAX_FINISHED_RUNS) -> None:
        self._kept_seconds = kept_seconds
        self._limit = limit
        self._forgotten: OrderedDict[str, tuple[float, Account]] = OrderedDict()

    def add(self, account: Account, now: float) -> None:
        """Remember the account of a run that is forgotten now."""
        self._forgotten[account.run_id] = now, replace(account, exhausted=True)
        if len(self._forgotten) > self._limit:
            self._forgotten.popitem(last=False)

    def find(self, run_id: str) -> Account | None:
        """Return a copy of the account; None if there is none."""
        found = self._forgotten.get(run_id)
        return None if found is None else replace(found[1])

    def remove(self, run_id: str) -> None:
        """Remove the account, if there is one."""
        self._forgotten.pop(run_id, None)

    def drop_old(self, now: float, limit: int) -> bool:
        """Remove up to `limit` accounts whose time is over. Return whether the limit was reached."""
        for _ in range(limit):
            forgotten_at, account = next(iter(self._forgotten.values()), (now, None))
            if account is None or now - forgotten_at < self._kept_seconds:
                return False
            del self._forgotten[account.run_id]
        return True
