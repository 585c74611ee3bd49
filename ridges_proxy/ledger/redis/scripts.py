"""The Lua scripts of a Redis ledger. `lua/prelude.lua` and `lua/levels.lua` describe the keys."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Script:
    """A Lua script, and the SHA-1 sum by which Redis identifies it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _load(*names: str, prelude: tuple[str, ...] = ("clock", "alerts", "levels", "prelude")) -> Script:
    lua = files("ridges_proxy.ledger.redis") / "lua"
    return Script("\n".join((lua / f"{name}.lua").read_text("utf-8") for name in (*prelude, *names)))


RESERVE = _load("queue", "reserve")
LEAVE = _load("queue", "leave")
WAITING = _load("queue", "waiting")
RESOLVE = _load("calls", "resolve")
USAGE = _load("usage")
RESET = _load("reset")
CLOSE = _load("close")
SWEEP = _load("calls", "sweep")
LIST = _load("bytes", "list")
REFUSALS = _load("refusals")

_OF_LEVELS = ("clock", "alerts", "levels")  # scripts that use only the levels
LEVEL_RESERVE = _load("level_reserve", prelude=_OF_LEVELS)
LEVEL_CUT = _load("level_cut", prelude=_OF_LEVELS)
LEVEL_RESOLVE = _load("level_resolve", prelude=_OF_LEVELS)
LEVEL_SWEEP = _load("level_sweep", prelude=_OF_LEVELS)
LEVEL_USAGE = _load("level_usage", prelude=_OF_LEVELS)
LEVEL_RESET = _load("level_reset", prelude=_OF_LEVELS)
ALERTS_ADD = _load("alerts_add", prelude=_OF_LEVELS)
ALERTS_CLAIM = _load("alerts_claim", prelude=_OF_LEVELS)
ALERTS_DROP = _load("alerts_drop", prelude=_OF_LEVELS)

HIT = _load("hit", prelude=("clock",))  # uses no accounts

PING = _load("ping", prelude=())  # uses no accounts and no clock

RECORDS = _load("bytes", "record", "records")
PUT = _load("bytes", "record", "put")
TAKE = _load("bytes", "record", "take")
RECEIPT = _load("bytes", "record", "receipt")
AUDIT = _load("audit")
LEVEL_PUT_HOLD = _load("level_put_hold", prelude=_OF_LEVELS)
LEVEL_TAKE_HOLDS = _load("level_take_holds", prelude=_OF_LEVELS)
LEVEL_PUT = _load("level_put", prelude=_OF_LEVELS)
LEVEL_TAKE = _load("level_take", prelude=_OF_LEVELS)
LEVEL_AUDIT = _load("level_audit", prelude=_OF_LEVELS)
ALERTS_PUT = _load("alerts_put", prelude=_OF_LEVELS)


def now_by(clock: Callable[[], float] | None) -> str:
    """Return the first argument of every script: the time of a test's clock, or "" for the clock of Redis."""
    return "" if clock is None else repr(clock())
