"""`ridges-proxy sessions …`: list and end the sessions of operators in the dashboard.

`flask sessions …` is the same. It is an entry point, so it loads no app and needs no CHUTES_API_KEY.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli import tables
from ridges_proxy.cli.command_group import command, confirm, server_group, show
from ridges_proxy.cli.command_help import examples
from ridges_proxy.cli.errors import SessionUnknownError
from ridges_proxy.cli.terminal import wide_option

if TYPE_CHECKING:
    from rich.console import Console

    from ridges_proxy.cli.answer_types import SessionList, SessionsEnded
    from ridges_proxy.cli.client import AdminClient

sessions = server_group(
    "sessions",
    "List and end the sessions of operators in the dashboard.",
    "nothing was ended",
    examples("ridges-proxy sessions list", "ridges-proxy sessions end --all"),
)


@command(sessions, "list", "ridges-proxy sessions list", "ridges-proxy sessions list --json")
@wide_option
def list_sessions(client: AdminClient, *, as_json: bool, console: Console) -> None:
    """List the sessions that are valid, the oldest first."""
    show(client.sessions(), partial(_show_sessions, console=console), as_json=as_json)


@command(
    sessions, "end", "ridges-proxy sessions end 0123456789abcdef", "ridges-proxy sessions end --all --yes"
)
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--all", "everyone", is_flag=True, help="End all sessions. Asks first.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def end(client: AdminClient, *, session_id: str | None, everyone: bool, yes: bool, as_json: bool) -> None:
    """End a session: its browser must sign in again.

    No copy of its cookie is valid any longer.
    """
    if everyone == (session_id is not None):
        raise click.UsageError("name one session, or use --all")
    if everyone and not yes:
        confirm("End all sessions? Every operator must sign in again.", "Nothing was ended")
    ended = client.end_sessions() if session_id is None else _end_one(client, session_id)
    show(ended, _show_ended, as_json=as_json)


def _end_one(client: AdminClient, session_id: str) -> SessionsEnded:
    if re.fullmatch("[0-9A-Za-z]{1,64}", session_id):  # others would be part of the URL
        ended = client.end_session(session_id)
        if ended["ended"]:
            return ended
    raise SessionUnknownError(
        f"The server does not know the session {session_id!r}: it has ended, or it has expired."
    )


def _show_sessions(page: SessionList, console: Console) -> None:
    tables.show_sessions(page["sessions"], console)


def _show_ended(ended: SessionsEnded) -> None:
    click.echo(f"{tables.count(ended['ended'], 'session')} ended")
