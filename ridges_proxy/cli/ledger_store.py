"""The store at LEDGER_URL, for the commands that open it themselves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ridges_proxy.cli.errors import LedgerUnreachableError, UnusableSettingsError
from ridges_proxy.config import LedgerSettings, SettingsError, load_settings, read_environment
from ridges_proxy.config.ledger_url import MEMORY
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.factory import disconnecting, open_store, unavailable_text
from ridges_proxy.ledger.interface import LedgerOpeningError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger.migration import LedgerAdmin


def ledger_url() -> str:
    """Return LEDGER_URL. Raises UnusableSettingsError."""
    try:
        return load_settings(LedgerSettings, read_environment()).ledger_url
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None


@contextmanager
def opened_store(url: str) -> Iterator[LedgerAdmin]:
    """Open the store. Errors of the store become errors of the command."""
    if url == MEMORY:
        raise UnusableSettingsError(
            "memory:// is the memory of the server's process. Other processes cannot read it. Set LEDGER_URL."
        )
    try:
        settings = load_settings(LedgerSettings, {**read_environment(), "LEDGER_URL": url})
        with disconnecting(open_store(settings)) as store:
            yield store
    except SettingsError as error:
        raise UnusableSettingsError(str(error)) from None
    except LedgerOpeningError as error:
        raise LedgerUnreachableError(str(error)) from None
    except LedgerUnavailableError as error:
        raise LedgerUnreachableError(unavailable_text(url, error)) from None
