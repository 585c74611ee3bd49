"""A page of a list of runs, made from parts of the list: slices of memory, or buckets of a Redis."""

from __future__ import annotations

import bisect
from operator import add
from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import SORT_KEYS, RunPage
from ridges_proxy.ledger.run_state import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ridges_proxy.ledger.models import RunQuery, RunUsage

COUNTED = (None, *RunState)
"""The order of the counts: all runs, then those in each state."""


class PageOfParts:
    """The first rows of all parts, and the sums of their counts."""

    def __init__(self, query: RunQuery) -> None:
        self._query = query
        self._sort_key = SORT_KEYS[query.sort]
        self.needed = query.offset + query.limit
        """The page needs no more rows of a part: the first ones in the order of the query."""
        self._rows: list[RunUsage] = []
        self._counts = [0] * len(COUNTED)

    def add(self, rows: Iterable[RunUsage], counts: Iterable[int]) -> None:
        """Add the first rows of a part, in their order, and the counts of all its runs as in COUNTED."""
        last = self._sort_key(self._rows[-1]) if 0 < len(self._rows) == self.needed else None
        for row in rows:
            if last is not None and self._sort_key(row) > last:
                break  # nor is any row after it on the page: a list of many runs has few that are
            bisect.insort(self._rows, row, key=self._sort_key)
        del self._rows[self.needed :]
        self._counts = list(map(add, self._counts, counts))

    def page(self) -> RunPage:
        """Return the page."""
        counts = dict(zip(COUNTED, self._counts, strict=True))
        return RunPage(self._rows[self._query.offset :], counts[self._query.state], counts)
