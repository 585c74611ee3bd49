"""Errors of the commands, each with its exit status."""

from __future__ import annotations

import click


class SpendError(click.ClickException):
    """A command failed. The help of the command documents the exit status of each subclass."""


class NotConfirmedError(SpendError):
    """The user did not confirm."""

    exit_code = 1


class DifferencesError(SpendError):
    """A bill and the books differ."""

    exit_code = 1


class UnusableFileError(SpendError):
    """A file cannot be read."""

    exit_code = 2


class UnusableSettingsError(SpendError):
    """Settings are missing or invalid."""

    exit_code = 2


class ServerUnreachableError(SpendError):
    """No server answers at PROXY_URL."""

    exit_code = 3


class LedgerUnreachableError(SpendError):
    """The ledger cannot be opened, or does not answer."""

    exit_code = 3


class LedgerProblemError(SpendError):
    """The ledger is inconsistent, or the settings of its store need attention."""

    exit_code = 4


class KeyRefusedError(SpendError):
    """ADMIN_API_KEY differs from the server's."""

    exit_code = 4


class RunUnknownError(SpendError):
    """The server does not know the run."""

    exit_code = 5


class BudgetUnknownError(SpendError):
    """The server does not know the budget."""

    exit_code = 5


class SessionUnknownError(SpendError):
    """The server does not know the session."""

    exit_code = 5


class ServerRefusedError(SpendError):
    """Any other refusal, or an answer that is not from the proxy."""

    exit_code = 6
