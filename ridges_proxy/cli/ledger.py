"""`ridges-proxy ledger …`: check, verify and migrate the ledger at LEDGER_URL.

`flask ledger …` is the same. It is an entry point, so it loads no app and needs no other setting.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.amounts import exact_usd_of
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_group import confirm
from ridges_proxy.cli.errors import LedgerProblemError, LedgerUnreachableError, UnusableSettingsError
from ridges_proxy.cli.tables import count
from ridges_proxy.config import LedgerSettings, SettingsError, load_settings, read_environment
from ridges_proxy.config.ledger_url import MEMORY, redacted
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.factory import disconnecting, open_store, unavailable_text
from ridges_proxy.ledger.interface import LedgerOpeningError
from ridges_proxy.ledger.migration import RunExistsError, move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger.migration import LedgerAdmin

HELP = """Check, verify and migrate the ledger.

LEDGER_URL is read from the environment, or from SETTINGS_FILE (default: .env in the current folder). Servers
may run meanwhile, except during a migration.

\b
Exit status:
  0  done, no problem found
  1  not confirmed: nothing was moved
  2  wrong usage, or missing or invalid settings (LEDGER_URL)
  3  the ledger cannot be opened, or does not answer
  4  the ledger is inconsistent, or the settings of its store need attention
"""

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("ledger", no_args_is_help=True, help=HELP)
def ledger() -> None:
    """Group of the commands; it does nothing itself."""


@ledger.command("check")
@as_json_option
def check(*, as_json: bool) -> None:
    """Open the ledger, write to it, and print its properties and the problems of its store."""
    url = _url()
    with _store(url) as store:
        properties, problems = store.inspect()
    properties = {"ledger": redacted(url), **properties}
    if as_json:
        click.echo(json.dumps({**properties, "worries": problems}))
    else:
        for name, value in properties.items():
            click.echo(f"{name:<18}{visible(value)}")
    if problems:
        raise LedgerProblemError("; ".join(problems))


@ledger.command("verify")
@as_json_option
def verify(*, as_json: bool) -> None:
    """Recompute all totals from the holds and receipts, and compare. Servers may run meanwhile."""
    with _store(_url()) as store:
        audit = store.audit()
    if as_json:
        click.echo(json.dumps({**asdict(audit), "missing_nanousd": audit.missing_nanousd}))
    else:
        click.echo(
            f"{count(audit.runs, 'run')}: {exact_usd_of(audit.spent_nanousd)} spent,"
            f" {exact_usd_of(audit.held_nanousd)} held in {count(audit.holds, 'call')};"
            f" {count(audit.receipts, 'receipt')}: {exact_usd_of(audit.receipts_nanousd)} spent.\n"
            f"Charged in total: {exact_usd_of(audit.charged_nanousd)}."
            f" Of this, {exact_usd_of(audit.reset_nanousd)} was reset,"
            f" and {exact_usd_of(audit.dropped_nanousd)} belongs to deleted receipts."
        )
    problems = list(audit.problems)
    if audit.missing_nanousd > 0:
        problems.append(f"{audit.missing_nanousd:,} nano-USD were charged but are not in the ledger")
    if audit.missing_nanousd < 0:
        problems.append(f"{-audit.missing_nanousd:,} nano-USD are in the ledger but were never charged")
    if problems:
        raise LedgerProblemError(visible("; ".join(problems)))
    if not as_json:
        click.echo("The ledger is consistent.")


@ledger.command("migrate")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def migrate(*, source: str, target: str, yes: bool, as_json: bool) -> None:
    """Move all runs, holds and receipts from one ledger to another. Asks first.

    FROM and TO have the form of LEDGER_URL. No server may use either ledger meanwhile. After an interruption,
    run the same command again: it continues.
    """
    if not yes:
        question = f"Move everything from {redacted(source)} to {redacted(target)}? No server may be running."
        confirm(question, "Nothing was moved")
    with _store(source) as old, _store(target) as new:
        try:
            moved = move(old, new)
        except RunExistsError as error:
            raise LedgerProblemError(visible(str(error))) from None
    if as_json:
        click.echo(json.dumps(asdict(moved)))
    else:
        click.echo(
            f"Moved {count(moved.runs, 'run')}, {exact_usd_of(moved.spent_nanousd)} spent and"
            f" {exact_usd_of(moved.held_nanousd)} held, and {count(moved.receipts, 'receipt')}."
        )


def _url() -> str:
    try:
        return load_settings(LedgerSettings, read_environment()).ledger_url
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None


@contextmanager
def _store(url: str) -> Iterator[LedgerAdmin]:
    """Open the store. Errors of the store become errors of the command."""
    if url == MEMORY:
        raise UnusableSettingsError(
            "memory:// is the memory of the server's process. Other processes cannot read it. Set LEDGER_URL."
        )
    try:
        settings = load_settings(LedgerSettings, {**read_environment(), "LEDGER_URL": url})
        with disconnecting(open_store(settings)) as store:
            yield store
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None
    except LedgerOpeningError as error:
        raise LedgerUnreachableError(str(error)) from None
    except LedgerUnavailableError as error:
        raise LedgerUnreachableError(unavailable_text(url, error)) from None
