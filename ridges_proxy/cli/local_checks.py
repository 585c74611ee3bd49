"""What `flask doctor` looks at on its own machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.cli.findings import Finding, failed, ok, warning
from ridges_proxy.config.ledger_url import MEMORY, SQLITE, shown
from ridges_proxy.ledger import LedgerOpeningError, check_ledger_store
from ridges_proxy.runtime.file_limits import is_enough, needed_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.config import Settings

SPARE_BYTES = 1 << 30
"""Of the ledger's disk: a million runs take some 100 MB, and as much again while a log is written back."""


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Open the books and write to them, as the server does at its start."""
    url = settings.ledger_url
    if url == MEMORY:
        yield warning(
            "ledger", "memory://: a restart forgets what runs have spent", "set LEDGER_URL, in production"
        )
        return
    if url.startswith(SQLITE):
        reason = _leave_alone(Path(url.removeprefix(SQLITE)))
        if reason:
            yield reason
            return
    try:
        worries = check_ledger_store(settings)
    except LedgerOpeningError as error:
        yield failed("ledger", str(error), "mend what it says; flask ledger check tells more")
        return
    yield ok("ledger", f"{shown(url)} answers, and can be written to")
    for worry in worries:
        yield warning("ledger", worry, "mend it in the store's own settings")
    if url.startswith(SQLITE):
        yield _disk(Path(url.removeprefix(SQLITE)))


def _leave_alone(path: Path) -> Finding | None:
    """Why a file is not opened: who makes it, or its log, owns it, and the service might not write to it."""
    if not path.exists():
        if os.access(path.parent, os.W_OK | os.X_OK):
            return ok("ledger", f"{path} is not there yet: the server makes it at its first start")
        return failed(
            "ledger", f"{path.parent} is no folder that can be written to", "make it, for the service's user"
        )
    owner = path.stat().st_uid
    if owner != os.geteuid():
        return warning(
            "ledger", f"{path} belongs to another user, and was left alone", f"ask again as user {owner}"
        )
    return None


def _disk(path: Path) -> Finding:
    space = os.statvfs(path.parent)
    free = space.f_bavail * space.f_frsize
    if free < SPARE_BYTES:
        return warning(
            "disk",
            f"{free >> 20} MiB are free where the ledger is",
            "make room: a full disk refuses all calls",
        )
    return ok("disk", f"{free >> 30} GiB are free where the ledger is")


def check_files(settings: Settings) -> Iterator[Finding]:
    """Whether as many files may be open as calls in flight need; what a service gets is its own setting."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_files(settings.max_concurrent_calls)
    if is_enough(most, settings.max_concurrent_calls):
        yield ok("open files", f"{most} are allowed here, {needed} needed for MAX_CONCURRENT_CALLS")
    else:
        yield warning(
            "open files", f"{most} are allowed here, {needed} needed", "raise LimitNOFILE, or ulimit -n"
        )
