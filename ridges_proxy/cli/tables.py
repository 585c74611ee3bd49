"""A run's books as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.cli.client import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ridges_proxy.cli.answer_types import Books, Issued, Page, Receipt, Swept

PIPE_COLUMNS = 4_000
"""Wider than any table: what is piped to grep must not be folded."""

BAR_COLUMNS = 12
NAME_COLUMNS = 11

SIGNIFICANT_USD = 0.01
"""Amounts below it are shown with three significant digits, others with four decimals."""

NANOUSD_DECIMALS = 9

MINUTES_OF_MOMENT = len("2026-11-25T08:00")


def show_page(page: Page) -> None:
    """Print one page of runs."""
    table = runs_table("run", "spent", "held", "remaining", "cap", "calls", "in\nflight", "idle")
    for run in page["runs"]:
        table.add_row(*cells_of(run, *amounts_of(run), run["max_cost_usd"]))
    _show(table, page)


def show_top(page: Page) -> None:
    """Print the runs with the share of their caps that is spent."""
    table = runs_table("run", "spent", "cap", "share")
    table.add_column("", width=BAR_COLUMNS)
    for run in page["runs"]:
        percent = _percent(run)
        table.add_row(
            plain(run["run_id"]),
            plain(usd(run["used_cost_usd"])),
            plain(usd(run["max_cost_usd"])),
            plain(f"{percent:,}%"),
            ProgressBar(total=100, completed=percent, width=BAR_COLUMNS),
        )
    _show(table, page)


def show_run(run: Books) -> None:
    """Print one run, amounts to the nano-USD."""
    rows = {
        "run": run["run_id"],
        "cap": exact_usd(run["max_cost_usd"]),
        "spent": f"{exact_usd(run['used_cost_usd'])} (inference {exact_usd(run['inference_cost_usd'])},"
        f" embedding {exact_usd(run['embedding_cost_usd'])})",
        "held": f"{exact_usd(run['held_cost_usd'])} by {count(run['in_flight'], 'call')} in flight",
        "remaining": exact_usd(run["remaining_cost_usd"]),
        "calls": f"{run['calls']:,}",
        "idle": duration(run["idle_seconds"]),
    }
    for name, value in rows.items():
        click.echo(f"{name:<{NAME_COLUMNS}}{visible(value)}")


def show_token(issued: Issued) -> None:
    """Print the token alone: it goes into a variable or a file."""
    click.echo(visible(issued["token"]))


def show_receipt(run: Books) -> None:
    """Print what a closed run has come to."""
    click.echo("closed     nothing more is spent on it")
    show_run(run)


def close_question(run_id: str) -> str:
    """What closing is about to do."""
    return visible(f"Close {run_id}? Its calls in flight end, and its tokens are dead for good.")


def show_reset(run: Books) -> None:
    """Print what a reset did, from the books before it."""
    words = f"Reset {run['run_id']}, forgetting {_spent_words(run)}."
    if run["in_flight"]:
        held = exact_usd(run["held_cost_usd"])
        words += f" Still held: {held} by {count(run['in_flight'], 'call')} in flight."
    click.echo(visible(words))


def reset_question(run: Books) -> str:
    """What a reset is about to do."""
    return visible(f"Reset {run['run_id']}, forgetting {_spent_words(run)}?")


def show_receipts(receipts: list[Receipt]) -> None:
    """Print receipts, and what they come to."""
    table = runs_table("run", "forgotten", "spent", "inference", "embedding", "cap", "calls")
    for receipt in receipts:
        table.add_row(
            plain(receipt["run_id"]),
            plain(receipt["forgotten_at"][:MINUTES_OF_MOMENT].replace("T", " ")),
            *(
                plain(usd(amount))
                for amount in (
                    receipt["used_cost_usd"],
                    receipt["inference_cost_usd"],
                    receipt["embedding_cost_usd"],
                    receipt["max_cost_usd"],
                )
            ),
            plain(f"{receipt['calls']:,}"),
        )
    console = console_of_people()
    if receipts:
        console.print(table)
    spent_nanousd = sum(round(receipt["used_cost_usd"] * NANOUSD_PER_USD) for receipt in receipts)
    words = f"{count(len(receipts), 'receipt')}, {exact_usd(spent_nanousd / NANOUSD_PER_USD)} spent"
    console.print(plain(words if receipts else "no receipts"), style="dim")


def show_sweep(swept: Swept) -> None:
    """Print what a sweep did."""
    click.echo(
        f"Swept in {swept['seconds'] * 1000:,.0f} ms: {count(swept['forgotten_runs'], 'run')} forgotten,"
        f" {count(swept['overdue_holds'], 'overdue hold')} charged."
    )


def console_of_people() -> Console:
    """Where tables go: as wide as they are, if nobody looks at them right now."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console


