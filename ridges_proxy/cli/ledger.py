"""`flask ledger …`: look at the books where they are kept, beside the servers that use them.

Flask finds it by its entry point, before any app: it needs LEDGER_URL alone.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_group import confirm
from ridges_proxy.cli.errors import BooksUnreachableError, BooksWrongError, UnusableSettingsError
from ridges_proxy.cli.tables import count
from ridges_proxy.config import LedgerSettings, SettingsError, load_settings, read_environment
from ridges_proxy.config.ledger_url import MEMORY, shown
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.factory import disconnecting, open_store
from ridges_proxy.ledger.interface import LedgerOpeningError
from ridges_proxy.ledger.migration import RunExistsError, move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger.migration import LedgerAdmin

HELP = """Look at the books where they are kept: LEDGER_URL, from the environment or from .env here.

\b
Exit status:
  0  done, and all is well
  1  not confirmed: nothing was moved
  2  wrong usage, or settings missing or wrong (LEDGER_URL)
  3  the store cannot be opened, or does not answer
  4  the books do not add up, or something about the store should be mended
"""

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("ledger", no_args_is_help=True, help=HELP)
def ledger() -> None:
    """Nothing by itself."""


@ledger.command("check")
@as_json_option
def check(*, as_json: bool) -> None:
    """Open the store, write to it, and say what it is like and what should be mended."""
    url = _url()
    with _store(url) as store:
        facts, worries = store.inspect()
    facts = {"ledger": shown(url), **facts}
    if as_json:
        click.echo(json.dumps({**facts, "worries": worries}))
    else:
        for name, value in facts.items():
            click.echo(f"{name:<18}{visible(value)}")
    if worries:
        raise BooksWrongError("; ".join(worries))


@ledger.command("verify")
@as_json_option
def verify(*, as_json: bool) -> None:
    """Add the books up anew, from holds and receipts, and compare. Servers may go on meanwhile."""
    with _store(_url()) as store:
        audit = store.audit()
    if as_json:
        click.echo(json.dumps({**asdict(audit), "missing_nanousd": audit.missing_nanousd}))
    else:
        click.echo(
            f"{count(audit.runs, 'run')}: {_usd(audit.spent_nanousd)} spent,"
            f" {_usd(audit.held_nanousd)} held in {count(audit.holds, 'call')};"
            f" {count(audit.receipts, 'receipt')}: {_usd(audit.receipts_nanousd)} spent.\n"
            f"Charged in all: {_usd(audit.charged_nanousd)}; of it reset: {_usd(audit.reset_nanousd)},"
            f" on receipts no longer kept: {_usd(audit.dropped_nanousd)}."
        )
    problems = list(audit.problems)
    if audit.missing_nanousd > 0:
        problems.append(f"{audit.missing_nanousd:,} nano-USD were charged and are nowhere")
    if audit.missing_nanousd < 0:
        problems.append(f"{-audit.missing_nanousd:,} nano-USD are in the books and were never charged")
    if problems:
        raise BooksWrongError(visible("; ".join(problems)))
    if not as_json:
        click.echo("The books add up.")


@ledger.command("migrate")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def migrate(*, source: str, target: str, yes: bool, as_json: bool) -> None:
    """Move all runs, holds and receipts from one store to another (URLs as LEDGER_URL has them). Asks first.

    No server may use either meanwhile. A move that breaks off goes on when it is started again.
    """
    if not yes:
        question = f"Move all books from {shown(source)} to {shown(target)}? No server may run."
        confirm(question, "Nothing was moved")
    with _store(source) as old, _store(target) as new:
        try:
            moved = move(old, new)
        except RunExistsError as error:
            raise BooksWrongError(visible(str(error))) from None
    if as_json:
        click.echo(json.dumps(asdict(moved)))
    else:
        click.echo(
            f"Moved {count(moved.runs, 'run')}, {_usd(moved.spent_nanousd)} spent and"
            f" {_usd(moved.held_nanousd)} held, and {count(moved.receipts, 'receipt')}."
        )


def _url() -> str:
    try:
        return load_settings(LedgerSettings, read_environment()).ledger_url
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None


@contextmanager
def _store(url: str) -> Iterator[LedgerAdmin]:
    """The store, opened; what it raises as what the command says."""
    if url == MEMORY:
        raise UnusableSettingsError(
            "memory:// is in the server's own process: nothing else can look at it. Is LEDGER_URL set here?"
        )
    try:
        settings = load_settings(LedgerSettings, {**read_environment(), "LEDGER_URL": url})
        with disconnecting(open_store(settings)) as store:
            yield store
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None
    except LedgerOpeningError as error:
        raise BooksUnreachableError(str(error)) from None
    except LedgerUnavailableError as error:
        raise BooksUnreachableError(f"{shown(url)} does not answer: {error.__cause__}") from None


def _usd(amount_nanousd: int) -> str:
    return f"${usd_from_nanousd(amount_nanousd):,.9f}"
