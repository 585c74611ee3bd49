"""`ridges-proxy ledger reconcile`: compare a bill of the upstream with the ledger at LEDGER_URL."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ridges_proxy.billing.bill_file import Bill, UnreadableBillError, read_bill
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_help import Command, examples
from ridges_proxy.cli.errors import DifferencesError, UnusableFileError, UnusableSettingsError
from ridges_proxy.cli.history import time_in_past
from ridges_proxy.cli.ledger_store import ledger_url, opened_store
from ridges_proxy.cli.progress import progress
from ridges_proxy.cli.reconcile_tables import result_json, show_result
from ridges_proxy.cli.tables import count
from ridges_proxy.cli.terminal import wide_option
from ridges_proxy.ledger.reconcile import Span
from ridges_proxy.ledger.reconcile import reconcile as compare

if TYPE_CHECKING:
    from rich.console import Console

    from ridges_proxy.ledger.migration import LedgerAdmin
    from ridges_proxy.ledger.models import BookedCallPage
    from ridges_proxy.ledger.progress import Report

MAX_TOLERANCE_SECONDS = 86_400


@click.command(
    "reconcile",
    cls=Command,
    epilog=examples(
        "ridges-proxy ledger reconcile bill.csv",
        "ridges-proxy ledger reconcile bill.csv --since 2026-11-01 --until 2026-12-01",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--since",
    metavar="WHEN",
    callback=time_in_past,
    help="Only calls of the last 90m, 12h or 7d, or since a date. Default: all that the ledger keeps.",
)
@click.option(
    "--until",
    metavar="WHEN",
    callback=time_in_past,
    help="Only calls before this time, in the same form: for a bill that ended before today.",
)
@click.option(
    "--tolerance",
    "tolerance_seconds",
    metavar="SECONDS",
    type=click.FloatRange(0, MAX_TOLERANCE_SECONDS),
    default=60.0,
    show_default=True,
    help="Largest difference of two times, in seconds, if a call has no id.",
)
@click.option(
    "--list",
    "listed",
    metavar="N",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Limit of each list of differences.",
)
@wide_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reconcile(  # noqa: PLR0913 - one parameter for each option
    *,
    file: Path,
    since: float | None,
    until: float | None,
    tolerance_seconds: float,
    listed: int,
    as_json: bool,
    console: Console,
) -> None:
    """Compare a bill of the upstream with the calls in the books.

    FILE is the bill as CSV, one row for each call. docs/operating/reconcile.md describes its columns. Ends
    with 0 if each row has its call and each call its row, with the same tokens and amounts, else with 1.
    """
    span = Span(since or 0.0, math.inf if until is None else until)
    if span.since >= span.until:
        raise click.UsageError("--until must be after --since")
    bill = _bill(file)
    with opened_store(ledger_url()) as store:
        if not store.calls(0.0, None, 1).calls:
            raise UnusableSettingsError(
                "This ledger keeps no single calls. It keeps those that a server with RECEIPT_CALLS=1 makes"
            )
        with progress() as report:
            books = _ReportedCalls(store, report)
            result = compare(bill, books, span=span, tolerance_seconds=tolerance_seconds, listed=listed)
    if as_json:
        click.echo(json.dumps(result_json(result)))
    else:
        show_result(result, console)
    if differences := result.total.differences:
        hint = "" if result.matched_by_id or not any(bill.ids) else ". No id of the bill is in the books"
        raise DifferencesError(f"{count(differences, 'difference')}{hint}")


class _ReportedCalls:
    """The calls of a store. Reports how many of them have been read."""

    def __init__(self, store: LedgerAdmin, report: Report) -> None:
        self._store = store
        self._report = report
        self._read = 0
        self._total: int | None = None

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        """Return one page of the calls."""
        if self._total is None:
            self._total = self._store.count_calls(since)
        page = self._store.calls(since, cursor, limit)
        self._read += len(page.calls)
        self._report("single calls", self._read, max(self._total, self._read))
        return page


def _bill(file: Path) -> Bill:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return read_bill(lines)
    except UnreadableBillError as error:
        faults = "\n".join(visible(line) for line in str(error).splitlines())
        raise UnusableFileError(f"{visible(str(file))} cannot be read as a bill:\n{faults}") from None
    except UnicodeDecodeError:
        raise UnusableFileError(f"{visible(str(file))} is not a text in UTF-8") from None
    except OSError as error:
        raise UnusableFileError(f"{visible(str(file))} cannot be read: {error.strerror}") from None
