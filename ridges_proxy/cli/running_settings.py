"""The settings of the running server, compared with those that a command reads."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ridges_proxy.cli.client import AdminClient
from ridges_proxy.cli.errors import KeyRefusedError, UnusableSettingsError
from ridges_proxy.config.digests import differing, digests_of

if TYPE_CHECKING:
    from ridges_proxy.cli.answer_types import RunningSettings
    from ridges_proxy.config import Settings


def running_settings(settings: Settings) -> RunningSettings:
    """Return what the server at PROXY_URL answers, over a new connection. Raises a SpendError."""
    if settings.admin_api_key is None:
        raise UnusableSettingsError("ADMIN_API_KEY is not set.")
    if settings.admin_api_key_previous is not None:
        # While keys change, a server before and after the reload accepts the previous one.
        with suppress(KeyRefusedError):
            return AdminClient(settings.proxy_url, settings.admin_api_key_previous).settings()
    return AdminClient(settings.proxy_url, settings.admin_api_key).settings()


def differences(settings: Settings, running: RunningSettings) -> list[str]:
    """Return the names of the settings whose values differ from the server's."""
    return differing(digests_of(settings, settings.admin_api_key or ""), running["settings"])
