"""Request heads, read by a parser written in C where it and gunicorn's own parser agree."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from packaging.version import Version

C_PARSER = "gunicorn_h1c"
"""The package of the extra `fast`."""

OLDEST_C_PARSER = Version("0.6.10")
"""Older versions accept folded headers, and lines that end with LF only. Gunicorn uses any from 0.4.1."""


def c_parser_version() -> Version | None:
    """Return the version of the installed C parser, or None without one."""
    try:
        return Version(importlib.metadata.version(C_PARSER))
    except importlib.metadata.PackageNotFoundError:
        return None


def http_parser() -> str:
    """Return gunicorn's setting `http_parser`: "auto" with a C parser that is new enough, or "python"."""
    return "auto" if is_used(c_parser_version()) else "python"


def is_used(version: Version | None) -> bool:
    """Whether this version of the C parser is new enough."""
    return version is not None and version >= OLDEST_C_PARSER


class RequestHead(Request):
    """A request whose head is read by one of two parsers, with the same result.

    The C parser can only accept. A head that it refuses, or that gunicorn's own parser might refuse, is read
    again by that one. So nothing more is accepted, and each refusal is the same.
    """

    def _parse_fast(self, unreader: Any, buf: bytearray) -> bytes:  # noqa: ANN401 - gunicorn's has no type
        """Read a head that begins in the buffer. Returns what has arrived behind it."""
        rest = self._parse_arrived(buf)
        if rest is None:
            rest = self._parse_python(unreader, buf)  # type: ignore[attr-defined] # not in gunicorn's types
        return rest

    def _parse_arrived(self, buf: bytearray) -> bytes | None:
        """Read a head that is whole in the buffer. Returns None if the other parser must read it."""
        try:
            rest: bytes = super()._parse_fast(IterUnreader(()), buf)  # type: ignore[misc] # not in its types
        except (ParseException, NoMoreData):
            return None
        return rest if self._is_plain(buf, len(buf) - len(rest)) else None

    def _is_plain(self, buf: bytearray, head_bytes: int) -> bool:
        """Whether the request line has single spaces, and each header is within its limit.

        The C parser accepts more spaces, and does not count those around the value of a header.
        """
        line = f"{self.method} {self.uri} HTTP/"
        return head_bytes <= self.limit_request_field_size and buf.startswith(line.encode("latin-1"))
