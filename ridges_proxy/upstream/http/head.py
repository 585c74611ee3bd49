"""Heads of responses, checked and rewritten by RFC 9112 before llhttp parses them. Pure.

llhttp refuses some heads that a client has to accept: folded lines, a repeated length, both framings. It
accepts some that are invalid: unknown transfer codings, another major version.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3._collections import HTTPHeaderDict

MAX_HEAD_BYTES = 65_536
"""Limit of a head. No line and no field can be longer. http.client allows as many in each line."""

MAX_FIELDS = 100
"""Limit as in http.client."""

MAX_LENGTH_DIGITS = 18
"""More digits than any real length has."""

HEAD_END = re.compile(rb"\n\r?\n")
"""The end of a head. llhttp refuses a line that ends without CR, so it sees such a head at once."""

_PROTOCOL = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n(?![ \t])")
_FOLD = re.compile(rb"[ \t]*\r\n[ \t]+")
_LENGTH = re.compile(rb"\r\ncontent-length:([^\r\n]*)", re.IGNORECASE)
_CODING = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


def check_start(start: bytes) -> None:
    """Refuse what cannot become a head, without waiting for its end."""
    if start[: len(_PROTOCOL)] != _PROTOCOL[: len(start)]:
        raise BadStatusLine(repr(start[:80]))
    if len(start) > MAX_HEAD_BYTES:
        raise HTTPException(f"a head of more than {MAX_HEAD_BYTES} bytes")


def rewrite(head: bytes) -> bytes:
    """Return the head in the form that llhttp reads as RFC 9112 demands. Raises HTTPException if invalid."""
    check_start(head)
    status_line = _STATUS_LINE.match(head)
    if status_line is None:
        raise BadStatusLine(repr(head[:80]))
    if status_line[1] > b"1":  # RFC 9110, 2.5: a higher minor version is read as the highest known one
        head = _PROTOCOL + b"1" + head[len(_PROTOCOL) + 1 :]
    if head.count(b"\n") > MAX_FIELDS + 2:  # the status line and the empty line
        raise HTTPException(f"more than {MAX_FIELDS} fields")
    if _FOLD.search(head):  # RFC 9112, 5.2: a folded line continues the one before
        head = _FOLD.sub(b" ", head)
    return _with_one_framing(head)


def _with_one_framing(head: bytes) -> bytes:
    """Return the head with either a transfer coding or one length (RFC 9112, 6.3)."""
    lengths = _LENGTH.findall(head)
    if not lengths:
        return head
    if _CODING.search(head):
        return _LENGTH.sub(b"", head)
    values = {_length_bytes(value) for field in lengths for value in field.split(b",")}
    if len(values) > 1:
        raise HTTPException("different lengths")
    if len(lengths) == 1 and b"," not in lengths[0]:
        return head
    return _LENGTH.sub(b"", head)[: -len(b"\r\n")] + b"Content-Length: %d\r\n\r\n" % values.pop()


def _length_bytes(value: bytes) -> int:
    digits = value.strip(b" \t")
    if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
        raise HTTPException("an invalid length")
    return int(digits)


def has_length(head: bytes) -> bool:
    """Whether a head names a length."""
    return _LENGTH.search(head) is not None


def is_interim(status: int) -> bool:
    """Whether another response follows. After 101 another protocol would: an error, as none was asked for."""
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        raise HTTPException("a switch of protocols")
    return status < HTTPStatus.OK


def is_chunked(headers: HTTPHeaderDict) -> bool:
    """Whether the body comes in chunks. Raises HTTPException for every other transfer coding."""
    codings = headers.get("Transfer-Encoding")
    if codings is not None and codings.lower() != "chunked":
        raise HTTPException("an unknown transfer coding")
    return codings is not None


def closes(headers: HTTPHeaderDict) -> bool:
    """Whether the server closes the connection after the response."""
    options = headers.get("Connection")
    return options is not None and "close" in [option.strip().lower() for option in options.split(",")]
