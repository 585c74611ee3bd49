"""Parser of LEDGER_URL.

The forms of the URL:

    memory://
    sqlite:///PATH                                   (an absolute path has four slashes)
    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]   (with TLS: rediss://, also below)
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]
    redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]

User and password are percent-encoded. They are for the servers with the data; those of the sentinels are
options. Options follow a question mark; OPTIONS has their names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

MEMORY = "memory://"
SQLITE = "sqlite:///"
SQLITE_MEMORY = ":memory:"

OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_check_hostname",
        "sentinel_username",
        "sentinel_password",
    }
)
"""Names as in redis-py. Options that make the client retry by itself are left out."""

DEFAULT_PORTS = {"redis": 6379, "sentinel": 26379, "cluster": 6379}

_SCHEME = re.compile(r"redis(s?)(?:\+(sentinel|cluster))?")
_NODE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The parts of a `redis…://` URL."""

    kind: str
    """redis, sentinel or cluster."""
    nodes: list[tuple[str, int]]
    tls: bool = False
    username: str | None = None
    password: str | None = None
    database: int = 0
    service: str = ""
    options: dict[str, str] = field(default_factory=dict)


def check(url: str) -> str:
    """Return the URL. Raises ValueError if it has none of the forms. The text follows the setting's name."""
    if url != MEMORY and not re.fullmatch(SQLITE + r"[^?#\x00]+", url):
        redis_url(url)
    if url.startswith(SQLITE) and SQLITE_MEMORY in url.lower():
        raise ValueError(
            f"names {SQLITE_MEMORY}, which is SQLite's memory and no file: each worker would have its own"
            f" budgets. Use {MEMORY} (one worker, forgets at a restart) or the path of a file"
        )
    return url


def redis_url(url: str) -> RedisUrl:
    """Parse a `redis…://` URL. The text of a ValueError has no part of the URL, which may have a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    scheme = _SCHEME.fullmatch(parts.scheme)
    if scheme is None or "#" in url:
        raise ValueError(
            "must be memory://, sqlite:///PATH (sqlite:////PATH if the path is absolute), or the URL of a"
            " Redis: redis://, rediss://, redis+sentinel://, redis+cluster://"
        )
    kind = scheme[2] or "redis"
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    nodes = [_node(text, DEFAULT_PORTS[kind]) for text in hosts.split(",")]
    if kind == "redis" and len(nodes) > 1:
        raise ValueError("names several hosts: use redis+sentinel:// or redis+cluster://")
    service, database = _path(kind, parts)
    return RedisUrl(
        kind,
        nodes,
        bool(scheme[1]),
        unquote(username) or None,
        unquote(password) or None,
        database,
        service,
        _options(parts),
    )


def is_of_several_servers(url: str) -> bool:
    """Return whether several servers may share the ledger."""
    return not url.startswith((MEMORY, SQLITE))


def redacted(url: str) -> str:
    """Return the URL for logs and messages: without user, password and options."""
    return re.sub(r"//[^/]*@", "//", url.partition("?")[0])


def _node(text: str, port: int) -> tuple[str, int]:
    match = _NODE.fullmatch(text)
    if match is None or not 0 < int(match[2] or port) <= 65_535:  # noqa: PLR2004 - the highest port
        raise ValueError("has a host that is not HOST or HOST:PORT")
    return match[1].strip("[]"), int(match[2] or port)


def _path(kind: str, parts: SplitResult) -> tuple[str, int]:
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    service = segments.pop(0) if kind == "sentinel" and segments else ""
    if kind == "sentinel" and not service:
        raise ValueError("needs the name of the service at the sentinels: …/SERVICE")
    database = segments.pop(0) if segments and kind != "cluster" else "0"
    if segments or not re.fullmatch("[0-9]{1,4}", database):
        raise ValueError("has a path that is not a database number")
    return service, int(database)


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise ValueError(f"has an unknown option; known are {', '.join(sorted(OPTIONS))}")
    return options
