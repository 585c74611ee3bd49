"""The small part of HTTP/1.1 that reads requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from .connection import Connection

BEARER = "bearer "


class MalformedRequestError(Exception):
    """Input that is not HTTP. The start of the next request cannot be found."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    keep_alive: bool

    @property
    def token(self) -> str:
        """The Bearer token, or an empty string."""
        value = self.headers.get("authorization", "")
        return value[len(BEARER) :].strip() if value.lower().startswith(BEARER) else ""


def read_request(connection: Connection) -> Request:
    """Wait for the next request and read all of it."""
    first, *lines = connection.take_until(b"\r\n\r\n").decode("latin-1").lstrip("\r\n").split("\r\n")
    try:
        method, target, version = first.split(" ")
        headers = dict(_header(line) for line in lines)
        body = _read_body(connection, headers)
    except ValueError as error:
        raise MalformedRequestError from error
    url = urlsplit(target)
    keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Request(method, url.path, dict(parse_qsl(url.query)), headers, body, keep_alive)


def _header(line: str) -> tuple[str, str]:
    name, value = line.split(":", 1)
    return name.strip().lower(), value.strip()


def _read_body(connection: Connection, headers: dict[str, str]) -> bytes:
    if headers.get("expect", "").lower() == "100-continue":
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _read_chunks(connection)
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise ValueError(length)
    return connection.take(int(length))


def _read_chunks(connection: Connection) -> bytes:
    body = b""
    while size := int(connection.take_until(b"\r\n").split(b";")[0], 16):
        body += connection.take(size)
        connection.take(2)
    while connection.take_until(b"\r\n"):  # trailers
        pass
    return body
