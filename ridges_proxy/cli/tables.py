"""Tables and messages about runs, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.text import Text

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.cli.amounts import exact_usd, exact_usd_of, usd
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.shares import Bar, share_text
from ridges_proxy.cli.terminal import plain, print_rows, say, terminal_console
from ridges_proxy.cli.terminal_table import TerminalTable, bar_column, name_column, number_column, word_column

if TYPE_CHECKING:
    from rich.console import Console

    from ridges_proxy.cli.answer_types import (
        Drawn,
        IssuedToken,
        ModelCost,
        OperatorSession,
        Page,
        Receipt,
        RunUsage,
        SweepResult,
    )
    from ridges_proxy.cli.terminal_table import Cell

UNKNOWN_RUN = "The server does not know this run: it has no calls yet, or it was forgotten."
NO_RECEIPTS = "no receipts: a run has one when it is forgotten; `spend list` has the others"

BAR_COLUMNS = 12
LENGTH_TO_SECONDS = len("2026-11-25T08:00:00")
LENGTH_TO_MINUTES = len("2026-11-25T08:00")


def show_page(page: Page, console: Console) -> None:
    """Print one page of runs."""
    table = TerminalTable(
        name_column("run"),
        *map(number_column, ("spent", "held", "remaining", "budget", "calls", "in\nflight", "idle")),
        word_column("state"),
        drop=("idle", "calls", "held", "in flight", "remaining", "budget"),
    )
    for run in page["runs"]:
        table.add_row(*cells_of(run, *amounts_of(run), run["max_cost_usd"]), state_of(run))
    _show(table, page, console)


def show_top(page: Page, console: Console) -> None:
    """Print runs with the spent share of their budgets."""
    table = TerminalTable(
        name_column("run"),
        *map(number_column, ("spent", "budget", "share")),
        bar_column(),
        word_column("state"),
        drop=("budget", "bar", "share"),
    )
    for run in page["runs"]:
        spent, budget = run["used_cost_usd"], run["max_cost_usd"]
        table.add_row(
            run["run_id"],
            usd(spent),
            usd(budget),
            share_text(spent, budget),
            Bar(spent, 0.0, budget, BAR_COLUMNS),
            state_of(run),
        )
    _show(table, page, console)


def show_run(run: RunUsage) -> None:
    """Print the usage of one run, with amounts to the nano-USD."""
    rows = {
        "run": run["run_id"],
        "budget": exact_usd(run["max_cost_usd"]),
        "spent": f"{exact_usd(run['used_cost_usd'])} (inference {exact_usd(run['inference_cost_usd'])},"
        f" embedding {exact_usd(run['embedding_cost_usd'])})",
        "held": f"{exact_usd(run['held_cost_usd'])} for {count(run['in_flight'], 'call')} in flight",
        "remaining": exact_usd(run["remaining_cost_usd"]),
        **({"finished": _finished(run)} if "finished" in run else {}),
        "calls": f"{run['calls']:,}",
        **_activity(run),
    }
    idle = ("idle", duration(run["idle_seconds"]))
    costs = (("costs", _cost(each)) for each in run.get("costs", ()))
    shares = (("shares", _drawn(each)) for each in run.get("budgets", ()))
    print_rows((*rows.items(), *costs, idle, *shares), terminal_console())


def _cost(cost: ModelCost) -> str:
    """Return what the calls to one model, of one kind, cost, with their tokens if there are any."""
    tokens = _tokens(cost)
    return f"{exact_usd(cost['cost_usd'])} {cost['model'] or cost['kind']}" + (
        f": {tokens}" if tokens else ""
    )


def _tokens(counts: RunUsage | ModelCost) -> str:
    """Return the tokens; an empty text if none are known."""
    prompt, completion = counts.get("prompt_tokens") or 0, counts.get("completion_tokens") or 0
    return f"{prompt:,} in prompts, {completion:,} in completions" if prompt or completion else ""


def _drawn(drawn: Drawn) -> str:
    """Return a budget above the run with what remains of it."""
    scope = "" if drawn["scope"] == drawn["budget"] else f" for {drawn['scope']}"
    rest = f"{exact_usd(drawn['remaining_cost_usd'])} of {exact_usd(drawn['max_cost_usd'])} remaining"
    return f"{drawn['budget']}{scope}, {drawn['period']}: {rest}"


def _activity(run: RunUsage) -> dict[str, str]:
    """Return the rows of what the run has done, without those that have nothing to show."""
    times = (run.get("first_call_at"), run.get("last_call_at"))
    refused = [f"{number:,} {code}" for code, number in sorted(run.get("refused", {}).items())]
    rows = {
        "groups": " ".join(run.get("groups", ())),
        "active": " to ".join(at[:LENGTH_TO_SECONDS].replace("T", " ") for at in times if at),
        "tokens": _tokens(run),
        "refused": ", ".join(refused),
    }
    return {label: value for label, value in rows.items() if value}


def show_token(issued: IssuedToken) -> None:
    """Print the token and nothing else, for a shell variable or a file."""
    click.echo(visible(issued["token"]))


def show_receipt(run: RunUsage) -> None:
    """Print the final usage of a closed run."""
    click.echo("closed     no further calls are possible")
    show_run(run)


def unpriced_warning(model: str) -> str:
    """Return the warning about a model of a token that has no price on the server."""
    return visible(
        f"Warning: the server has no price for {model}, so it refuses calls to it."
        " Correct the name, or add the model to MODEL_PRICES of the server."
    )


def close_question(run_id: str, *, is_known: bool) -> str:
    """Return the question before a run is closed."""
    if is_known:
        return visible(f"Close {run_id} permanently? Its calls in flight end, and its tokens become invalid.")
    return visible(f"{UNKNOWN_RUN} Close {run_id} permanently? Then it can never make a call.")


def unknown_run_warning(run_id: str) -> str:
    """Return the warning about a run that was closed without a question and that had made no call."""
    return visible(f"Warning: {run_id}: {UNKNOWN_RUN}")


def show_reset(run: RunUsage) -> None:
    """Print the result of a reset. `run` is the usage before it."""
    message = f"Reset {run['run_id']}: {_spent(run)} is set to zero."
    if run["in_flight"]:
        held = exact_usd(run["held_cost_usd"])
        message += f" Still held: {held} for {count(run['in_flight'], 'call')} in flight."
    if run["closed"]:
        message += " The run stays closed."
    say(message)


def reset_question(run: RunUsage) -> str:
    """Return the question before a reset."""
    return visible(f"Reset {run['run_id']}? This sets {_spent(run)} to zero.")


def show_sessions(sessions: list[OperatorSession], console: Console) -> None:
    """Print the sessions of the dashboard. Their ids are whole: `sessions end` needs them."""
    if not sessions:
        click.echo("no sessions")
        return
    times = ("signed in", "expires")
    table = TerminalTable(
        word_column("session"),
        name_column("address"),
        *map(word_column, times),
        drop=("signed in", "expires", "address"),
    )
    for session in sessions:
        minutes = map(to_minutes, (session["signed_in_at"], session["expires_at"]))
        table.add_row(session["id"], session["address"], *minutes)
    console.print(table)


def show_receipts(receipts: list[Receipt], console: Console) -> None:
    """Print receipts and their sum."""
    table = TerminalTable(
        name_column("run"),
        word_column("forgotten"),
        *map(number_column, ("spent", "inference", "embedding", "budget", "calls")),
        word_column("finished"),
        drop=("embedding", "inference", "calls", "budget", "finished", "forgotten"),
    )
    for receipt in receipts:
        table.add_row(
            receipt["run_id"],
            to_minutes(receipt["forgotten_at"]),
            usd(receipt["used_cost_usd"]),
            usd(receipt["inference_cost_usd"]),
            usd(receipt["embedding_cost_usd"]),
            usd(receipt["max_cost_usd"]),
            f"{receipt['calls']:,}",
            _finished(receipt),
        )
    if table:
        console.print(table)
    spent_nanousd = sum(round(receipt["used_cost_usd"] * NANOUSD_PER_USD) for receipt in receipts)
    summary = f"{count(len(receipts), 'receipt')}, {exact_usd_of(spent_nanousd)} spent"
    console.print(plain(summary if receipts else NO_RECEIPTS), style="dim")


def show_sweep(swept: SweepResult) -> None:
    """Print the result of a sweep."""
    say(
        f"Swept in {swept['seconds'] * 1000:,.0f} ms: {count(swept['forgotten_runs'], 'run')} forgotten,"
        f" {count(swept['overdue_holds'], 'expired hold')} charged."
    )


def _show(table: TerminalTable, page: Page, console: Console) -> None:
    if table:
        console.print(table)
    console.print(plain(page_hint(page)), style="dim")


def page_hint(page: Page) -> str:
    """Describe the position of a page in the list, and how to see the next page."""
    if not page["total"]:
        return "no runs match"
    return position(page["total"], page["offset"], len(page["runs"]), "runs", "showing")


def position(total: int, offset: int, number: int, noun: str, showing: str) -> str:
    """Describe which rows of a list a page shows, and how to see the next page."""
    first = offset + 1
    if not number:
        return f"no {noun} from {first:,} on; {total:,} in total"
    last = offset + number
    more = f" (next: --offset {last})" if last < total else ""
    return f"{showing} {first:,}-{last:,} of {total:,}{more}"


def to_minutes(time: str) -> str:
    """Return a time of the server without its seconds and zone, which is UTC."""
    return time[:LENGTH_TO_MINUTES].replace("T", " ")


def cells_of(run: RunUsage, *amounts: float) -> list[Cell]:
    """Return the cells of a run: its id, the amounts in USD, and its activity."""
    return [
        run["run_id"],
        *map(usd, amounts),
        f"{run['calls']:,}",
        f"{run['in_flight']:,}",
        duration(run["idle_seconds"]),
    ]


def state_of(run: RunUsage) -> Text:
    """Return the mark of a run that gets no further calls, empty for any other."""
    if run["closed"]:
        return Text("closed", "dim")
    return Text("exhausted", "red") if run.get("finished") else Text()


def amounts_of(run: RunUsage) -> tuple[float, ...]:
    """Return the spent, held and remaining amounts of a run."""
    return run["used_cost_usd"], run["held_cost_usd"], run["remaining_cost_usd"]


def duration(seconds: float) -> str:
    """Format a duration with its two largest units: 12s, 3m12s, 2h05m, 1d03h."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days:,}d{hour:02}h"
    if hours:
        return f"{hours}h{minute:02}m"
    return f"{minutes}m{second:02}s" if minutes else f"{second}s"


def _finished(run: RunUsage | Receipt) -> str:
    """Say whether a run is finished, and what has ended it. Empty for a server that does not say it."""
    if "finished" not in run:
        return ""
    ended_by = run.get("ended_by") or ("closed" if run["closed"] else None)
    return ("yes" if run["finished"] else "no") + (f" ({ended_by})" if ended_by else "")


def _spent(run: RunUsage) -> str:
    return f"{exact_usd(run['used_cost_usd'])} spent in {count(run['calls'], 'call')}"


def count(number: int, name: str) -> str:
    """Format a number with its noun, in the singular or plural."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"
