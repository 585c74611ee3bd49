"""Count the function calls for which a body keeps the hub, so that no other greenlet runs.

    python -m bench.hub_steps

The count does not depend on the machine or its load. Calls in a thread do not count: the hub runs beside it.
Prints a JSON object: for each shape and size of a body, the most calls in a row, and the status.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does.
from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after the patch
import socket  # noqa: E402
import sys  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import gevent  # noqa: E402
import greenlet  # noqa: E402

from bench.body_shapes import SHAPES  # noqa: E402
from bench.http_request import PROXY_HEADERS, Request  # noqa: E402
from bench.options import argument_parser  # noqa: E402
from bench.service import application, respond  # noqa: E402
from ridges_proxy.web.request_body import MAX_COSTLY_BYTES_ON_THE_HUB  # noqa: E402

if TYPE_CHECKING:
    from types import FrameType

    from flask import Flask

WARM_UP = Request("/v1/estimate", b'{"messages":[{"role":"user","content":"x"}]}', PROXY_HEADERS)
CLOSED_PORT = "http://127.0.0.1:1"


def main() -> None:
    argument_parser(__doc__).parse_args()
    app = application(CLOSED_PORT)
    client, other_end = socket.socketpair()
    with client, other_end:
        respond(app, WARM_UP, client)
        print(json.dumps({name: steps(app, request, client) for name, request in requests().items()}))


def requests() -> dict[str, Request]:
    """A request for each shape and size."""
    found = {}
    for name, shape in SHAPES.items():
        bodies = {**shape.bodies(), "on the hub": shape.largest(MAX_COSTLY_BYTES_ON_THE_HUB)}
        for size, body in bodies.items():
            # Each has a run of its own: a run with many refused bytes is refused at once.
            headers = {**PROXY_HEADERS, "X-Run-Id": f"{name} {size}"}
            found[f"{name}, {size}"] = Request(shape.path, body, headers)
    return found


def steps(app: Flask, request: Request, client: socket.socket) -> tuple[int, str]:
    """The most function calls between two switches of greenlets during a request, and its status."""
    calls = most = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls, most
        calls += event in {"call", "c_call"}
        most = max(most, calls)

    def switched(_event: str, _greenlets: object) -> None:
        nonlocal calls
        calls = 0

    def answer() -> str:
        sys.setprofile(count)
        try:
            status, _ = respond(app, request, client)
        finally:
            sys.setprofile(None)
        return status

    greenlet.settrace(switched)
    try:
        status = gevent.spawn(answer).get()
    finally:
        greenlet.settrace(None)
    return most, status


if __name__ == "__main__":
    main()
