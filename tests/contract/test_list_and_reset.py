"""Reading runs, and resetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Kind, Run, RunQuery, RunState, RunUsage, SortKey
from tests.contract.stores import BUDGET_NANOUSD
from tests.support.table import check_rows

if TYPE_CHECKING:
    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import LedgerSteps


def ids(ledger: Ledger, query: RunQuery) -> list[str]:
    page = ledger.list(query)
    assert page.total >= len(page.runs)
    return [usage.run_id for usage in page.runs]


# --- usage, count and ping


def test_an_empty_ledger_answers_and_knows_no_run(ledger: Ledger) -> None:
    ledger.ping()
    assert ledger.reset("run") is None
    assert ledger.usage("run") is None
    assert ledger.count() == 0
    page = ledger.list(RunQuery())
    assert (page.runs, page.total) == ([], 0)


def test_every_known_run_counts_once(steps: LedgerSteps) -> None:
    for run in ("one", "two", "three", "one"):
        steps.spend(1, run)
    steps.reserve(1, run="held")
    assert steps.ledger.count() == 4
    steps.clock.advance(10_000)
    steps.sweep()
    assert steps.ledger.count() == steps.ledger.list(RunQuery()).total


def test_usage_has_the_idle_time_of_a_known_run_and_is_none_for_others(steps: LedgerSteps) -> None:
    steps.spend(1)
    assert steps.ledger.usage("Run") is None
    steps.clock.advance(12.5)
    assert steps.usage().idle_seconds == 12.5


# --- list


def test_every_row_of_a_list_is_the_usage_of_its_run(steps: LedgerSteps) -> None:
    steps.spend(100, run="a", kind=Kind.EMBEDDING)
    steps.clock.advance(5)
    steps.spend(50, run="b")
    steps.reserve(30, run="b")
    steps.clock.advance(5)
    page = steps.ledger.list(RunQuery())
    assert page.runs == [steps.usage("a"), steps.usage("b")]
    assert page.total == 2


SEARCHES: list[tuple[str, set[str]]] = [
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
]


def test_a_search_finds_a_part_of_the_id_with_its_case_and_without_wildcards(steps: LedgerSteps) -> None:
    for run_id in SEARCHES[0][1]:
        steps.spend(1, run=run_id)

    def check(row: tuple[str, set[str]]) -> None:
        search, found = row
        page = steps.ledger.list(RunQuery(search=search))
        assert {usage.run_id for usage in page.runs} == found
        assert page.total == len(found)

    check_rows(SEARCHES, check)


def test_runs_are_filtered_by_what_they_spent_and_by_their_calls_in_flight(steps: LedgerSteps) -> None:
    steps.spend(4, run="nine")
    steps.spend(5, run="nine", kind=Kind.EMBEDDING)
    steps.spend(10, run="ten")
    steps.reserve(900, run="held")
    steps.reserve(0, run="held-0")

    def check(row: tuple[RunQuery, list[str]]) -> None:
        query, expected = row
        assert ids(steps.ledger, query) == expected

    rows = [
        (RunQuery(min_spent_nanousd=10), ["ten"]),
        (RunQuery(min_spent_nanousd=9), ["ten", "nine"]),
        (RunQuery(in_flight=True), ["held", "held-0"]),
        (RunQuery(in_flight=False), ["ten", "nine"]),
        (RunQuery(), ["ten", "nine", "held", "held-0"]),
    ]
    check_rows(rows, check)


def states_in(ledger: Ledger, **filters: Any) -> dict[RunState, set[str]]:  # noqa: ANN401 - fields of a query
    """The ids of the runs in each state, which must be those that the page counts."""
    found = {state: ledger.list(RunQuery(state=state, **filters)) for state in RunState}
    counts = ledger.list(RunQuery(**filters)).counts
    for state, page in found.items():
        assert page.counts == counts
        assert page.total == counts[state] == len(page.runs)
    assert counts[None] == ledger.list(RunQuery(**filters)).total
    return {state: {usage.run_id for usage in page.runs} for state, page in found.items()}


def test_runs_are_filtered_and_counted_by_their_state(steps: LedgerSteps) -> None:
    """All have a budget of 101. Those with `own` in their name have it from a run token."""
    spent = {
        "none": 0,
        "80": 80,
        "81": 81,
        "100": 100,
        "own-80": 80,
        "own-81": 81,
        "spent": 101,
        "own-101": 101,
    }
    runs = {run_id: Run(run_id, 101, own_budget=run_id.startswith("own")) for run_id in spent}
    runs |= {run_id: Run(run_id, 101) for run_id in ("refused", "closed", "closed-spent")}
    for run_id, run in runs.items():
        cost = {**spent, "refused": 81, "closed-spent": 101}.get(run_id, 0)
        steps.ledger.settle(steps.ledger.reserve(run, Kind.INFERENCE, cost, cost, 60.0), cost)
    for run_id in ("none", "81", "own-101", "closed"):
        steps.ledger.reserve(runs[run_id], Kind.INFERENCE, 0, 0, 60.0)
    with pytest.raises(BudgetExhaustedError):
        steps.ledger.reserve(runs["refused"], Kind.INFERENCE, 21, 21, 60.0)
    steps.ledger.close(runs["closed"])
    steps.ledger.close(runs["closed-spent"])

    def check(row: tuple[int | None, set[str]]) -> None:
        present_nanousd, near = row
        assert states_in(steps.ledger, present_budget_nanousd=present_nanousd) == {
            RunState.IN_FLIGHT: {"none", "81", "own-101", "closed"},
            RunState.NEAR: near,
            RunState.EXHAUSTED: {"spent", "own-101", "refused"},
            RunState.CLOSED: {"closed", "closed-spent"},
        }

    check_rows(
        [
            (None, {"81", "100", "own-81"}),
            (101, {"81", "100", "own-81"}),
            (100, {"80", "81", "100", "own-81"}),
            (125, {"100", "own-81"}),
            (126, {"own-81"}),
            (2**60, {"own-81"}),
            (0, {"none", "80", "81", "100", "own-81"}),
        ],
        check,
    )


def test_the_counts_of_the_states_are_of_the_runs_that_match_the_other_filters(steps: LedgerSteps) -> None:
    for run_id in ("a-used", "a-open", "b-used"):
        steps.spend(BUDGET_NANOUSD if run_id.endswith("used") else 5, run=run_id)
    steps.reserve(1, run="a-open")
    none = {state: set[str]() for state in RunState}

    def check(row: tuple[dict[str, Any], dict[RunState, set[str]]]) -> None:
        filters, expected = row
        assert states_in(steps.ledger, **filters) == none | expected

    check_rows(
        [
            ({"search": "a"}, {RunState.EXHAUSTED: {"a-used"}, RunState.IN_FLIGHT: {"a-open"}}),
            ({"search": "used"}, {RunState.EXHAUSTED: {"a-used", "b-used"}}),
            ({"min_spent_nanousd": 6}, {RunState.EXHAUSTED: {"a-used", "b-used"}}),
            ({"in_flight": True}, {RunState.IN_FLIGHT: {"a-open"}}),
            ({"search": "none"}, {}),
        ],
        check,
    )
    page = steps.ledger.list(RunQuery(state=RunState.EXHAUSTED, offset=1, limit=1))
    assert ([usage.run_id for usage in page.runs], page.total) == (["b-used"], 2)


def test_a_run_must_match_all_filters(steps: LedgerSteps) -> None:
    steps.spend(10, run="a1")
    steps.spend(10, run="b1")
    steps.spend(9, run="a2")
    steps.spend(10, run="a3")
    steps.reserve(1, run="a3")
    query = RunQuery(search="a", min_spent_nanousd=10, in_flight=False)
    assert ids(steps.ledger, query) == ["a1"]


ORDERS: list[tuple[SortKey, list[str]]] = [
    (SortKey.SPENT, ["c", "B", "a", "d"]),
    (SortKey.HELD, ["d", "B", "a", "c"]),
    (SortKey.CALLS, ["B", "a", "c", "d"]),
    (SortKey.IDLE, ["d", "c", "B", "a"]),
    (SortKey.RUN_ID, ["B", "a", "c", "d"]),
]


def test_a_list_is_sorted_by_its_key_and_then_by_id(steps: LedgerSteps) -> None:
    """Amounts and calls largest first, the others smallest first; ids by code point."""
    assert {sort for sort, _ in ORDERS} == set(SortKey)
    for run_id, costs, hold in (("a", [2, 3], 10), ("B", [4, 1], 10), ("c", [9], 0), ("d", [], 11)):
        for cost in costs:
            steps.spend(cost, run=run_id)
        if hold:
            steps.reserve(hold, run=run_id)
        steps.clock.advance(1)

    def check(row: tuple[SortKey, list[str]]) -> None:
        sort, order = row
        assert ids(steps.ledger, RunQuery(sort=sort)) == order

    check_rows(ORDERS, check)


def test_the_pages_of_a_list_contain_every_match_once(steps: LedgerSteps) -> None:
    for index in range(23):
        steps.spend(index % 3, run=f"run-{index:02}")
    steps.spend(1, run="other")

    def check(sort: SortKey) -> None:
        pages = [
            steps.ledger.list(RunQuery(search="run-", sort=sort, offset=offset, limit=5))
            for offset in range(0, 30, 5)
        ]
        assert [len(page.runs) for page in pages] == [5, 5, 5, 5, 3, 0]
        assert {page.total for page in pages} == {23}
        listed = [usage.run_id for page in pages for usage in page.runs]
        assert listed == ids(steps.ledger, RunQuery(search="run-", sort=sort))
        assert len(set(listed)) == 23

    check_rows(SortKey, check)


def test_a_page_is_selected_from_all_of_many_runs(steps: LedgerSteps) -> None:
    """More runs than three times a slice of `MemoryLedger.list`."""
    count = 800
    for index in range(count):
        steps.reserve(index * 7 % count, run=f"run-{index:04}", budget=count)
    page = steps.ledger.list(RunQuery(sort=SortKey.HELD, offset=1, limit=3))
    assert page.total == count
    assert [usage.held_nanousd for usage in page.runs] == [count - 2, count - 3, count - 4]


# --- reset


def test_a_reset_sets_spent_and_calls_to_0_and_returns_the_usage_before(steps: LedgerSteps) -> None:
    steps.spend(100)
    steps.spend(20, kind=Kind.EMBEDDING)
    steps.clock.advance(5)
    assert steps.ledger.reset("run") == RunUsage(
        "run", BUDGET_NANOUSD, inference_nanousd=100, embedding_nanousd=20, calls=2, idle_seconds=5
    )
    assert steps.usage() == RunUsage("run", BUDGET_NANOUSD)
    assert steps.reserve(BUDGET_NANOUSD).amount_nanousd == BUDGET_NANOUSD


def test_holds_stay_open_after_a_reset_and_resolve_as_usual(steps: LedgerSteps) -> None:
    steps.spend(100)
    settled, released = steps.reserve(200), steps.reserve(300)
    steps.ledger.reset("run")
    assert steps.usage() == RunUsage("run", BUDGET_NANOUSD, held_nanousd=500, in_flight=2)
    assert steps.ledger.settle(settled, 150)
    assert steps.ledger.release(released) == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=150, calls=1)
