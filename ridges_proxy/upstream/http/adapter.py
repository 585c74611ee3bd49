"""The `requests` adapter for the upstream, without the features that are unsafe for a shared client.

It is used without a Session. A Session handles cookies, redirects, netrc and proxies in each call. A client
that pays for many runs must use none of them, and handling them took longer than sending the request.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from ridges_proxy.upstream.http.connection import FreshConnections, FreshSecureConnections

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import HTTPConnectionPool

    from ridges_proxy.upstream.attempt import Attempt

CONNECT_RETRIES = Retry(total=None, connect=2, read=0, redirect=0, status=0, other=0)
"""Retry only while connecting: once the request is sent, it may have been billed."""

NO_RETRIES = Retry(total=None, connect=0, read=0, redirect=0, status=0, other=0)
"""For URLs with a secret in their path: urllib3 logs the path of a request that it sends again."""


class RequestBody(io.BytesIO):
    """A request body that records on the attempt when it is first read.

    It is read only after the connection is established, so before that nothing can have been billed.
    """

    def __init__(self, content: bytes, attempt: Attempt) -> None:
        super().__init__(content)
        self._attempt = attempt

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next bytes. The first read means that sending starts."""
        self._attempt.record_start()
        return super().read(size)


class _Response(Response):
    """A response without cookie jar, history and other unused attributes, which take 2 kB and 10 µs."""

    def __init__(self) -> None:
        self._content = False  # type: ignore[assignment] # the value in `requests` before the body is read
        self._content_consumed = False

    def close(self) -> None:
        """Give the connection back."""
        self.raw.close()


class Adapter(HTTPAdapter):
    """Adapter for a few fixed URLs. It looks up the pool and the path of each URL only once."""

    def __init__(self, connections: int, retries: Retry = CONNECT_RETRIES) -> None:
        self._pools: dict[str | None, Any] = {}
        self._paths: dict[str | None, str] = {}
        super().__init__(pool_maxsize=connections, max_retries=retries)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on unchanged
        """Create pools of FreshConnections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": FreshConnections,
            "https": FreshSecureConnections,
        }

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        *args: Any,  # noqa: ANN401 - passed on unchanged
        **kwargs: Any,  # noqa: ANN401 - the same
    ) -> HTTPConnectionPool:
        """Return the pool of the request's URL."""
        if request.url not in self._pools:
            self._pools[request.url] = super().get_connection_with_tls_context(request, *args, **kwargs)
        return cast("HTTPConnectionPool", self._pools[request.url])

    def close_idle(self) -> None:
        """Close the connections that were idle for too long. Call it regularly."""
        for pool in set(self._pools.values()):
            pool.close_idle()

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """Return the path of the request's URL; no proxies are used."""
        if request.url not in self._paths:
            self._paths[request.url] = super().request_url(request, proxies)
        return self._paths[request.url]

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:  # noqa: ANN401 - urllib3's
        """Create a response with only the attributes that are used."""
        response = _Response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        response.url = str(req.url)
        response.request = req
        return response
