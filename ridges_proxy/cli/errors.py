"""Why a command could not be done; each kind has its exit status."""

from __future__ import annotations

import click


class SpendError(click.ClickException):
    """The command cannot be done; each kind owns its exit status, which the command's help documents."""


class NotConfirmedError(SpendError):
    """Nobody said yes."""

    exit_code = 1


class UnusableSettingsError(SpendError):
    """Settings that are missing or do not fit."""

    exit_code = 2


class ServerUnreachableError(SpendError):
    """Nothing answers at PROXY_URL."""

    exit_code = 3


class BooksUnreachableError(SpendError):
    """The store of the books cannot be opened, or does not answer."""

    exit_code = 3


class BooksWrongError(SpendError):
    """The books do not add up, or their store should be mended."""

    exit_code = 4


class KeyRefusedError(SpendError):
    """ADMIN_API_KEY is not the server's."""

    exit_code = 4


class RunUnknownError(SpendError):
    """The server does not know the run."""

    exit_code = 5


class ServerRefusedError(SpendError):
    """Any other refusal, or an answer that is not the proxy's."""

    exit_code = 6
