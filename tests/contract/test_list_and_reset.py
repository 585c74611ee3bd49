from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.ledger import Kind, RunQuery, RunUsage, SortKey
from tests.contract.stores import CAP_NANOUSD

if TYPE_CHECKING:
    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import Till
    from tests.support.clock import Clock


def ids(ledger: Ledger, query: RunQuery) -> list[str]:
    page = ledger.list(query)
    assert page.total >= len(page.runs)
    return [books.run_id for books in page.runs]


# --- usage, count and ping


def test_every_run_that_is_known_counts_once(till: Till, clock: Clock) -> None:
    assert till.ledger.count() == 0
    for run in ("one", "two", "three", "one"):
        till.spend(1, run)
    till.reserve(1, run="held")
    assert till.ledger.count() == 4
    clock.advance(10_000)
    till.sweep()
    assert till.ledger.count() == till.ledger.list(RunQuery()).total


def test_the_usage_of_an_unknown_run_is_none(till: Till) -> None:
    till.spend(1)
    assert till.ledger.usage("Run") is None


def test_usage_tells_how_long_the_run_has_been_idle(till: Till, clock: Clock) -> None:
    till.spend(1)
    clock.advance(12.5)
    books = till.ledger.usage("run")
    assert books
    assert books.idle_seconds == 12.5


def test_a_ledger_that_answers_can_be_pinged(ledger: Ledger) -> None:
    ledger.ping()


# --- list


def test_a_list_of_nothing_is_empty(ledger: Ledger) -> None:
    page = ledger.list(RunQuery())
    assert (page.runs, page.total) == ([], 0)


def test_every_row_of_a_list_is_the_runs_usage(till: Till, clock: Clock) -> None:
    till.spend(100, run="a", kind=Kind.EMBEDDING)
    clock.advance(5)
    till.spend(50, run="b")
    till.reserve(30, run="b")
    clock.advance(5)
    page = till.ledger.list(RunQuery())
    assert page.runs == [till.ledger.usage("a"), till.ledger.usage("b")]
    assert page.total == 2


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", {"alpha", "Alpha", "al%ha", "al_ha", "al*ha", "al\\ha", "Älpha"}),
        ("alpha", {"alpha"}),
        ("lpha", {"alpha", "Alpha", "Älpha"}),
        ("A", {"Alpha"}),
        ("%", {"al%ha"}),
        ("_", {"al_ha"}),
        ("*", {"al*ha"}),
        ("\\", {"al\\ha"}),
        ("Ä", {"Älpha"}),
        ("ä", set()),
        ("alpha ", set()),
    ],
)
def test_a_search_finds_part_of_the_id_letter_for_letter(till: Till, search: str, found: set[str]) -> None:
    for run_id in ("alpha", "Alpha", "al%ha", "al_ha", "al*ha", "al\\ha", "Älpha"):
        till.spend(1, run=run_id)
    page = till.ledger.list(RunQuery(search=search))
    assert {books.run_id for books in page.runs} == found
    assert page.total == len(found)


def test_the_least_spend_is_that_of_both_kinds_and_includes_its_bound(till: Till) -> None:
    till.spend(4, run="nine")
    till.spend(5, run="nine", kind=Kind.EMBEDDING)
    till.spend(10, run="ten")
    till.reserve(900, run="held")
    assert ids(till.ledger, RunQuery(min_spent_nanousd=10)) == ["ten"]
    assert ids(till.ledger, RunQuery(min_spent_nanousd=9)) == ["ten", "nine"]


def test_runs_can_be_chosen_by_whether_calls_are_in_flight(till: Till) -> None:
    till.spend(1, run="idle")
    till.reserve(0, run="busy")
    assert ids(till.ledger, RunQuery(in_flight=True)) == ["busy"]
    assert ids(till.ledger, RunQuery(in_flight=False)) == ["idle"]
    assert set(ids(till.ledger, RunQuery())) == {"idle", "busy"}


