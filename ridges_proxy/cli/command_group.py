"""What the commands that talk to a running server have in common."""

from __future__ import annotations

import functools
import io
import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.cli.client import AdminClient
from ridges_proxy.cli.errors import NotConfirmedError, UnusableSettingsError
from ridges_proxy.config import ClientSettings, SettingsError, load_settings, read_environment

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


HELP = """{words}

The server is found at PROXY_URL (http://127.0.0.1:8000 if not set) and asked with ADMIN_API_KEY;
both are read from the environment or from .env in the current folder.

\b
Exit status:
  0  done
  1  not confirmed: {otherwise}
  2  wrong usage, or settings missing or wrong (ADMIN_API_KEY)
  3  the server does not answer at PROXY_URL
  4  the server refuses the key
  5  the server does not know the run
  6  any other refusal, or the answer is not the proxy's
"""


def server_group(name: str, words: str, otherwise: str) -> click.Group:
    """A group of commands that ask a running server."""

    @click.group(name, no_args_is_help=True, help=HELP.format(words=words, otherwise=otherwise))
    def group() -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a run id need not fit the encoding

    return group


def command(group: click.Group, name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command of a group that gets a client and knows `--json`."""

    def decorate(ask: Callable[..., None]) -> click.Command:
        @functools.wraps(ask)
        def run(**kwargs: Any) -> None:  # noqa: ANN401 - what click parsed
            ask(_client(), **kwargs)

        as_json = click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")
        return group.command(name)(as_json(run))

    return decorate


def amount(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Check an amount in USD; the server reads it from the same text."""
    if value is not None:
        try:
            nanousd_from_usd(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


def _run_id(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("a run's id is not empty")
    return value


run_argument = click.argument("run_id", metavar="RUN", callback=_run_id)


def confirm(question: str, otherwise: str) -> None:
    """Ask on standard error, so that standard output has the answer alone."""
    try:
        confirmed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the question's line has no end yet
        confirmed = False
    if not confirmed:
        raise NotConfirmedError(f"{otherwise}: nobody said yes. Where nobody can, use --yes.")


def show(answer: Answer, show_table: Callable[[Answer], None], *, as_json: bool) -> None:
    """Print an answer as JSON or for people."""
    if as_json:
        click.echo(json.dumps(answer))  # in ASCII: no letter that a terminal would act on
    else:
        show_table(answer)


def _client() -> AdminClient:
    try:
        settings = load_settings(ClientSettings, read_environment())
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None
    if settings.admin_api_key is None:
        raise UnusableSettingsError(
            "ADMIN_API_KEY is not set, in the environment or in .env. It is the server's own."
        )
    return AdminClient(settings.proxy_url, settings.admin_api_key)
