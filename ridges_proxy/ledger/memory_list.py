"""The runs of a ledger in memory that match a query."""

from __future__ import annotations

from collections import Counter
from heapq import nsmallest
from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import SortKey
from ridges_proxy.ledger.run_list import COUNTED
from ridges_proxy.ledger.run_state import RunState, end_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ridges_proxy.ledger.account import Account
    from ridges_proxy.ledger.models import RunQuery

_ORDERS: dict[SortKey, Callable[[Account], tuple[float, str]]] = {
    SortKey.SPENT: lambda account: (-account.spent_nanousd, account.run_id),
    SortKey.HELD: lambda account: (-account.held_nanousd, account.run_id),
    SortKey.CALLS: lambda account: (-account.calls, account.run_id),
    SortKey.IDLE: lambda account: (-account.active_at, account.run_id),
    SortKey.RUN_ID: lambda account: (0, account.run_id),
}
"""The orders of SORT_KEYS: a row is made of the first accounts only, because that takes the longest."""


def first_of(accounts: Iterable[Account], query: RunQuery, needed: int) -> tuple[list[Account], list[int]]:
    """Return the first `needed` accounts that match, in their order, and the counts of all as in COUNTED."""
    found = [account for account in accounts if _matches(account, query)]
    present_nanousd = query.present_budget_nanousd
    states = [end_state(account, present_nanousd) for account in found]
    in_flight = [account for account in found if account.in_flight]
    numbers = Counter(states)
    numbers[None] = len(found)
    numbers[RunState.IN_FLIGHT] = len(in_flight)
    if query.state is RunState.IN_FLIGHT:
        found = in_flight
    elif query.state is not None:
        found = [account for account, state in zip(found, states, strict=True) if state is query.state]
    first = nsmallest(needed, found, key=_ORDERS[query.sort])
    return first, [numbers[state] for state in COUNTED]


def _matches(account: Account, query: RunQuery) -> bool:
    """Whether an account matches all but the state."""
    return (
        query.search in account.run_id
        and account.spent_nanousd >= query.min_spent_nanousd
        and (query.in_flight is None or query.in_flight == bool(account.in_flight))
    )
