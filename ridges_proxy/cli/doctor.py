"""`ridges-proxy doctor`: checks of an installation, with advice for each problem."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.text import Text

from ridges_proxy.cli.command_help import Command, examples
from ridges_proxy.cli.findings import Finding, State, failed, ok, warning
from ridges_proxy.cli.local_checks import check_files, check_ledger, check_parser, check_price_units
from ridges_proxy.cli.server_checks import (
    check_clock,
    check_dns,
    check_server,
    check_settings_in_force,
    check_upstream,
)
from ridges_proxy.cli.terminal import plain, print_indented, terminal_console
from ridges_proxy.config import (
    InvalidSettingError,
    Settings,
    SettingsError,
    doubts,
    load_valid_settings,
    read_environment,
    settings_file,
    unknown_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = {
    "ledger": check_ledger,
    "open files": check_files,
    "parser": check_parser,
    "prices": check_price_units,
    "DNS": check_dns,
    "clock": check_clock,
    "upstream": check_upstream,
    "server": check_server,
    "settings": check_settings_in_force,
}
"""In this order: first this machine, then the upstream and the running server."""

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red"}


@click.command("doctor", cls=Command, epilog=examples("ridges-proxy doctor", "ridges-proxy doctor --json"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Check an installation, with advice for each problem.

    Checks settings, ledger, disk, open files, DNS, clock, upstream, prices and the running server. Prints one
    line for each check. Needs the same settings as the server, from the environment and SETTINGS_FILE
    (default: .env in the current folder). Spends nothing, and sends CHUTES_API_KEY to no server. If a setting
    has a problem, the checks that do not need it go on.

    \b
    Exit status:
      0  no check failed; there may be warnings
      1  a check failed
      2  wrong usage
    """  # noqa: D301 - keeps click from wrapping these lines
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    context.exit(int(any(finding.state is State.FAILED for finding in findings)))


def examine() -> Iterator[Finding]:
    """Yield each finding as soon as it is known.

    A check that needs an invalid setting says so; the others go on. If the settings cannot be read, nothing
    else is checked.
    """
    try:
        settings, problems = load_valid_settings(Settings, read_environment())
        unknown = unknown_names()
    except SettingsError as error:
        yield from map(_problem, error.problems)
        return
    yield from map(_problem, problems)
    if not problems:
        yield ok("settings", "valid")
    for name in unknown:
        yield warning("settings", name, "correct the name, or remove the line")
    for subject, check in (("settings", _check_doubts), *CHECKS.items()):
        try:
            yield from check(settings)
        except InvalidSettingError as error:
            yield warning(subject, f"not checked, because {error}", "correct the setting first")


def _problem(problem: str) -> Finding:
    return failed("settings", problem, f"correct it in the environment or in {settings_file()}")


def _check_doubts(settings: Settings) -> Iterator[Finding]:
    for doubt in doubts(settings):
        yield warning("settings", doubt, "correct one of the two settings")


def _print(finding: Finding) -> None:
    state = Text(f"{finding.state.value:<9}", _COLOURS[finding.state])
    advice = f" → {finding.advice}" if finding.advice else ""
    print_indented(state, plain(f"{finding.what}: {finding.message}{advice}"), terminal_console())
