"""Where the books are kept: the forms that LEDGER_URL may have. Pure.

    memory://
    sqlite:///PATH                                   (an absolute path makes it four slashes)
    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]   (rediss:// with TLS; so below)
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]
    redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]

User and password are for the servers that keep the books, percent-encoded; sentinels have their own in the
options. Options stand behind a question mark: OPTIONS names them.
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
"""As redis-py names them. Not among them is whatever makes a client try again by itself."""

PORTS = {"redis": 6379, "sentinel": 26379, "cluster": 6379}

_SCHEME = re.compile(r"redis(s?)(?:\+(sentinel|cluster))?")
_NODE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A `redis…://` URL, taken apart."""

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
    """The URL, if it has one of the forms. Raises ValueError, worded to follow the setting's name."""
    if url != MEMORY and not re.fullmatch(SQLITE + r"[^?#\x00]+", url):
        redis_url(url)
    return url


def redis_url(url: str) -> RedisUrl:
    """Take a `redis…://` URL apart. Raises ValueError, whose text never quotes it: it has a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    scheme = _SCHEME.fullmatch(parts.scheme)
    if scheme is None or "#" in url:
        raise ValueError(
            "must be memory://, sqlite:///PATH (sqlite:////PATH where the path is absolute), or the URL of a"
            " Redis: redis://, rediss://, redis+sentinel://, redis+cluster://"
        )
    kind = scheme[2] or "redis"
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    nodes = [_node(text, PORTS[kind]) for text in hosts.split(",")]
    if kind == "redis" and len(nodes) > 1:
        raise ValueError("names several hosts: that takes redis+sentinel:// or redis+cluster://")
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


def shown(url: str) -> str:
    """The URL as a log may show it: without who logs in, and without options."""
    return re.sub(r"//[^/]*@", "//", url.partition("?")[0])


def _node(text: str, port: int) -> tuple[str, int]:
    match = _NODE.fullmatch(text)
    if match is None or not 0 < int(match[2] or port) <= 65_535:  # noqa: PLR2004 - the last port there is
        raise ValueError("has a host that is no HOST or HOST:PORT")
    return match[1].strip("[]"), int(match[2] or port)


def _path(kind: str, parts: SplitResult) -> tuple[str, int]:
    words = [unquote(word) for word in parts.path.split("/") if word]
    service = words.pop(0) if kind == "sentinel" and words else ""
    if kind == "sentinel" and not service:
        raise ValueError("needs the name that the sentinels know the service by: …/SERVICE")
    database = words.pop(0) if words and kind != "cluster" else "0"
    if words or not re.fullmatch("[0-9]{1,4}", database):
        raise ValueError("has a path that is no database")
    return service, int(database)


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise ValueError(f"has an option that is not among {', '.join(sorted(OPTIONS))}")
    return options
