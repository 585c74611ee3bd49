"""The settings of the commands that talk to a running server."""

from __future__ import annotations

from dataclasses import dataclass

from ridges_proxy.config import parsers
from ridges_proxy.config.field import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientSettings:
    """Settings that the command line needs to reach a running server."""

    proxy_url: str = setting(
        "PROXY_URL",
        parsers.url,
        "http://127.0.0.1:8000",
        "URL at which the command line reaches the running server.",
    )
    admin_api_key: str | None = setting(
        "ADMIN_API_KEY",
        parsers.optional(parsers.secret),
        "",
        "Key of the operators' routes (/admin, /dashboard, /metrics) and of the command line. If it is"
        " empty, these routes do not exist.",
        secret=True,
    )
