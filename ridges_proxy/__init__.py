"""Ridges AI Proxy: an HTTP proxy that gives each agent run a hard spending limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from ridges_proxy.config import Settings
    from ridges_proxy.ledger import Ledger


def create_app(settings: Settings | None = None, ledger: Ledger | None = None) -> Flask:
    """Create the app (see `ridges_proxy.web.app.create_app`)."""
    # Imported here, because the commands of the command line need no web server: it takes a second to import.
    from ridges_proxy.web import app  # noqa: PLC0415

    return app.create_app(settings, ledger)