def test_filters_narrow_together(till: Till) -> None:
    till.spend(10, run="a1")
    till.spend(10, run="b1")
    till.spend(9, run="a2")
    till.spend(10, run="a3")
    till.reserve(1, run="a3")
    query = RunQuery(search="a", min_spent_nanousd=10, in_flight=False)
    assert ids(till.ledger, query) == ["a1"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (SortKey.SPENT, ["c", "B", "a", "d"]),
        (SortKey.HELD, ["d", "B", "a", "c"]),
        (SortKey.CALLS, ["B", "a", "c", "d"]),
        (SortKey.IDLE, ["d", "c", "B", "a"]),
        (SortKey.RUN_ID, ["B", "a", "c", "d"]),
    ],
)
def test_a_list_is_sorted_by_its_key_and_equals_by_id(
    till: Till, clock: Clock, sort: SortKey, order: list[str]
) -> None:
    """Amounts and calls largest first, the rest smallest first; ids by code point."""
    for run_id, costs, hold in (("a", [2, 3], 10), ("B", [4, 1], 10), ("c", [9], 0), ("d", [], 11)):
        for cost in costs:
            till.spend(cost, run=run_id)
        if hold:
            till.reserve(hold, run=run_id)
        clock.advance(1)
    assert ids(till.ledger, RunQuery(sort=sort)) == order


@pytest.mark.parametrize("sort", list(SortKey))
def test_the_pages_of_a_list_show_every_match_once(till: Till, sort: SortKey) -> None:
    for index in range(23):
        till.spend(index % 3, run=f"run-{index:02}")
    till.spend(1, run="other")
    pages = [
        till.ledger.list(RunQuery(search="run-", sort=sort, offset=offset, limit=5))
        for offset in range(0, 30, 5)
    ]
    assert [len(page.runs) for page in pages] == [5, 5, 5, 5, 3, 0]
    assert {page.total for page in pages} == {23}
    shown = [books.run_id for page in pages for books in page.runs]
    assert shown == ids(till.ledger, RunQuery(search="run-", sort=sort))
    assert len(set(shown)) == 23


def test_a_page_of_many_runs_is_chosen_from_all_of_them(till: Till) -> None:
    for index in range(2_500):
        till.reserve(index * 7 % 2_500, run=f"run-{index:04}", cap=2_500)
    page = till.ledger.list(RunQuery(sort=SortKey.HELD, offset=1, limit=3))
    assert page.total == 2_500
    assert [books.held_nanousd for books in page.runs] == [2_498, 2_497, 2_496]


# --- reset


def test_a_reset_empties_the_books_and_returns_those_before_it(till: Till, clock: Clock) -> None:
    till.spend(100)
    till.spend(20, kind=Kind.EMBEDDING)
    clock.advance(5)
    assert till.ledger.reset("run") == RunUsage(
        "run", CAP_NANOUSD, inference_nanousd=100, embedding_nanousd=20, calls=2, idle_seconds=5
    )
    assert till.ledger.usage("run") == RunUsage("run", CAP_NANOUSD)
    assert till.reserve(CAP_NANOUSD).amount_nanousd == CAP_NANOUSD


def test_a_reset_keeps_holds_and_they_resolve_as_ever(till: Till) -> None:
    till.spend(100)
    settled, released = till.reserve(200), till.reserve(300)
    till.ledger.reset("run")
    assert till.ledger.usage("run") == RunUsage("run", CAP_NANOUSD, held_nanousd=500, in_flight=2)
    assert till.ledger.settle(settled, 150)
    assert till.ledger.release(released) == RunUsage("run", CAP_NANOUSD, inference_nanousd=150, calls=1)


def test_a_reset_of_an_unknown_run_is_none_and_makes_none_known(ledger: Ledger) -> None:
    assert ledger.reset("run") is None
    assert ledger.usage("run") is None
    assert ledger.list(RunQuery()).total == 0
