"""`ridges-proxy reload`: check the settings, let the running server read them, and wait for it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.command_help import Command, examples
from ridges_proxy.cli.errors import SpendError
from ridges_proxy.cli.running_settings import differences, running_settings
from ridges_proxy.cli.settings import print_check
from ridges_proxy.cli.settings_check import check_settings

if TYPE_CHECKING:
    from ridges_proxy.cli.answer_types import RunningSettings
    from ridges_proxy.config import Settings

POLL_SECONDS = 0.2


class ReloadError(click.ClickException):
    """The settings are not in force."""


@click.command(
    "reload",
    cls=Command,
    epilog=examples("ridges-proxy reload 4711", "ridges-proxy reload 4711 --timeout 300"),
)
@click.argument("pid", type=click.IntRange(2), required=False, envvar="MAINPID")
@click.option(
    "--timeout",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(1, 3600),
    default=60,
    show_default=True,
    help="How long to wait for the new settings, in seconds.",
)
def reload(pid: int | None, seconds: float) -> None:
    """Let the running server read its settings again.

    The settings are checked first, and the command waits until they are in force. PID is the server's main
    process; systemd gives it to ExecReload as MAINPID. The server is asked at PROXY_URL with ADMIN_API_KEY.
    If a setting has a problem, the server gets no signal.

    \b
    Exit status:
      0  the settings are in force; without ADMIN_API_KEY: the signal was sent
      1  they have problems, or they are not in force: the message says why
      2  wrong usage
    """  # noqa: D301 - keeps click from wrapping these lines
    if pid is None:
        raise click.UsageError(
            "name the process of the server: ridges-proxy reload PID."
            " A service of systemd: systemctl reload ridges-proxy"
        )
    checked = check_settings()
    print_check(checked)
    if checked.settings is None:
        raise ReloadError("Nothing was reloaded: the previous settings stay in force.")
    before = _look(checked.settings)
    _send_signal(pid, before)
    if checked.settings.admin_api_key is None:
        click.echo(
            "The server got the signal. Whether it uses the settings cannot be seen without ADMIN_API_KEY."
        )
        return
    _wait(checked.settings, pid, before, seconds)
    click.echo("The settings are in force.")


def _look(settings: Settings) -> RunningSettings | None:
    """Return what runs; None if it cannot be seen."""
    try:
        return running_settings(settings)
    except SpendError:
        return None


def _send_signal(pid: int, running: RunningSettings | None) -> None:
    """Send SIGHUP to a server's main process only: it would end any other process."""
    if running and pid in [worker["pid"] for worker in running["workers"]]:
        raise ReloadError(f"Process {pid} is a worker. Name the server's main process, its parent.")
    try:
        with suppress(FileNotFoundError):  # the sandbox of a systemd unit hides all processes in /proc
            if b"gunicorn" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                raise ReloadError(f"Process {pid} is not a server of this project: it got no signal.")
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        raise ReloadError(f"There is no process {pid}. Is the server running?") from None
    except PermissionError:
        raise ReloadError(
            f"Process {pid} belongs to another user: run this as that user or as root."
        ) from None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait(settings: Settings, pid: int, before: RunningSettings | None, seconds: float) -> None:
    """Wait until all workers that accept connections have the settings."""
    end = time.monotonic() + seconds
    while True:
        try:
            running = running_settings(settings)
        except SpendError as error:
            reason = error.message
            if not _is_running(pid):
                raise ReloadError(f"The server, process {pid}, has ended: see its log. {reason}") from None
        else:
            reason = _missing(settings, before, running)
            if not reason:
                return
        if time.monotonic() > end:
            raise ReloadError(f"The settings are not in force after {seconds:g} s. {reason}")
        time.sleep(POLL_SECONDS)


def _missing(settings: Settings, before: RunningSettings | None, running: RunningSettings) -> str:
    """Return what is still missing, "" if nothing. Raises ReloadError if more time cannot help."""
    if before and running["reloads"] == before["reloads"]:
        return "The server has not handled the signal yet: an earlier reload may still end calls in flight."
    if before and running["problems"]:
        problems = "\n  ".join(running["problems"])
        raise ReloadError(f"The server refused the settings. The previous ones stay in force:\n  {problems}")
    if not running["workers"] or not all(worker["current"] for worker in running["workers"]):
        return "Not all workers have them yet: see the server's log."
    names = differences(settings, running)
    if names and before:
        raise ReloadError(
            f"The server has other values than those that are read here: {', '.join(names)}."
            " It reads its own environment, SETTINGS_FILE and CREDENTIALS_DIRECTORY."
        )
    return f"Other values are in force: {', '.join(names)}." if names else ""
