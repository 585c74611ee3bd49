"""A check that the server has started the background tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ridges_proxy.server.other_servers import START
from ridges_proxy.web.request_state import request_state

if TYPE_CHECKING:
    from flask import Flask

    from ridges_proxy.ledger import Sweeper

SERVER_KEYS = frozenset({"SERVER_SOFTWARE", "uwsgi.version"})
"""Keys by which a server names itself in a request's environment. Test clients set none of them."""

logger = logging.getLogger(__name__)


class BackgroundCheck:
    """Logs an error at the first request if nothing has started the background tasks.

    A server other than gunicorn and `flask run` cannot be recognized while the app is created.
    """

    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper
        self._done = False

    def register(self, app: Flask) -> None:
        """Check before each request, until a server has sent one."""
        app.before_request(self._check)

    def _check(self) -> None:
        if self._done or SERVER_KEYS.isdisjoint(environ := request_state().request.environ):
            return
        self._done = True
        if self._sweeper.age_seconds is None:
            logger.error(
                "the background tasks were not started: the ledger is not swept, and a stop does not settle"
                " the calls in flight",
                extra={"server": environ.get("SERVER_SOFTWARE"), "detail": START},
            )
