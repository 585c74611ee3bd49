"""The verbs of a Redis ledger, each one Lua script: `lua/prelude.lua` says what the books look like there."""

from __future__ import annotations

import hashlib
from importlib.resources import files


class Script:
    """A Lua script, and the name that a server which has it knows it by."""

    def __init__(self, *names: str) -> None:
        lua = files("ridges_proxy.ledger") / "lua"
        self.text = "\n".join((lua / f"{name}.lua").read_text("utf-8") for name in ("prelude", *names))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


RESERVE = Script("reserve")
RESOLVE = Script("resolve")
USAGE = Script("usage")
RESET = Script("reset")
CLOSE = Script("close")
SWEEP = Script("sweep")
LIST = Script("list")

RECORDS = Script("record", "records")
PUT = Script("record", "put")
TAKE = Script("record", "take")
RECEIPT = Script("record", "receipt")
AUDIT = Script("audit")
