"""`ridges-proxy ledger …`: check, verify and migrate the ledger at LEDGER_URL, and compare it with a bill.

`flask ledger …` is the same. It is an entry point, so it loads no app and needs no other setting.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ridges_proxy.cli.amounts import exact_usd_of
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_group import confirm
from ridges_proxy.cli.command_help import Group, examples
from ridges_proxy.cli.errors import LedgerProblemError
from ridges_proxy.cli.ledger_store import ledger_url, opened_store
from ridges_proxy.cli.progress import progress
from ridges_proxy.cli.reconcile import reconcile
from ridges_proxy.cli.tables import count
from ridges_proxy.cli.terminal import print_rows, say, terminal_console
from ridges_proxy.config.ledger_url import redacted
from ridges_proxy.ledger.migration import MoveError, move

HELP = """Check, verify and migrate the ledger, and compare it with a bill.

LEDGER_URL is read from the environment, or from SETTINGS_FILE (default: .env in the current folder). Servers
may run meanwhile, except during a migration.

\b
Exit status:
  0  done, no problem found
  1  not confirmed: nothing was moved; or the bill and the books differ
  2  wrong usage, invalid settings (LEDGER_URL), or a bill that cannot be read
  3  the ledger cannot be opened, or does not answer
  4  the ledger is inconsistent, or the settings of its store need attention
"""

PROPERTY_COLUMNS = 18

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(
    "ledger",
    cls=Group,
    no_args_is_help=True,
    help=HELP,
    epilog=examples("ridges-proxy ledger check", "ridges-proxy ledger verify"),
)
def ledger() -> None:
    """Group of the commands; it does nothing itself."""


@ledger.command("check", epilog=examples("ridges-proxy ledger check", "ridges-proxy ledger check --json"))
@as_json_option
def check(*, as_json: bool) -> None:
    """Open the ledger, write to it, and print its properties.

    The problems of its store are printed, too.
    """
    url = ledger_url()
    with opened_store(url) as store:
        properties, problems = store.inspect()
    properties = {"ledger": redacted(url), **properties}
    if as_json:
        click.echo(json.dumps({**properties, "worries": problems}))
    else:
        print_rows(properties.items(), terminal_console(), PROPERTY_COLUMNS)
    if problems:
        raise LedgerProblemError("; ".join(problems))


@ledger.command("verify", epilog=examples("ridges-proxy ledger verify", "ridges-proxy ledger verify --json"))
@as_json_option
def verify(*, as_json: bool) -> None:
    """Recompute all totals from the holds and receipts, and compare. Servers may run meanwhile.

    Each run, and each level of a budget that runs share, must hold the sum of its open holds.
    """
    with opened_store(ledger_url()) as store, progress() as report:
        audit = store.audit(report)
    if as_json:
        click.echo(json.dumps({**asdict(audit), "missing_nanousd": audit.missing_nanousd}))
    else:
        say(
            f"{count(audit.runs, 'run')}: {exact_usd_of(audit.spent_nanousd)} spent,"
            f" {exact_usd_of(audit.held_nanousd)} held in {count(audit.holds, 'call')};"
            f" {count(audit.receipts, 'receipt')}: {exact_usd_of(audit.receipts_nanousd)} spent;"
            f" {count(audit.levels, 'level')} of budgets."
        )
        say(
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


@ledger.command(
    "migrate",
    epilog=examples(
        "ridges-proxy ledger migrate sqlite:///ledger.db redis://127.0.0.1:6379",
        "ridges-proxy ledger migrate sqlite:///ledger.db sqlite:///new.db --yes",
    ),
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def migrate(*, source: str, target: str, yes: bool, as_json: bool) -> None:
    """Move everything from one ledger to another. Asks first.

    That is all runs, holds, receipts, single calls, levels of budgets, set amounts, alerts and
    the audit trail.

    FROM and TO have the form of LEDGER_URL. No server may use either ledger meanwhile. After an interruption,
    run the same command again: it continues.
    """
    if not yes:
        question = f"Move everything from {redacted(source)} to {redacted(target)}? No server may be running."
        confirm(question, "Nothing was moved")
    with opened_store(source) as old, opened_store(target) as new, progress() as report:
        try:
            moved = move(old, new, report)
        except MoveError as error:
            raise LedgerProblemError(visible(str(error))) from None
    if as_json:
        click.echo(json.dumps(asdict(moved)))
    else:
        say(
            f"Moved {count(moved.runs, 'run')}, {exact_usd_of(moved.spent_nanousd)} spent and"
            f" {exact_usd_of(moved.held_nanousd)} held, {count(moved.receipts, 'receipt')},"
            f" {count(moved.calls, 'single call')}, {count(moved.levels, 'level')},"
            f" {count(moved.set_amounts, 'set amount')}, {count(moved.alerts, 'alert')}"
            f" and {count(moved.audit_entries, 'audited action')}."
        )


ledger.add_command(reconcile)
