"""Groups, options and output of the commands that talk to a running server."""

from __future__ import annotations

import functools
import io
import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.cli.client import AdminClient
from ridges_proxy.cli.command_help import Command, Group, examples
from ridges_proxy.cli.errors import NotConfirmedError, UnusableSettingsError
from ridges_proxy.config import ClientSettings, SettingsError, load_settings, read_environment, settings_file

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


HELP = """{summary}

The server is at PROXY_URL (default: http://127.0.0.1:8000), and the key is ADMIN_API_KEY. Both are read
from the environment, or from SETTINGS_FILE (default: .env in the current folder).

\b
Exit status:
  0  done
  1  not confirmed: {unconfirmed}
  2  wrong usage, or missing or invalid settings (ADMIN_API_KEY)
  3  the server does not answer at PROXY_URL
  4  the server refuses the key
  5  the server does not know the run, the budget or the session
  6  any other refusal, or an answer that is not from the proxy
"""


def server_group(name: str, summary: str, unconfirmed: str, epilog: str) -> click.Group:
    """Create a group of commands that talk to a running server. `epilog` has its examples."""
    text = HELP.format(summary=summary, unconfirmed=unconfirmed)

    @click.group(name, cls=Group, no_args_is_help=True, help=text, epilog=epilog)
    def group() -> None:
        _escape_in_streams()

    return group


def command(group: click.Group, name: str, *lines: str) -> Callable[[Callable[..., None]], click.Command]:
    """Add a command to a group, with examples of one line each. It gets a client and the option `--json`."""
    return _connected(group.command(name, epilog=examples(*lines)))


def reading_command(name: str, summary: str, *lines: str) -> Callable[[Callable[..., None]], click.Command]:
    """Create a command that belongs to no group and changes nothing. It gets the same as one of a group."""
    text = HELP.format(summary=summary, unconfirmed="never, because nothing is changed")
    return _connected(click.command(name, cls=Command, help=text, epilog=examples(*lines)))


def _connected(
    make: Callable[[Callable[..., None]], click.Command],
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command that gets a client and the option `--json`."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(**kwargs: Any) -> None:  # noqa: ANN401 - click's values
            _escape_in_streams()
            function(_client(), **kwargs)

        made = make(run)
        # It is the last option, wherever the others are.
        made.params.append(
            click.Option(["--json", "as_json"], is_flag=True, help="Print the JSON of the server.")
        )
        return made

    return decorate


def _escape_in_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a run id may not fit the encoding


def amount(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Check an amount in USD. The text is sent to the server, which parses it in the same way."""
    if value is not None:
        try:
            nanousd_from_usd(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


def _run_id(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("a run id must not be empty")
    return value


run_argument = click.argument("run_id", metavar="RUN", callback=_run_id)


def confirm(question: str, unconfirmed: str) -> None:
    """Ask on standard error, so that standard output has only the result."""
    try:
        confirmed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # end the line of the question
        confirmed = False
    if not confirmed:
        raise NotConfirmedError(f"{unconfirmed}: not confirmed. In scripts, use --yes.")


def show(answer: Answer, show_table: Callable[[Answer], None], *, as_json: bool) -> None:
    """Print an answer as JSON or as text."""
    if as_json:
        click.echo(json.dumps(answer))  # ASCII only: nothing that a terminal interprets
    else:
        show_table(answer)


def _client() -> AdminClient:
    try:
        settings = load_settings(ClientSettings, read_environment())
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None
    if settings.admin_api_key is None:
        raise UnusableSettingsError(
            f"ADMIN_API_KEY is not set, neither in the environment nor in {settings_file()}."
            " Set it to the ADMIN_API_KEY of the server."
        )
    return AdminClient(settings.proxy_url, settings.admin_api_key)
