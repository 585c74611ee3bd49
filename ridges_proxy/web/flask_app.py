"""The Flask application class of the proxy."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from flask import Flask

from ridges_proxy.web.error_hints import KnownRoutes
from ridges_proxy.web.request_state import RequestState

if TYPE_CHECKING:
    from collections.abc import Callable


class ProxyFlask(Flask):
    """A Flask application without coroutine views, which knows its routes."""

    app_ctx_globals_class = RequestState

    @cached_property
    def known_routes(self) -> KnownRoutes:
        """The routes that hints may name. All routes are registered before the first request."""
        return KnownRoutes(self.url_map)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function unchanged. Flask's check for coroutines took 10 µs a request (eight calls)."""
        return func
