"""`ridges-proxy serve`: gunicorn with this package's configuration, from any folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from ridges_proxy import server

CONFIGURATION = Path(server.__file__).with_name("gunicorn_conf.py")


@click.command("serve")
def serve() -> None:
    """Start the proxy with the settings of the environment and of a file.

    The file is named by SETTINGS_FILE (default: .env in the current folder).

    It listens on HOST and PORT (default: 0.0.0.0:8000) with WORKERS processes. Problems in the settings are
    reported together, and nothing starts. `ridges-proxy reload PID` reloads the settings. SIGTERM stops the
    server after its calls in flight. `ridges-proxy settings` lists all settings.
    """
    arguments = [sys.executable, gunicorn_script(), "--config", str(CONFIGURATION)]
    # Replace this process: it has imported modules without gevent's patches, and signals must reach gunicorn.
    os.execv(sys.executable, arguments)  # noqa: S606 # nosec B606 - a fixed command, without a shell


def gunicorn_script() -> str:
    """Return the path of gunicorn's script. At SIGUSR2 gunicorn starts the same script again."""
    beside = Path(sys.executable).with_name("gunicorn")
    found = str(beside) if beside.exists() else shutil.which("gunicorn")
    if found is None:
        raise click.ClickException("gunicorn is not installed beside this Python: pip install ridges-proxy")
    return found
