"""The work of a call that needs no clock: how many functions it calls, in Python and in C.

    python -m bench.work

The same on every machine, however busy, for one version of Python and of the packages: so it is what the
tests hold to a budget (tests/process/test_work.py). Prints a JSON object: function calls by route.
"""

from __future__ import annotations

# The first thing of all, as in gunicorn.conf.py.
from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - after the patch
import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from bench.http_load import Ask, chat, embedding  # noqa: E402
from bench.processes import stub  # noqa: E402
from bench.service import application, call  # noqa: E402

if TYPE_CHECKING:
    from types import FrameType

    from flask import Flask

WARM_CALLS = 20
SAMPLES = 20

ROUTES = {
    "/agents/inference, 20 events": chat("/agents/inference"),
    "/agents/inference, 500 events": chat("/agents/inference", 500),
    "/agents/embedding": embedding(),
    "/v1 whole": chat("/v1/chat/completions"),
    "/v1 streamed, 20 events": chat("/v1/chat/completions", stream=True),
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    with stub(os.sched_getaffinity(0)) as upstream:
        app = application(f"http://127.0.0.1:{upstream.port}")
        print(json.dumps({name: calls_for(app, ask) for name, ask in ROUTES.items()}))


def calls_for(app: Flask, ask: Ask) -> int:
    """Function calls of one request: the fewest of several, as an answer may come in two pieces or in one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(WARM_CALLS):
            call(app, ask.path, ask.body, ask.headers, ours)
        return min(_counted(app, ask, ours) for _ in range(SAMPLES))


def _counted(app: Flask, ask: Ask, client: socket.socket) -> int:
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        call(app, ask.path, ask.body, ask.headers, client)
    finally:
        sys.setprofile(None)
    return calls


if __name__ == "__main__":
    main()
