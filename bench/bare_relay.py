"""A relay and nothing else, for comparison under gunicorn: a Flask view that collects a stream.

It does what any relay in this frame must do: read a chat, send it to the upstream through the adapter of
`requests` with the connection kept open, and join the texts of the events. It checks no key and no field,
keeps no budget, and has no limits, metrics or log lines.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
from flask import Flask, request
from requests import PreparedRequest
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Response

TIMEOUTS = (5.0, 60.0)
"""Connect and idle, in seconds."""

app = Flask(__name__)
adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1_000)
url = f"{os.environ['CHUTES_BASE_URL']}/chat/completions"
headers = {"Authorization": f"Bearer {os.environ['CHUTES_API_KEY']}", "Content-Type": "application/json"}


@app.post("/relay")
def relay() -> str:
    """Answer a chat with the whole text."""
    upstream_request = PreparedRequest()
    upstream_request.prepare("POST", url, headers, data=orjson.dumps({**request.get_json(), "stream": True}))
    with closing(adapter.send(upstream_request, stream=True, timeout=TIMEOUTS)) as response:
        response.raise_for_status()
        return "".join(texts(response))


def texts(response: Response) -> Iterator[str]:
    """Yield the text of each event."""
    for line in response.iter_lines(chunk_size=65_536):
        if line.startswith(b"data: {"):
            for choice in orjson.loads(line[6:])["choices"]:
                yield choice["delta"].get("content") or ""
