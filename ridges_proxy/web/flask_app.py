"""The Flask application class of the proxy."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import BaseConverter, MapAdapter, Rule
from werkzeug.sansio.utils import get_host

from ridges_proxy.web.error_hints import KnownRoutes
from ridges_proxy.web.request_state import RequestState
from ridges_proxy.web.service_response import ServiceResponse

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HOSTS = 16
"""Hosts whose names stay checked: a server has few, but a caller may send any."""

NO_SESSION = NullSession()
"""The session of all requests that have none. Nothing can be written to it."""


class NoSessions(SessionInterface):
    """For an application without sessions: no cookie is read or set."""

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002 - Flask's signature
        """The empty session."""
        return NO_SESSION


class TextConverter(BaseConverter):
    """Matches every run id and every name of a model.

    Werkzeug's `path` converter refuses a text that begins with a slash or contains a line feed.
    """

    regex = r"(?s:.+?)"
    part_isolating = False


class ProxyRule(Rule):
    """A route that knows its blueprints: Flask asks for them at each stage of a request."""

    def __init__(self, string: str, **options: Any) -> None:  # noqa: ANN401 - Werkzeug's
        super().__init__(string, **options)
        *blueprints, _ = str(self.endpoint).split(".")
        self.blueprints = [".".join(blueprints[:length]) for length in range(len(blueprints), 0, -1)]
        """Their names, the innermost first."""


class ProxyRequest(Request):
    """A request that takes from its route what Flask computes from the route's name."""

    url_rule: ProxyRule | None = None

    @property
    def blueprints(self) -> list[str]:
        """The names of the route's blueprints."""
        return [] if self.url_rule is None else self.url_rule.blueprints

    def close(self) -> None:
        """Close the files of a form, if the request was read as one."""
        if "files" in self.__dict__:
            super().close()


class ProxyFlask(Flask):
    """A Flask application without coroutine views, which knows its routes."""

    app_ctx_globals_class = RequestState
    request_class = ProxyRequest
    url_rule_class = ProxyRule  # type: ignore[assignment] # mypy compares the parameters of the constructors
    response_class = ServiceResponse
    session_interface = NoSessions()

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        self.url_map.converters["text"] = TextConverter
        self._server_name = lru_cache(MAX_HOSTS)(self._checked_server_name)

    @cached_property
    def known_routes(self) -> KnownRoutes:
        """The routes that hints may name. All routes are registered before the first request."""
        return KnownRoutes(self.url_map)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function unchanged. Flask's check for coroutines took 10 µs a request (eight calls)."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """The adapter that finds the route. Flask's own checks and encodes the same host for each request.

        Raises BadHost, as Flask's does.
        """
        if request is None or "HTTP_UPGRADE" in request.environ:
            return super().create_url_adapter(request)
        environ = request.environ
        return MapAdapter(
            self.url_map,
            self._server_name(request.scheme, environ.get("HTTP_HOST"), request.server),
            request.root_path,
            self.url_map.default_subdomain,
            request.scheme,
            request.path if environ.get("PATH_INFO", "/") else "",
            request.method,
            request.query_string.decode(errors="replace"),
        )

    def _checked_server_name(self, scheme: str, host: str | None, server: tuple[str, int | None]) -> str:
        """The host with its port, as redirects name it. Raises BadHost."""
        return self.url_map.bind(get_host(scheme, host, server)).server_name
