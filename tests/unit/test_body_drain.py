"""The rest of a response that is read only so that its connection can be used again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import gevent
import pytest
from urllib3.exceptions import ProtocolError

from ridges_proxy.upstream import body_reader
from ridges_proxy.upstream.body_reader import READ_BYTES, drain

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

PATIENCE_SECONDS = 20.0


def response(read: Callable[[int, bool], bytes], *, closed: bool = False) -> requests.Response:
    raw = SimpleNamespace(closed=closed, read=lambda size, *, decode_content: read(size, decode_content))
    return cast("requests.Response", SimpleNamespace(raw=raw))


def test_the_rest_is_returned_as_it_arrived() -> None:
    asked: list[tuple[int, bool]] = []

    def read(*question: object) -> bytes:
        asked.append(question)  # type: ignore[arg-type] # a number and a flag
        return b"rest"

    assert drain(response(read)) == b"rest"
    assert asked == [(READ_BYTES, False)]


def test_a_rest_that_does_not_come_or_is_broken_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "DRAIN_SECONDS", 0.001)

    def never(*_: object) -> bytes:
        gevent.sleep(PATIENCE_SECONDS)
        return b"late"

    def broken(*_: object) -> bytes:
        raise ProtocolError

    drains = [gevent.spawn(drain, response(read)) for read in (never, broken)]
    assert [each.get(timeout=PATIENCE_SECONDS / 2) for each in drains] == [b"", b""]
    assert drain(response(lambda *_: pytest.fail("it is read"), closed=True)) == b""