def runs_table(run: str, *amounts: str) -> Table:
    """A table whose first column is the run's id. Cells too long for the terminal are folded, never cut."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(run, overflow="fold")
    for name in amounts:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _show(table: RenderableType, page: Page) -> None:
    console = console_of_people()
    if page["runs"]:
        console.print(table)
    console.print(plain(page_hint(page)), style="dim")


def page_hint(page: Page) -> str:
    """Which runs of how many a page has, and how to see the next."""
    total, first, shown = page["total"], page["offset"] + 1, len(page["runs"])
    if not total:
        return "no runs match"
    if not shown:
        return f"nothing from {first:,} on; {total:,} in all"
    last = first + shown - 1
    more = f" (next: --offset {last})" if last < total else ""
    return f"showing {first:,}-{last:,} of {total:,}{more}"


def plain(text: str) -> Text:
    """Text that neither rich nor a terminal takes for more than text."""
    return Text(visible(text))


def cells_of(run: Books, *amounts: float) -> list[Text]:
    """A run's row in a list: its id, amounts in USD, and what it does."""
    return [
        plain(run["run_id"]),
        *(plain(usd(amount)) for amount in amounts),
        plain(f"{run['calls']:,}"),
        plain(f"{run['in_flight']:,}"),
        plain(duration(run["idle_seconds"])),
    ]


def amounts_of(run: Books) -> tuple[float, ...]:
    """What a run has spent, holds, and has left."""
    return run["used_cost_usd"], run["held_cost_usd"], run["remaining_cost_usd"]


def _percent(run: Books) -> int:
    """The share of the cap that is spent, rounded down: 100 is all of it, as is any share of no cap."""
    budget_nanousd = round(run["max_cost_usd"] * NANOUSD_PER_USD)
    return round(run["used_cost_usd"] * NANOUSD_PER_USD) * 100 // budget_nanousd if budget_nanousd else 100


def usd(amount: float) -> str:
    """An amount for a table: four decimals, or three significant digits of a small one."""
    if 0 < amount < SIGNIFICANT_USD:
        leading_zeros = -int(f"{amount:e}".partition("e")[2])
        return f"${amount:.{min(leading_zeros + 2, NANOUSD_DECIMALS)}f}"
    return f"${amount:,.4f}"


def exact_usd(amount: float) -> str:
    """An amount to the nano-USD, without the zeros at its end; at least cents."""
    whole, _, decimals = f"{amount:,.{NANOUSD_DECIMALS}f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def duration(seconds: float) -> str:
    """The two largest units of a time: 12s, 3m12s, 2h05m, 1d03h."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days:,}d{hour:02}h"
    if hours:
        return f"{hours}h{minute:02}m"
    return f"{minutes}m{second:02}s" if minutes else f"{second}s"


def _spent_words(run: Books) -> str:
    return f"{exact_usd(run['used_cost_usd'])} spent in {count(run['calls'], 'call')}"


def count(number: int, name: str) -> str:
    """So many of them, in words."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"
