"""`ridges-proxy serve`: gunicorn with this package's configuration, from any folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ridges_proxy import server
from ridges_proxy.cli.command_help import Command, examples

CONFIGURATION = Path(server.__file__).with_name("gunicorn_conf.py")

GUNICORN = """\
import os
from gunicorn.app.base import Application
Application.chdir = lambda self: os.chdir(self.cfg.chdir)
from gunicorn.app.wsgiapp import run
run()
"""
"""Gunicorn's program, but it loads no modules from the current folder.

The service can write to this folder. A program that was put there would otherwise run at each start.
"""


@click.command(
    "serve",
    cls=Command,
    epilog=examples(
        "ridges-proxy serve",
        "SETTINGS_FILE=/etc/ridges-proxy/env PORT=8010 ridges-proxy serve",
    ),
)
def serve() -> None:
    """Start the proxy.

    Its settings are those of the environment and of the file that SETTINGS_FILE names (default: .env in the
    current folder). Problems in the settings are reported together, and nothing starts. The command
    `settings` lists them all, and `reload` lets the server read them again.

    It listens on HOST and PORT (default: 0.0.0.0:8000) with WORKERS processes. SIGTERM stops the server after
    its calls in flight.
    """
    # -P: this Python adds no folder to those of its modules, either.
    arguments = [sys.executable, "-P", "-c", GUNICORN, "--config", str(CONFIGURATION)]
    # Replace this process: it has imported modules without gevent's patches, and signals must reach gunicorn.
    os.execv(sys.executable, arguments)  # noqa: S606 # nosec B606 - a fixed command, without a shell
