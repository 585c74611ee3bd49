"""Connections to the upstream: `requests`, with what is unsafe for a paying, shared client turned off.

Its adapter is used without a Session: that would look for cookies, redirects, netrc and proxies at each call,
none of which a client has that pays for many tenants, and take longer than the sending.
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
"""Only what never reached the upstream is tried again: anything later may have been billed."""


class RequestBody(io.BytesIO):
    """A request's body that notes on the attempt when its first byte is asked for.

    It is asked for once the connection stands, so until then nothing can have been billed.
    """

    def __init__(self, content: bytes, attempt: Attempt) -> None:
        super().__init__(content)
        self._attempt = attempt

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on; the first time means that the body begins to leave."""
        self._attempt.begin()
        return super().read(size)


class _Answer(Response):
    """What is looked at of an answer. A jar for cookies, a history and the like would take 2 kB and 10 µs."""

    def __init__(self) -> None:
        self._content = False  # type: ignore[assignment] # as requests has it, until it is read
        self._content_consumed = False


class Adapter(HTTPAdapter):
    """Sends prepared requests to the few URLs there are; what depends on a URL alone is found once."""

    def __init__(self, connections: int) -> None:
        self._pools: dict[str | None, Any] = {}
        self._paths: dict[str | None, str] = {}
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=CONNECT_RETRIES)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they come
        """Make the pools of our kinds."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": FreshConnections,
            "https": FreshSecureConnections,
        }

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        *args: Any,  # noqa: ANN401 - passed on as they come
        **kwargs: Any,  # noqa: ANN401 - the same
    ) -> HTTPConnectionPool:
        """Return the pool of the request's URL."""
        if request.url not in self._pools:
            self._pools[request.url] = super().get_connection_with_tls_context(request, *args, **kwargs)
        return cast("HTTPConnectionPool", self._pools[request.url])

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """Return the path to ask for; there are no proxies."""
        if request.url not in self._paths:
            self._paths[request.url] = super().request_url(request, proxies)
        return self._paths[request.url]

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:  # noqa: ANN401 - urllib3's
        """Put together what is looked at of an answer."""
        response = _Answer()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        response.url = str(req.url)
        response.request = req
        return response
