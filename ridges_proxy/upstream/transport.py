"""Connections to the upstream: `requests`, with what is unsafe for a paying, shared client turned off."""

from __future__ import annotations

import io
import time
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry

if TYPE_CHECKING:
    from ridges_proxy.upstream.attempt import Attempt

MAX_IDLE_SECONDS = 4.0
"""A pooled connection idle for longer is not used again: uvicorn, with the shortest limit in the field,
closes its own after 5, and a request written into a connection that is just closing may be billed."""

CONNECT_RETRIES = Retry(total=None, connect=2, read=0, redirect=0, status=0, other=0)
"""Only what never reached the upstream is tried again: anything later may have been billed."""


class RequestBody(io.BytesIO):
    """A request's body that notes on the attempt when its first byte is asked for.

    http.client asks for it once the connection stands and the headers are written, so until then
    nothing can have been billed.
    """

    def __init__(self, content: bytes, attempt: Attempt) -> None:
        super().__init__(content)
        self._attempt = attempt

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on; the first time means that the body begins to leave."""
        self._attempt.begin()
        return super().read(size)


class _FreshConnections(HTTPConnectionPool):
    """Drops a connection that has been idle for MAX_IDLE_SECONDS instead of handing it out."""

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401 - the same
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - a base class that urllib3 keeps private
        conn: Any = super()._get_conn(timeout)
        if time.monotonic() - getattr(conn, "idle_since", time.monotonic()) > MAX_IDLE_SECONDS:
            conn.close()  # it connects anew when used
        return conn


class _FreshSecureConnections(_FreshConnections, HTTPSConnectionPool):
    pass


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they come
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _FreshConnections,
            "https": _FreshSecureConnections,
        }


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Answer that there is none: even where it follows none, `requests` reads a redirect's whole body."""


def open_session(connections: int) -> requests.Session:
    """A session for many tenants: no cookies, no netrc, no proxies from the environment, no blocking pool."""
    session = _Session()
    session.trust_env = False
    session.cookies = RequestsCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(pool_connections=4, pool_maxsize=connections, max_retries=CONNECT_RETRIES)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
