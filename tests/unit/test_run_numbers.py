"""A run knows its own numbers and those of several runs. It never sees that one other run kept a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.billing.run_numbers import SHARING_RUNS, RunNumbers
from ridges_proxy.runtime.shared_table import Record, SharedTable
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"k" * 16


class CountingTable(SharedTable):
    """A table that knows the keys that were written."""

    def __init__(self) -> None:
        super().__init__(None, 1 << 16)
        self.written: set[bytes] = set()

    def update(self, key: bytes, change: Callable[[Record | None], Record]) -> None:
        self.written.add(key)
        super().update(key, change)


def kept(*numbers: tuple[str, int]) -> Callable[[str], int | None]:
    """Keep the largest numbers of runs, in this order. Returns what each run then knows."""
    table = SharedTable(None, 1 << 16)

    def run(name: str) -> RunNumbers:
        return RunNumbers(table, name.encode().ljust(8))

    for name, number in numbers:
        run(name).keep(KEY, number, max)
    return lambda name: run(name).get(KEY)


def test_a_run_knows_its_own_best_number_until_enough_runs_have_kept_one() -> None:
    rows: list[tuple[list[tuple[str, int]], dict[str, int | None]]] = [
        ([("a", 5)], {"a": 5, "b": None}),
        ([("a", 5), ("a", 9), ("a", 3)], {"a": 9, "b": None}),
        ([("a", 5), ("b", 9)], {"a": 5, "b": 9, "c": None}),
        ([("a", 9), ("b", 5)], {"a": 9, "b": 5}),
        ([("a", 5), ("b", 9), ("b", 9)], {"a": 5, "b": 9}),
        ([("a", 9), ("b", 1), ("a", 5)], {"a": 9, "b": 1}),
        ([("a", 5), ("b", 9), ("c", 7)], dict.fromkeys("abcd", 9)),
        ([("a", 5), ("b", 9), ("c", 7), ("d", 1), ("e", 10)], dict.fromkeys("abcdef", 10)),
    ]

    def check(row: tuple[list[tuple[str, int]], dict[str, int | None]]) -> None:
        numbers, known = row
        knows = kept(*numbers)
        assert {name: knows(name) for name in known} == known

    check_rows(rows, check)


def test_a_number_takes_more_entries_only_while_some_but_not_enough_runs_know_it() -> None:
    table = CountingTable()
    written = []
    for number in range(SHARING_RUNS + 1):
        RunNumbers(table, bytes([number]) * 8).keep(KEY, 1, max)
        written.append(len(table.written))

    assert written == [1, 3, 3, 3]
