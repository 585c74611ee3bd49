"""Checks of `ridges-proxy doctor` on this machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.billing.price_units import WARNING, models_priced_per_token
from ridges_proxy.cli.findings import Finding, failed, ok, warning
from ridges_proxy.cli.settings_check import store_warnings
from ridges_proxy.config.ledger_url import MEMORY, SQLITE, redacted
from ridges_proxy.ledger import LedgerOpeningError
from ridges_proxy.ledger.sqlite.admin import MIN_FREE_BYTES, free_bytes
from ridges_proxy.runtime.file_limits import is_enough, needed_files
from ridges_proxy.server.request_head import C_PARSER, c_parser_version, is_used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.config import Settings


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Open the ledger and write to it, as the server does at its start."""
    url = settings.ledger_url
    if url == MEMORY:
        yield warning(
            "ledger", "memory://: a restart forgets what runs have spent", "set LEDGER_URL in production"
        )
        return
    if url.startswith(SQLITE):
        finding = _check_file_of_ledger(Path(url.removeprefix(SQLITE)))
        if finding:
            yield finding
            return
    try:
        problems = store_warnings(settings)
    except LedgerOpeningError as error:
        yield failed("ledger", str(error), "correct this; `ridges-proxy ledger check` prints more")
        yield from _low_disk(url)
        return
    yield ok("ledger", f"{redacted(url)} answers and accepts writes")
    for problem in problems:
        yield warning("ledger", problem, "correct it in the store or on its disk: calls depend on it")
    if url.startswith(SQLITE):
        yield from _disk(Path(url.removeprefix(SQLITE)))


def _check_file_of_ledger(path: Path) -> Finding | None:
    """Return a finding if the file must not be opened, else None.

    Opening creates the file or its log. They would belong to this user, and the service could not write to
    them.
    """
    if not path.exists():
        if os.access(path.parent, os.W_OK | os.X_OK):
            return ok("ledger", f"{path} does not exist yet: the server creates it at its first start")
        return failed(
            "ledger",
            f"{path.parent} is not a folder, or not writable",
            "create it for the user of the service",
        )
    owner = path.stat().st_uid
    if os.geteuid() not in {owner, 0}:  # SQLite gives the files that root makes to the owner
        return warning(
            "ledger", f"{path} belongs to another user and was not opened", f"run the doctor as user {owner}"
        )
    return None


def _low_disk(url: str) -> Iterator[Finding]:
    """State that little space is free: probably this is why the ledger cannot be used."""
    if url.startswith(SQLITE) and (free := free_bytes(Path(url.removeprefix(SQLITE)))) < MIN_FREE_BYTES:
        message = f"only {free >> 20} MiB are free on the ledger's disk"
        yield failed("disk", message, "make room on it: the service goes on by itself")


def _disk(path: Path) -> Iterator[Finding]:
    """State the free space. The check of the ledger has warned if it is low."""
    free = free_bytes(path)
    if free >= MIN_FREE_BYTES:
        yield ok("disk", f"{free >> 30} GiB are free on the ledger's disk")


def check_files(settings: Settings) -> Iterator[Finding]:
    """Check the limit of open files against MAX_CONCURRENT_CALLS. A systemd service may have another."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_files(settings.max_concurrent_calls)
    if is_enough(limit, settings.max_concurrent_calls):
        yield ok("open files", f"{limit} are allowed here, {needed} are needed for MAX_CONCURRENT_CALLS")
    else:
        yield warning(
            "open files", f"{limit} are allowed here, {needed} are needed", "raise LimitNOFILE or ulimit -n"
        )


def check_parser(_settings: Settings) -> Iterator[Finding]:
    """Say which parser reads the heads of requests in a server of this environment."""
    version = c_parser_version()
    if version is None or is_used(version):
        yield ok("parser", f"{C_PARSER} {version}, in C" if version else "gunicorn's own, in Python")
    else:
        yield warning(
            "parser", f"{C_PARSER} {version} is too old and not used", "pip install 'ridges-proxy[fast]'"
        )


def check_price_units(settings: Settings) -> Iterator[Finding]:
    """Find prices that seem to be per token. The comparison with the upstream needs a network."""
    for model in models_priced_per_token(settings.model_prices):
        yield warning("prices", f"{model}: {WARNING}", "multiply it by a million in MODEL_PRICES")
