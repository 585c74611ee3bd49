"""Hints in errors: what a caller that used a wrong path, method, model or key has to correct.

A hint has names of routes and of models only, and never a part of the request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.exceptions import MethodNotAllowed

from ridges_proxy.errors import BudgetExhaustedError, InvalidApiKeyError, ModelNotSupportedError
from ridges_proxy.runtime.similar_names import most_similar_first, similarity

if TYPE_CHECKING:
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import Map

    from ridges_proxy.errors import ProxyError

MAX_NAMED_MODELS = 10

MIN_SIMILARITY = 0.75
"""Between a path and the route that a hint names."""

OPENAI_PREFIX = "/v1/"
BASE_URL = "OpenAI clients need a base URL that ends with /v1"
ALL_ROUTES = "GET /docs shows all routes"
KEY_MISSING = "The request has no key: send Authorization: Bearer KEY"
KEY_REFUSED = "A run token may have expired, or its run is closed: the server's log has the reason"
"""The same for every key that could be a token, also a forged one."""

FINAL_PART_KEPT = "A part of it is kept for the run's final call: send that one with X-Final-Call: 1"

_OPERATORS = ("admin.", "admin_budgets.", "dashboard.", "metrics.")
"""Beginnings of the endpoints that no hint names."""

_ALWAYS_ALLOWED = frozenset({"HEAD", "OPTIONS"})


def hint_of(error: ProxyError) -> str:
    """The hint of an error; empty if its message says everything."""
    if isinstance(error, InvalidApiKeyError) and error.reason is not None:
        return KEY_MISSING if error.is_missing else KEY_REFUSED
    if isinstance(error, BudgetExhaustedError) and error.keeps_final_part:
        return FINAL_PART_KEPT
    if isinstance(error, ModelNotSupportedError) and error.supported:
        return _models_hint(error.model, error.supported)
    return ""


def http_hint_of(error: HTTPException, route: str | None) -> str:
    """The hint of an error that Flask found. `route` is that which `KnownRoutes` found for the path."""
    if isinstance(error, MethodNotAllowed):
        allowed = sorted(set(error.valid_methods or ()) - _ALWAYS_ALLOWED)
        return f"Allowed here: {', '.join(allowed)}" if allowed else ""
    return _path_hint(route) if error.code == HTTPStatus.NOT_FOUND else ""


class KnownRoutes:
    """The routes for callers and monitors that have no variable part."""

    def __init__(self, url_map: Map) -> None:
        """Read the routes of an app. Later ones are not known."""
        routes = [
            rule.rule
            for rule in url_map.iter_rules()
            if not rule.arguments and rule.rule != "/" and not rule.endpoint.startswith(_OPERATORS)
        ]
        self._routes = sorted(routes, key=len)
        self._by_end: dict[tuple[str, ...], str] = {}
        """The shortest route of each end, in parts."""
        for route in self._routes:
            parts = _parts(route)
            for start in range(len(parts)):
                self._by_end.setdefault(parts[start:], route)
        self._longest = max(map(len, self._by_end))

    def near(self, path: str) -> str | None:
        """The route that a wrong path seems to mean; None if no route is near.

        A base URL that lacks a part, has too much in front, or has a slash too many still ends with the name
        of the route: the route with the longest common end is meant.
        """
        parts = _parts(path)
        for count in range(min(len(parts), self._longest), 0, -1):
            if route := self._by_end.get(parts[-count:]):
                return route
        plain_path = "/" + "/".join(parts)
        nearest = most_similar_first(plain_path, self._routes)[0]
        return nearest if similarity(plain_path, nearest) >= MIN_SIMILARITY else None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path.split("/") if part)


def _path_hint(route: str | None) -> str:
    if route is None:
        return ALL_ROUTES
    base_url = f" {BASE_URL}." if route.startswith(OPENAI_PREFIX) else ""
    return f"Did you mean {route}?{base_url} {ALL_ROUTES}"


def _models_hint(model: str, supported: list[str]) -> str:
    named = most_similar_first(model, supported)[:MAX_NAMED_MODELS]
    more = len(supported) - len(named)
    return "Supported here, the closest first: " + ", ".join(named) + (f", and {more} more" if more else "")
