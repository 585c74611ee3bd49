"""The result of `ridges-proxy ledger reconcile` as text and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.cli.amounts import exact_usd_of
from ridges_proxy.cli.terminal import plain
from ridges_proxy.cli.terminal_table import TerminalTable, name_column, number_column
from ridges_proxy.ledger.reconciliation import EXACT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from ridges_proxy.billing.bill_file import BilledCall
    from ridges_proxy.ledger.models import BookedCall
    from ridges_proxy.ledger.reconciliation import Difference, Reconciliation, Tally

CENTS = Decimal("0.01")


def result_json(result: Reconciliation) -> dict[str, Any]:
    """Return the result as JSON. Amounts are exact decimals, as texts."""
    return {
        "total": _tally_json(result.total),
        "models": {model: _tally_json(tally) for model, tally in sorted(result.models.items())},
        "differing": [_difference_json(each) for each in result.differing],
        "missing_in_books": [_billed_json(each) for each in result.missing_in_books],
        "missing_in_bill": [_booked_json(each) for each in result.missing_in_bill],
    }


def show_result(result: Reconciliation, console: Console) -> None:
    """Print the numbers and sums by model, and the lists of what differs."""
    counted = ("matched", "differing", "missing in\nthe books", "missing in\nthe bill")
    table = TerminalTable(
        name_column("model"),
        *map(number_column, (*counted, "billed", "booked")),
        drop=("matched", "missing in the books", "missing in the bill", "differing", "booked"),
    )
    for model, tally in [*sorted(result.models.items()), ("total", result.total)]:
        counts = tally.matched, tally.differing, tally.missing_in_books, tally.missing_in_bill
        sums = _usd(tally.billed_usd), exact_usd_of(tally.booked_nanousd)
        table.add_row(model, *(f"{each:,}" for each in counts), *sums)
    console.print(table)
    total = result.total
    _list("differing", map(_difference_line, result.differing), total.differing, console)
    in_books = map(_billed_line, result.missing_in_books)
    books_usd = _usd(total.missing_in_books_usd)
    _list(f"missing in the books ({books_usd})", in_books, total.missing_in_books, console)
    in_bill = map(_booked_line, result.missing_in_bill)
    bill_usd = exact_usd_of(total.missing_in_bill_nanousd)
    _list(f"missing in the bill ({bill_usd})", in_bill, total.missing_in_bill, console)


def _list(title: str, found: Iterable[str], number: int, console: Console) -> None:
    if not number:
        return
    click.echo(f"\n{title}:")
    lines = list(found)
    for line in lines:
        console.print(plain(f"  {line}"))
    if number > len(lines):
        click.echo(f"  and {number - len(lines):,} more (--list)")


def _difference_line(difference: Difference) -> str:
    billed, booked = difference.billed, difference.booked
    parts = [f"line {billed.line:,}", f"run {booked.run_id}", booked.model, _id_of(booked) or billed.id]
    if difference.amount:
        parts.append(f"billed {_usd(billed.amount_usd)}, booked {exact_usd_of(booked.cost_nanousd)}")
    if difference.tokens:
        parts.append(f"tokens billed {_tokens(billed)}, booked {_tokens(booked)}")
    return ", ".join(filter(None, parts))


def _billed_line(billed: BilledCall) -> str:
    at = "" if billed.at is None else _time(billed.at)
    parts = [f"line {billed.line:,}", at, billed.model, billed.id, f"tokens {_tokens(billed)}"]
    return ", ".join(filter(None, [*parts, _usd(billed.amount_usd)]))


def _booked_line(booked: BookedCall) -> str:
    parts = [_time(booked.settled_at), f"run {booked.run_id}", booked.model, _id_of(booked)]
    return ", ".join(filter(None, [*parts, f"tokens {_tokens(booked)}", exact_usd_of(booked.cost_nanousd)]))


def _tokens(call: BilledCall | BookedCall) -> str:
    completion = "" if call.completion_tokens is None else f" + {call.completion_tokens:,}"
    return f"{call.prompt_tokens:,}{completion}"


def _id_of(booked: BookedCall) -> str:
    return booked.answer_id or booked.invocation_id


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _usd(amount: Decimal) -> str:
    """Format an amount exactly, with at least two decimals."""
    return f"${_decimal(amount)}"


def _decimal(amount: Decimal) -> str:
    plain_amount = amount.normalize(EXACT)
    exponent = int(plain_amount.as_tuple().exponent)
    return f"{plain_amount if exponent <= -2 else plain_amount.quantize(CENTS, context=EXACT):,f}"  # noqa: PLR2004 - cents


def _exact_usd(amount_nanousd: int) -> str:
    return str(
        EXACT.divide(Decimal(amount_nanousd), Decimal(NANOUSD_PER_USD)).quantize(
            Decimal("1e-9"), context=EXACT
        )
    )


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "matched": tally.matched,
        "differing": tally.differing,
        "missing_in_books": tally.missing_in_books,
        "missing_in_bill": tally.missing_in_bill,
        "billed_usd": f"{tally.billed_usd:f}",
        "booked_usd": _exact_usd(tally.booked_nanousd),
        "missing_in_books_usd": f"{tally.missing_in_books_usd:f}",
        "missing_in_bill_usd": _exact_usd(tally.missing_in_bill_nanousd),
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {
        "amount": difference.amount,
        "tokens": difference.tokens,
        "billed": _billed_json(difference.billed),
        "booked": _booked_json(difference.booked),
    }


def _billed_json(billed: BilledCall) -> dict[str, Any]:
    return {
        "line": billed.line,
        "id": billed.id or None,
        "time": None if billed.at is None else datetime.fromtimestamp(billed.at, UTC).isoformat(),
        "model": billed.model,
        **_tokens_json(billed),
        "amount_usd": f"{billed.amount_usd:f}",
    }


def _tokens_json(billed: BilledCall) -> dict[str, int]:
    if billed.completion_tokens is None:
        return {"tokens": billed.prompt_tokens}
    return {"prompt_tokens": billed.prompt_tokens, "completion_tokens": billed.completion_tokens}


def _booked_json(booked: BookedCall) -> dict[str, Any]:
    return {
        "settled_at": datetime.fromtimestamp(booked.settled_at, UTC).isoformat(),
        "run_id": booked.run_id,
        "model": booked.model,
        "kind": booked.kind.value,
        "prompt_tokens": booked.prompt_tokens,
        "completion_tokens": booked.completion_tokens,
        "cost_usd": _exact_usd(booked.cost_nanousd),
        "answer_id": booked.answer_id or None,
        "invocation_id": booked.invocation_id or None,
    }
