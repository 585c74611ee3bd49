"""Responses that reach the server without the copies that Werkzeug makes for responses of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers


class ServiceResponse(Response):
    """A response with headers that the service adds to every kind of response."""

    own_headers: Sequence[tuple[str, str]] = ()
    """Names and values that the service itself has made. They are sent behind `headers`, without Werkzeug's
    search for line breaks in each value."""

    def get_wsgi_response(
        self, environ: WSGIEnvironment
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """The body, the status and the headers for the server."""
        headers = self.get_wsgi_headers(environ)
        return self.get_app_iter(environ), self.status, [*headers, *self.own_headers]


class ApiResponse(ServiceResponse):
    """A response of the API: its body is of bytes, its status allows a body, and it is no redirect.

    So its headers need no correction, and the server can read its body without a converter.
    """

    def __init__(
        self, pieces: Iterable[bytes], content_type: str, status: int = 200, size_bytes: int | None = None
    ) -> None:
        """`size_bytes` is the size of the body if it is known."""
        super().__init__(pieces, status, content_type=content_type)
        if size_bytes is not None:
            self.headers.add("Content-Length", str(size_bytes))

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:  # noqa: ARG002 - Werkzeug's signature
        """The headers themselves, where Werkzeug makes a corrected copy."""
        return self.headers

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """The body as it is; none for HEAD."""
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().get_app_iter(environ)
        return _Body(self.response, self.close)  # type: ignore[arg-type] # of bytes only


class _Body:
    """A body that the server iterates and closes."""

    def __init__(self, pieces: Iterable[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)
