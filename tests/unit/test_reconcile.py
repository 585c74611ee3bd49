"""The comparison of a bill with the calls in the books: who belongs to whom, and the sums."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.bill_file import read_bill
from ridges_proxy.ledger.models import BookedCall, Kind
from ridges_proxy.ledger.reconcile import Span, reconcile
from ridges_proxy.ledger.time_pairs import pairs_by_time
from tests.support.booked_calls import Books, booked, seconds
from tests.support.table import check_rows

if TYPE_CHECKING:
    from ridges_proxy.ledger.reconciliation import Reconciliation, Tally

USD = "0.000001"
"""1,000 nano-USD, as the calls of the tests cost."""

ALL = Span()


def compared(
    rows: str, calls: list[BookedCall], span: Span = ALL, *, tolerance: float = 60.0
) -> Reconciliation:
    """Compare rows of id, time, model, tokens of prompt and completion, and amount."""
    header = "id,time,model,prompt_tokens,completion_tokens,amount\n"
    bill = read_bill(io.StringIO(header + rows))
    return reconcile(bill, Books(calls), span=span, tolerance_seconds=tolerance, listed=100)


def row(at: str = "", row_id: str = "", model: str = "m", tokens: str = "10,5", amount: str = USD) -> str:
    time = f"2026-11-30T{at}Z" if at else ""
    return f"{row_id},{time},{model},{tokens},{amount}\n"


def counts(tally: Tally) -> tuple[int, int, int, int]:
    return tally.matched, tally.differing, tally.missing_in_books, tally.missing_in_bill


def test_calls_are_matched_by_either_id_whatever_the_time() -> None:
    calls = [booked("10:00:00", answer_id="a", invocation_id="x"), booked("11:00:00", invocation_id="y")]
    result = compared(row("20:00:00", "y") + row("", "a"), calls)
    assert counts(result.total) == (2, 0, 0, 0)
    assert (result.total.billed_usd, result.total.booked_nanousd) == (Decimal("0.000002"), 2_000)


def test_a_call_is_differing_if_its_amount_or_its_tokens_are_not_those_of_the_bill() -> None:
    cases: list[tuple[str, BookedCall, tuple[bool, bool] | None]] = [
        (row(row_id="a"), booked("10:00:00"), None),
        (row(row_id="a", amount="0.0000010001"), booked("10:00:00", cost_nanousd=1_001), None),
        (row(row_id="a", amount="1.0000000000000001e-06"), booked("10:00:00"), None),
        (row(row_id="a", amount="0.000001002"), booked("10:00:00"), (True, False)),
        (row(row_id="a", amount="0"), booked("10:00:00", cost_nanousd=2), (True, False)),
        (row(row_id="a", tokens="11,5"), booked("10:00:00"), (False, True)),
        (row(row_id="a", tokens="5,10"), booked("10:00:00"), (False, True)),
        (row(row_id="a", tokens="0,0", amount="1"), booked("10:00:00"), (True, True)),
        (row(row_id="a", tokens="7,0"), booked("10:00:00", kind=Kind.EMBEDDING), None),
    ]

    def check(case: tuple[str, BookedCall, tuple[bool, bool] | None]) -> None:
        text, call, expected = case
        result = compared(text, [replace(call, answer_id="a")])
        assert counts(result.total) == ((1, 0, 0, 0) if expected is None else (0, 1, 0, 0))
        assert [(each.amount, each.tokens) for each in result.differing] == ([expected] if expected else [])

    check_rows(cases, check)


def test_a_bill_without_ids_is_matched_by_model_tokens_and_the_nearest_time_one_to_one() -> None:
    calls = [
        booked("10:00:00", run_id="near"),
        booked("10:00:50", run_id="far"),
        booked("10:00:00", model="other", answer_id="has an id"),
        booked("10:00:00", completion_tokens=6, run_id="longer"),
        booked("12:00:00", run_id="late"),
    ]
    rows = row("10:00:10") + row("10:00:00", model="other") + row("12:01:01")
    result = compared(rows, calls)
    assert counts(result.total) == (2, 0, 1, 3)
    assert {call.run_id for call in result.missing_in_bill} == {"far", "longer", "late"}
    assert [each.line for each in result.missing_in_books] == [4]
    assert result.models.keys() == {"m", "other"}
    assert counts(result.models["other"]) == (1, 0, 0, 0)
    assert counts(compared(rows, calls, tolerance=61.0).total) == (3, 0, 0, 2)


def test_calls_of_other_models_or_tokens_are_never_paired_by_time() -> None:
    others: list[dict[str, Any]] = [{"model": "n"}, {"prompt_tokens": 11}, {"completion_tokens": 4}]

    def check(other: dict[str, Any]) -> None:
        assert counts(compared(row("10:00:00"), [booked("10:00:00", **other)]).total) == (0, 0, 1, 1)

    check_rows(others, check)


def test_neither_the_bill_nor_the_books_need_be_in_the_order_of_time() -> None:
    rows = row("10:00:20") + row("10:00:00") + row("10:00:10")
    calls = [booked("10:00:10"), booked("10:00:20"), booked("10:00:00")]
    assert counts(compared(rows, calls, tolerance=1.0).total) == (3, 0, 0, 0)


def test_the_sums_have_every_call_and_the_lists_the_first_ones() -> None:
    rows = "".join(row(row_id=each, amount="0.000009") for each in ("a", "b", "p", "q"))
    costs = {"a": 1_000, "b": 3_000, "x": 5_000, "y": 7_000}
    calls = [
        booked(
            "10:00:00", answer_id=each, invocation_id=f"call {each}", kind=Kind.EMBEDDING, cost_nanousd=cost
        )
        for each, cost in costs.items()
    ]
    bill = read_bill(io.StringIO("id,time,model,prompt_tokens,completion_tokens,amount\n" + rows))
    result = reconcile(bill, Books(calls), span=ALL, tolerance_seconds=60.0, listed=1)
    for tally in (result.total, result.models["m"]):
        assert counts(tally) == (0, 2, 2, 2)
        assert (tally.booked_nanousd, tally.missing_in_bill_nanousd) == (16_000, 12_000)
        assert (tally.billed_usd, tally.missing_in_books_usd) == (Decimal("0.000036"), Decimal("0.000018"))
    assert result.matched_by_id == 2
    assert [(each.billed.id, each.booked.answer_id) for each in result.differing] == [("a", "a")]
    assert [each.id for each in result.missing_in_books] == ["p"]
    assert result.missing_in_bill == [replace(calls[2], hold_id="")]


def test_a_bill_with_the_sum_of_the_tokens_is_matched_by_it() -> None:
    text = f"time,model,tokens,amount\n2026-11-30T10:00:00Z,m,15,{USD}\n2026-11-30T10:00:00Z,m,16,{USD}\n"
    books = Books([booked("10:00:00"), booked("10:00:01", prompt_tokens=11)])
    bill = read_bill(io.StringIO(text))
    assert counts(reconcile(bill, books, span=ALL, tolerance_seconds=60, listed=9).total) == (2, 0, 0, 0)


def test_two_ids_that_differ_are_never_paired_by_time_but_one_without_an_id_may_be() -> None:
    with_id, without = booked("10:00:00", answer_id="a"), booked("10:00:00")
    cases = [
        (row("10:00:00", "b"), [with_id], (0, 0, 1, 1)),
        (row("10:00:00", "b"), [without], (1, 0, 0, 0)),
        (row("10:00:00"), [with_id], (1, 0, 0, 0)),
        (row("", "b"), [without], (0, 0, 1, 1)),
    ]

    def check(case: tuple[str, list[BookedCall], tuple[int, ...]]) -> None:
        rows, calls, expected = case
        assert counts(compared(rows, calls).total) == expected

    check_rows(cases, check)


def test_a_row_that_is_billed_twice_is_missing_in_the_books_once() -> None:
    result = compared(
        row("10:00:00", "a") * 3, [booked("10:00:00", answer_id="a"), booked("10:00:00", answer_id="a")]
    )
    assert counts(result.total) == (2, 0, 1, 0)
    assert [each.line for each in result.missing_in_books] == [4]
    assert result.total.missing_in_books_usd == Decimal(USD)


def test_a_constant_delay_pairs_all_calls_in_their_order() -> None:
    """The nearest first would leave the first row and the last call alone."""
    rows = row("10:00:00", amount="0.1") + row("10:00:10", amount="0.2") + row("10:00:20", amount="0.3")
    costs = {"10:00:09": 1, "10:00:19": 2, "10:00:29": 3}
    calls = [booked(at, cost_nanousd=cost * 100_000_000) for at, cost in costs.items()]
    assert counts(compared(rows, calls, tolerance=9.5).total) == (3, 0, 0, 0)


def test_what_is_before_since_is_paired_but_not_counted() -> None:
    rows = row("09:00:00") + row("09:59:30", "early") + row("09:59:59", "a") + row("10:00:05")
    calls = [booked("09:00:00"), booked("09:59:45"), booked("10:00:30", answer_id="a"), booked("10:00:10")]
    later = Span(since=seconds("10:00:00"))
    assert counts(compared(rows, calls, later).total) == (2, 0, 0, 0)
    for early, late in (("09:59:50", "10:00:05"), ("10:00:05", "09:59:50")):
        assert counts(compared(row(early), [booked(late)], later).total) == (1, 0, 0, 0)


def test_what_is_from_until_on_is_paired_but_not_counted() -> None:
    rows = (
        row("09:59:55") + row("10:00:05", "a") + row("10:00:30", "b") + row("11:00:00", "c") + row(row_id="d")
    )
    calls = [booked("09:59:58"), booked("09:59:59", answer_id="a"), booked("10:00:29", answer_id="b")]
    calls += [booked("10:00:00", answer_id="e"), booked("11:30:00", answer_id="f")]
    earlier = Span(until=seconds("10:00:00"))
    assert counts(compared(rows, calls, earlier).total) == (2, 0, 1, 0), "d has no time"
    assert counts(compared(rows, calls, Span(seconds("10:00:00"))).total) == (2, 0, 2, 2), "a counts for both"


def test_the_sum_of_a_bill_is_exact() -> None:
    result = compared(row(row_id="a", amount="1000000") + row(row_id="b", amount="1e-25") * 3, [])
    assert result.total.billed_usd == Decimal("1000000.0000000000000000000000003")


def test_the_nearest_times_are_paired_first_if_one_side_has_more() -> None:
    """Then the nearest of those that are left, also if others were between them."""

    def check(row: tuple[list[int], list[int], set[tuple[int, int]]]) -> None:
        left, right, expected = row
        assert set(pairs_by_time(left, right, 20)) == expected
        assert set(pairs_by_time(right, left, 20)) == {(other, one) for one, other in expected}

    rows: list[tuple[list[int], list[int], set[tuple[int, int]]]] = [
        ([0, 5], [4], {(1, 0)}),
        ([0, 3], [1], {(0, 0)}),
        ([0, 10, 30], [9, 12], {(1, 0), (0, 1)}),
        ([0, 10, 21], [9, 13, 30, 50], {(1, 0), (2, 1)}),
        ([0, 21], [20], {(1, 0)}),
        ([0, 1, 2], [22], {(2, 0)}),
        ([0, 1, 2], [23], set()),
    ]
    check_rows(rows, check)


@given(
    st.lists(st.integers(0, 60), max_size=12).map(sorted),
    st.lists(st.integers(0, 60), max_size=12).map(sorted),
    st.integers(0, 9),
)
def test_pairs_are_one_to_one_within_the_tolerance_and_leave_no_pair_over(
    left: list[int], right: list[int], tolerance: int
) -> None:
    pairs = list(pairs_by_time(left, right, tolerance))
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)
    assert all(abs(left[one] - right[other]) <= tolerance for one, other in pairs)
    free = [left[each] for each in range(len(left)) if each not in {one for one, _ in pairs}]
    others = [right[each] for each in range(len(right)) if each not in {other for _, other in pairs}]
    assert not [(one, other) for one in free for other in others if abs(one - other) <= tolerance]
