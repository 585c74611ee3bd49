"""Tables and messages about budgets and their levels on the running server."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.cli.amounts import exact_usd, exact_usd_of, usd
from ridges_proxy.cli.budget_tables import NEVER
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.shares import Bar, share_text
from ridges_proxy.cli.tables import BAR_COLUMNS, count, duration, position
from ridges_proxy.cli.terminal import plain, print_rows, say
from ridges_proxy.cli.terminal_table import TerminalTable, bar_column, name_column, number_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from ridges_proxy.cli.answer_types import (
        Budget,
        BudgetPage,
        BudgetReset,
        BudgetWithLevels,
        LevelPage,
        LevelUsage,
    )

SET = " (set)"
"""After an amount that an operator has set."""


GONE = "{name} is not in BUDGETS any more, but amounts are set for it: ridges-proxy budgets show {name}"


def show_page(page: BudgetPage, console: Console, *, is_search: bool = False) -> None:
    """Print one page of levels. If it has all of them, also print the budgets without a level."""
    table = _levels_table()
    _add_levels(table, page["levels"], page["budgets"])
    if len(page["levels"]) == page["total"] and not is_search:
        used = {level["budget"] for level in page["levels"]}
        for budget in page["budgets"]:
            if budget["usd"] is not None and budget["name"] not in used:
                _add_unused(table, budget)
    _print(table, page, console)
    for budget in page["budgets"]:
        if budget["usd"] is None:
            say(GONE.format(name=budget["name"]))


def show_budget(budget: BudgetWithLevels, console: Console) -> None:
    """Print one budget, its set amounts, and one page of its levels."""
    if budget["usd"] is None:
        rows = [("budget", f"{budget['name']}: not in BUDGETS any more")]
    else:
        rows = [
            ("budget", budget["name"]),
            ("match", str(budget["match"])),
            ("amount", f"{exact_usd(budget['usd'])} in BUDGETS"),
            ("window", f"{budget['window']}, zone {budget['zone']}"),
            ("period", str(budget["period"])),
            ("resets in", _resets_in(budget["resets_at"])),
        ]
    for each in budget["set_amounts"]:
        rows.append(("set", f"{exact_usd(each['usd'])} for {_scope(each['scope'])}"))
    print_rows(rows, console)
    table = _levels_table()
    _add_levels(table, budget["levels"], [budget])
    click.echo()
    _print(table, budget, console)


def show_amount(budget: Budget, scope: str | None) -> None:
    """Print the amount that is in force after a change. `scope`: the group or scope that was named."""
    of_scope = [each["usd"] for each in budget["set_amounts"] if _is(each["scope"], scope)]
    of_budget = [each["usd"] for each in budget["set_amounts"] if each["scope"] is None]
    in_force = of_scope[0] if of_scope else budget["usd_in_force"]
    text = f"The amount of {budget['name']} for {_scope(scope)} is"
    if in_force is None:
        text += " removed."
    else:
        text += f" {exact_usd(in_force)} now, {'as set' if of_scope or of_budget else 'as in BUDGETS'}."
    say(text)


def reset_question(budget: BudgetWithLevels, scope: str | None) -> str:
    """Return the question before a reset."""
    question = f"Reset {budget['name']} for {_scope(scope)}?"
    if scope is None and len(budget["levels"]) == budget["total"]:
        question += f" This sets {_spent(budget['levels'])} in the present period to zero."
    else:
        question += " This sets what is spent in the present period to zero."
    return visible(question)


def show_reset(before: BudgetReset) -> None:
    """Print the result of a reset."""
    levels = before["levels"]
    if not levels:
        click.echo("Nothing to reset: no call has drawn on it in the present period.")
        return
    message = f"Reset {before['budget']}: {_spent(levels)} is set to zero."
    if calls := sum(level["in_flight"] for level in levels):
        held = exact_usd_of(_sum(level["held_cost_usd"] for level in levels))
        message += f" Still held: {held} for {count(calls, 'call')} in flight."
    say(message)


def _is(scope: str | None, named: str | None) -> bool:
    """Return whether a scope is the one that was named, by itself or by its group."""
    return scope == named or (scope is not None and f"{scope} ".startswith(f"group:{named} "))


def _scope(scope: str | None) -> str:
    return "all its calls" if scope is None else scope


def _spent(levels: Sequence[LevelUsage]) -> str:
    spent = exact_usd_of(_sum(level["used_cost_usd"] for level in levels))
    return f"{spent} spent in {count(len(levels), 'level')}"


def _sum(amounts: Iterable[float]) -> int:
    return sum(round(amount * NANOUSD_PER_USD) for amount in amounts)


def _levels_table() -> TerminalTable:
    return TerminalTable(
        name_column("budget"),
        name_column("scope"),
        number_column("used"),
        bar_column(),
        *map(number_column, ("spent", "held", "remaining", "amount", "calls", "resets in")),
        drop=("calls", "held", "resets in", "remaining", "bar", "amount", "used"),
    )


def _add_levels(table: TerminalTable, levels: Iterable[LevelUsage], budgets: Iterable[Budget]) -> None:
    """Add one row for each level. The bar is what is spent and held."""
    set_scopes = {(each["name"], amount["scope"]) for each in budgets for amount in each["set_amounts"]}
    for level in levels:
        budget, spent, held = level["budget"], level["used_cost_usd"], level["held_cost_usd"]
        is_set = bool({(budget, level["scope"]), (budget, None)} & set_scopes)
        table.add_row(
            budget,
            level["scope"],
            share_text(spent, level["max_cost_usd"]),
            Bar(spent, held, level["max_cost_usd"], BAR_COLUMNS),
            usd(spent),
            usd(held),
            usd(level["remaining_cost_usd"]),
            usd(level["max_cost_usd"]) + (SET if is_set else ""),
            f"{level['calls']:,}",
            _resets_in(level["resets_at"]),
        )


def _add_unused(table: TerminalTable, budget: Budget) -> None:
    amount_usd = budget["usd_in_force"] or 0.0
    is_set = any(each["scope"] is None for each in budget["set_amounts"])
    table.add_row(
        budget["name"],
        str(budget["match"]),
        share_text(0.0, amount_usd),
        Bar(0.0, 0.0, amount_usd, BAR_COLUMNS),
        usd(0.0),
        usd(0.0),
        usd(amount_usd),
        usd(amount_usd) + (SET if is_set else ""),
        "0",
        _resets_in(budget["resets_at"]),
    )


def _resets_in(resets_at: str | None) -> str:
    """Return the time until the end of a period, by the clock of this machine."""
    if resets_at is None:
        return NEVER
    seconds = datetime.fromisoformat(resets_at).timestamp() - time.time()
    return duration(seconds) if seconds > 0 else "ended"


def _print(table: TerminalTable, page: LevelPage, console: Console) -> None:
    if table:
        console.print(table)
    console.print(plain(_position(page)), style="dim")


def _position(page: LevelPage) -> str:
    """Describe the position of a page in the list, and how to see the next page."""
    if not page["total"]:
        return "no levels: no call has drawn on them"
    return position(page["total"], page["offset"], len(page["levels"]), "levels", "showing levels")
