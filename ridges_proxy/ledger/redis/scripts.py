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


def _text_of(name: str) -> str:
    return (files("ridges_proxy.ledger.redis") / "lua" / f"{name}.lua").read_text("utf-8")


def _module(name: str) -> str:
    """Return Lua text with a function `use_NAME`, which returns the table of functions of a file.

    They are created at the first use in a script: to create all of them takes longer than most scripts.
    """
    return f"""
local {name}_module
local function use_{name}()
  {name}_module = {name}_module or (function ()
{_text_of(name)}
  end)()
  return {name}_module
end
"""


def _load(*names: str, beginning: str) -> Script:
    return Script("\n".join([beginning, *map(_text_of, names)]))


_OF_LEVELS = "\n".join([_text_of("clock"), _text_of("rules"), _module("alerts"), _module("levels")])
_OF_RUNS = "\n".join([_OF_LEVELS, _text_of("prelude"), _module("finished"), _module("details")])


def _of_runs(*names: str) -> Script:
    return _load(*names, beginning=_OF_RUNS)


def _of_levels(name: str) -> Script:
    """Return a script that uses only the levels."""
    return _load(name, beginning=_OF_LEVELS)


RESERVE = _of_runs("queue", "run_alerts", "reserve")
LEAVE = _of_runs("queue", "leave")
WAITING = _of_runs("queue", "waiting")
RESOLVE = _of_runs("run_alerts", "resolution", "calls", "resolve")
USAGE = _of_runs("usage")
RESET = _of_runs("reset")
CLOSE = _of_runs("close")
SWEEP = _of_runs("run_alerts", "resolution", "calls", "sweep")
LIST = _of_runs("bytes", "list")
OPEN_CALLS = _of_runs("open_calls")
REFUSALS = _of_runs("refusals")

LEVEL_RESERVE = _of_levels("level_reserve")
LEVEL_CUT = _of_levels("level_cut")
LEVEL_RESOLVE = _of_levels("level_resolve")
LEVEL_SWEEP = _of_levels("level_sweep")
LEVEL_USAGE = _of_levels("level_usage")
LEVEL_RESET = _of_levels("level_reset")
ALERTS_ADD = _of_levels("alerts_add")
ALERTS_CLAIM = _of_levels("alerts_claim")
ALERTS_DROP = _of_levels("alerts_drop")

HIT = _load("hit", beginning=_text_of("clock"))  # uses no accounts

PING = _load("ping", beginning="")  # uses no accounts and no clock

RECORDS = _of_runs("bytes", "record", "records")
PUT = _of_runs("bytes", "record", "put")
TAKE = _of_runs("bytes", "record", "take")
RECEIPT = _of_runs("bytes", "record", "receipt")
AUDIT = _of_runs("audit")
LEVEL_PUT_HOLD = _of_levels("level_put_hold")
LEVEL_TAKE_HOLDS = _of_levels("level_take_holds")
LEVEL_PUT = _of_levels("level_put")
LEVEL_TAKE = _of_levels("level_take")
LEVEL_AUDIT = _of_levels("level_audit")
ALERTS_PUT = _of_levels("alerts_put")


def now_by(clock: Callable[[], float] | None) -> str:
    """Return the first argument of every script: the time of a test's clock, or "" for the clock of Redis."""
    return "" if clock is None else repr(clock())
