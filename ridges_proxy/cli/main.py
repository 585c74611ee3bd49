"""The command `ridges-proxy`: the server, the demo and the operators' commands."""

from __future__ import annotations

import click

from ridges_proxy.cli.demo import demo
from ridges_proxy.cli.doctor import doctor
from ridges_proxy.cli.ledger import ledger
from ridges_proxy.cli.prices import prices
from ridges_proxy.cli.runs import runs
from ridges_proxy.cli.serve import serve
from ridges_proxy.cli.settings import settings
from ridges_proxy.cli.spend import spend

COMMANDS = (serve, demo, spend, runs, prices, ledger, settings, doctor)


@click.group(commands=COMMANDS, no_args_is_help=True)
@click.version_option(package_name="ridges-proxy")
def main() -> None:
    """Run and operate the Ridges AI Proxy: each agent run has a hard spending limit."""
