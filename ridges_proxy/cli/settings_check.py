"""Check of the settings, as a server makes it at its start and at a reload."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.config import (
    Settings,
    SettingsError,
    doubts,
    load_settings,
    read_environment,
    unknown_names,
)
from ridges_proxy.config.ledger_url import SQLITE
from ridges_proxy.ledger import LedgerOpeningError, check_ledger_store

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class CheckedSettings:
    """The result of the check."""

    settings: Settings | None
    """None if they have problems."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_settings() -> CheckedSettings:
    """Read the settings and open the ledger. Returns all problems and warnings."""
    try:
        settings = load_settings(Settings, read_environment())
        warnings = unknown_names() + doubts(settings)
    except SettingsError as error:
        return CheckedSettings(None, error.problems)
    try:
        warnings += store_warnings(settings)
    except LedgerOpeningError as error:
        return CheckedSettings(None, [f"The ledger cannot be opened: {error}"], warnings)
    return CheckedSettings(settings, [], warnings)


def store_warnings(settings: Settings) -> list[str]:
    """Open the ledger and write to it. Returns warnings about its store. Raises LedgerOpeningError."""
    with _new_files_to_the_owner(settings):
        return check_ledger_store(settings)


@contextmanager
def _new_files_to_the_owner(settings: Settings) -> Iterator[None]:
    """Give files that root creates to the owner of their folder: the service could not write to root's.

    SQLite itself gives the log of a ledger that exists to the ledger's owner.
    """
    new = [path for path in _files_of(settings) if not path.exists()]
    try:
        yield
    finally:
        for path in new:
            if os.geteuid() == 0 and path.exists():
                folder = path.absolute().parent.stat()
                os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def _files_of(settings: Settings) -> Iterator[Path]:
    """Yield the files on this machine that opening the ledger may create."""
    if settings.ledger_url.startswith(SQLITE):
        ledger = settings.ledger_url.removeprefix(SQLITE)
        yield from (Path(ledger + suffix) for suffix in ("", "-wal", "-shm"))
    if settings.ledger_outbox is not None:
        yield Path(settings.ledger_outbox)
