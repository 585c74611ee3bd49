"""Refuse to run in a server without this package's hooks.

Without the hooks, the number of workers is not checked for `memory://`, the ledger is not swept, and a stop
ends calls in flight before their holds settle.
"""

from __future__ import annotations

import os
from contextvars import ContextVar

import click
from gunicorn.errors import AppImportError

_HAS_HOOKS: ContextVar[bool] = ContextVar("server_has_hooks", default=False)
"""Set in a master that has this package's hooks, and so in its workers, even if it has ended meanwhile."""

START = "start it with `ridges-proxy serve`, or in a checkout with `gunicorn wsgi:app`"


class OtherServerError(AppImportError, click.ClickException):
    """The server that loads the app has no hooks. Gunicorn and click print only the message."""


def mark_master() -> None:
    """Mark this process, and the workers that it forks, as having the hooks."""
    _HAS_HOOKS.set(True)


def refuse_other_servers() -> None:
    """Raise OtherServerError under a gunicorn without the hooks, and under `flask run`."""
    if os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/") and not _HAS_HOOKS.get():
        raise OtherServerError(
            "gunicorn runs without the configuration of this package: the ledger would not be swept, and a"
            f" stop would not settle the calls in flight: {START}."
        )
    context = click.get_current_context(silent=True)
    if context is not None and _is_flask_run(context.command):
        raise OtherServerError(
            "`flask run` would not sweep the ledger, and a stop would not settle the calls in flight:"
            f" {START}."
        )


def _is_flask_run(command: click.Command) -> bool:
    """Return whether this is Flask's own command, which cannot be imported here, and no other named `run`."""
    function = command.callback
    return function is not None and (function.__module__, function.__name__) == ("flask.cli", "run_command")
