"""Comparison of a bill of the upstream with the calls in the books. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from ridges_proxy.ledger.kept_calls import KeptCalls
from ridges_proxy.ledger.reconciliation import Reconciliation
from ridges_proxy.ledger.time_pairs import pairs_by_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ridges_proxy.billing.bill_file import Bill, BilledCall
    from ridges_proxy.ledger.models import BookedCall, BookedCallPage

PAGE_CALLS = 1_000
TOKEN_BITS = 32
"""A number of tokens has at most 31 bits, also if it is the sum of prompt and completion."""


class CallBooks(Protocol):
    """A ledger, as far as a comparison reads it."""

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        """Return one page of the calls, as `Ledger.calls` does."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """The time of the calls and rows that count: from `since` to before `until`, seconds since the epoch."""

    since: float = 0.0
    until: float = math.inf

    def has(self, at: float) -> bool:
        """Whether what has this time counts. NaN, which stands for no time, does."""
        return not (at < self.since or at >= self.until)


def reconcile(
    bill: Bill, books: CallBooks, *, span: Span, tolerance_seconds: float, listed: int
) -> Reconciliation:
    """Compare a bill with the calls that were settled in a span of time.

    First each call gets the row with its answer id or invocation id. Then the rows without an id, and after
    them the calls without one, get the nearest partner of the same model and tokens, one to one, whose time
    differs by at most the tolerance. A pair does not count if both are outside the span, and neither does a
    row or a call there that has no partner. `listed` limits each list of the result.

    Takes memory for the bill and for the calls without a row, and n log n steps.
    """
    comparison = _Comparison(bill, span, listed)
    for call in _calls(books, span.since - tolerance_seconds):
        comparison.add(call)
    comparison.pair_by_time(tolerance_seconds)
    return comparison.result()


def _calls(books: CallBooks, since: float) -> Iterator[BookedCall]:
    cursor: str | None = None
    while True:
        page = books.calls(max(0.0, since), cursor, PAGE_CALLS)
        yield from page.calls
        cursor = page.next_cursor
        if cursor is None:
            return


class _RowsById:
    """The rows of a bill that have an id. Each is found once."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._first: dict[str, int] = {}
        self._others: dict[str, list[int]] = {}
        """Further rows of an id, the last one first."""
        for position in range(len(ids) - 1, -1, -1):
            row_id = ids[position]
            if not row_id:
                continue
            if row_id in self._first:
                self._others.setdefault(row_id, []).append(self._first[row_id])
            self._first[row_id] = position

    def take(self, *call_ids: str) -> int | None:
        """Return the next row with one of the ids; None if there is none."""
        for call_id in call_ids:
            position = self._first.pop(call_id, None)
            if position is None:
                continue
            if others := self._others.get(call_id):
                self._first[call_id] = others.pop()
            return position
        return None


class _Comparison:
    """Finds the row of each call."""

    def __init__(self, bill: Bill, span: Span, listed: int) -> None:
        self._bill = bill
        self._span = span
        self._result = Reconciliation(listed)
        self._rows_by_id = _RowsById(bill.ids)
        self._is_paired = bytearray(len(bill))
        self._calls = KeptCalls()
        self._is_call_paired = bytearray()
        self._numbers: dict[str, int] = {}
        """A number for each model."""

    def add(self, call: BookedCall) -> None:
        """Compare a call with the row of its id, or keep it."""
        position = self._rows_by_id.take(call.answer_id, call.invocation_id)
        if position is None:
            self._calls.append(call)
        else:
            self._result.matched_by_id += 1
            self._pair(position, call)

    def pair_by_time(self, tolerance_seconds: float) -> None:
        """Pair the rows without an id, then the other rows with the calls without an id."""
        bill, calls = self._bill, self._calls
        self._is_call_paired = bytearray(len(calls))
        timed = [
            row for row in range(len(bill)) if bill.times[row] == bill.times[row]
        ]  # NaN differs from itself
        self._pair_all([row for row in timed if not bill.ids[row]], range(len(calls)), tolerance_seconds)
        others = [row for row in timed if not self._is_paired[row]]
        left = [call for call in range(len(calls)) if not (self._is_call_paired[call] or calls.has_id(call))]
        self._pair_all(others, left, tolerance_seconds)

    def result(self) -> Reconciliation:
        """Return the result, with all rows and calls that have no partner."""
        for row, is_paired in enumerate(self._is_paired):
            if not is_paired and self._span.has(self._bill.times[row]):
                self._result.add_missing_in_books(self._bill[row])
        for position, is_paired in enumerate(self._is_call_paired):
            if not is_paired and self._span.has(self._calls.times[position]):
                self._result.add_missing_in_bill(self._calls[position])
        return self._result

    def _pair(self, position: int, call: BookedCall) -> None:
        self._is_paired[position] = True
        row = self._bill[position]
        if self._span.has(call.settled_at) or (row.at is not None and self._span.has(row.at)):
            self._result.add_pair(row, call)

    def _pair_all(self, rows: list[int], calls: Sequence[int], tolerance_seconds: float) -> None:
        bill, kept = self._bill, self._calls
        row_groups = _by_key(rows, bill.times.__getitem__, lambda row: self._key(bill[row]))
        call_groups = _by_key(calls, kept.times.__getitem__, lambda call: self._key_of_call(kept[call]))
        for some_rows, some_calls in _with_same_key(row_groups, call_groups):
            row_times, call_times = (
                [bill.times[each] for each in some_rows],
                [kept.times[each] for each in some_calls],
            )
            for row, call in pairs_by_time(row_times, call_times, tolerance_seconds):
                self._is_call_paired[some_calls[call]] = True
                self._pair(some_rows[row], kept[some_calls[call]])

    def _key(self, row: BilledCall) -> int:
        return self._key_of(row.model, row.prompt_tokens, row.completion_tokens or 0)

    def _key_of_call(self, call: BookedCall) -> int:
        prompt, completion = call.prompt_tokens, call.completion_tokens
        if not self._bill.splits_tokens:
            prompt, completion = prompt + completion, 0
        return self._key_of(call.model, prompt, completion)

    def _key_of(self, model: str, prompt: int, completion: int) -> int:
        """Return one integer for a model and its tokens: it takes less memory than a tuple."""
        number = self._numbers.setdefault(model, len(self._numbers))
        return (number << TOKEN_BITS | prompt) << TOKEN_BITS | completion


def _by_key(
    positions: Sequence[int], time_of: Callable[[int], float], key_of: Callable[[int], int]
) -> Iterator[tuple[int, list[int]]]:
    """Yield the positions of each key in the order of their times, the smallest key first."""
    in_order = sorted(sorted(positions, key=time_of), key=key_of)
    for key, group in groupby(in_order, key_of):
        yield key, list(group)


def _with_same_key(
    some: Iterator[tuple[int, list[int]]], others: Iterator[tuple[int, list[int]]]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the groups of the keys that are in both. Both are in the order of their keys."""
    other_key, other_group = next(others, (None, []))
    for key, group in some:
        while other_key is not None and other_key < key:
            other_key, other_group = next(others, (None, []))
        if other_key == key:
            yield group, other_group
