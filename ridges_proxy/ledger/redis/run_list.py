"""The runs of one bucket of a Redis ledger that match a query, as `lua/list.lua` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.ledger.redis.reservation import MAX_EXACT
from ridges_proxy.ledger.redis.rows import usage_of
from ridges_proxy.ledger.run_state import NEAR_PART

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ridges_proxy.ledger.models import RunQuery, RunUsage


def arguments_of(query: RunQuery, needed: int) -> list[str | float]:
    """Return the arguments of the script after the time. `needed` is the number of first rows to return."""
    present_nanousd = query.present_budget_nanousd
    return [
        query.search,
        query.min_spent_nanousd,
        "" if query.in_flight is None else int(query.in_flight),
        query.sort.value,
        needed,
        query.state or "",
        "" if present_nanousd is None else min(present_nanousd, MAX_EXACT),
        NEAR_PART,
    ]


def part_of(reply: tuple[bytes, Sequence[Any]]) -> tuple[Iterator[RunUsage], list[int]]:
    """Convert a reply: the first rows, and the numbers of all matching runs as in COUNTED."""
    numbers, rows = reply
    return map(usage_of, rows), [int(number) for number in numbers.split(b"|")]
