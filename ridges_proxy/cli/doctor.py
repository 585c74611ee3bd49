"""`flask doctor`: what is wrong, in one line each, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.client import visible
from ridges_proxy.cli.findings import Finding, State, failed, ok, warning
from ridges_proxy.cli.local_checks import check_files, check_ledger
from ridges_proxy.cli.server_checks import check_clock, check_names, check_server, check_upstream
from ridges_proxy.config import Settings, SettingsError, load_settings, read_environment, unknown_names

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = (check_ledger, check_files, check_names, check_clock, check_upstream, check_server)
"""From what is nearest to what is farthest."""

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Look at the settings, the ledger, files, names, the clock, the upstream, prices, the running server.

    One line each, with what to do where something is wrong. Needs all settings that the server has, from the
    environment or from .env in the current folder. Spends nothing, and tries the paying key at nobody.

    \b
    Exit status:
      0  nothing has failed; there may be warnings
      1  something has failed
      2  wrong usage
    """  # noqa: D301 - click's mark for lines to keep
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    context.exit(int(any(finding.state is State.FAILED for finding in findings)))


def examine() -> Iterator[Finding]:
    """All findings, each as soon as it is there. Without settings that fit, nothing else is looked at."""
    try:
        settings = load_settings(Settings, read_environment())
        unknown = unknown_names()
    except SettingsError as error:
        yield from (
            failed("settings", problem, "mend it, in the environment or in .env")
            for problem in error.problems
        )
        return
    yield ok("settings", "fit")
    for name in unknown:
        yield warning("settings", name, "mend its name, or take it out")
    for check in CHECKS:
        yield from check(settings)


def _show(finding: Finding) -> None:
    state = click.style(f"{finding.state.value:<8}", fg=_COLOURS[finding.state])
    advice = f" → {finding.advice}" if finding.advice else ""
    click.echo(f"{state} {finding.what}: {visible(finding.words)}{visible(advice)}")
