"""The verbs of a Redis ledger, each one Lua script: `lua/prelude.lua` says what the books look like there."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Script:
    """A Lua script, and the name that a server which has it knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _of(*names: str, prelude: tuple[str, ...] = ("clock", "prelude")) -> Script:
    lua = files("ridges_proxy.ledger.redis") / "lua"
    return Script("\n".join((lua / f"{name}.lua").read_text("utf-8") for name in (*prelude, *names)))


RESERVE = _of("reserve")
RESOLVE = _of("resolve")
USAGE = _of("usage")
RESET = _of("reset")
CLOSE = _of("close")
SWEEP = _of("sweep")
LIST = _of("list")
HIT = _of("hit", prelude=("clock",))  # of no books

RECORDS = _of("record", "records")
PUT = _of("record", "put")
TAKE = _of("record", "take")
RECEIPT = _of("record", "receipt")
AUDIT = _of("audit")


def now_by(clock: Callable[[], float] | None) -> str:
    """The first argument of every script: a test's time, or nothing, and the server's own counts."""
    return "" if clock is None else repr(clock())
