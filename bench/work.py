"""Count the function calls of one request, in Python and in C.

    python -m bench.work

The count does not depend on the machine or its load, only on the versions of Python and of the packages. So
the tests can hold it to a budget (tests/process/test_work.py). Prints a JSON object: function calls by route.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does.
from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after the patch
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from bench.http_request import EMBEDDING_PATH, INFERENCE_PATH, ROUTES, Request, chat  # noqa: E402
from bench.options import argument_parser  # noqa: E402
from bench.servers import stub  # noqa: E402
from bench.service import application, call  # noqa: E402

if TYPE_CHECKING:
    from types import FrameType

    from flask import Flask

WARMUP_CALLS = 20
SAMPLES = 20

REQUESTS = {
    "/agents/inference, 20 events": ROUTES[INFERENCE_PATH],
    "/agents/inference, 500 events": chat(INFERENCE_PATH, 500),
    "/agents/embedding": ROUTES[EMBEDDING_PATH],
    "/v1 whole": ROUTES["/v1 whole"],
    "/v1 streamed, 20 events": ROUTES["/v1 streamed"],
}


def main() -> None:
    argument_parser(__doc__).parse_args()
    with stub(os.sched_getaffinity(0)) as upstream:
        app = application(upstream.url)
        print(json.dumps({name: function_calls(app, request) for name, request in REQUESTS.items()}))


def function_calls(app: Flask, request: Request) -> int:
    """The smallest count of several samples: a response may arrive in one piece or in two."""
    client, other_end = socket.socketpair()
    with client, other_end:
        for _ in range(WARMUP_CALLS):
            call(app, request, client)
        return min(_count_function_calls(app, request, client) for _ in range(SAMPLES))


def _count_function_calls(app: Flask, request: Request, client: socket.socket) -> int:
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        call(app, request, client)
    finally:
        sys.setprofile(None)
    return calls


if __name__ == "__main__":
    main()
