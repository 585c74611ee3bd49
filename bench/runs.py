"""What a whole call costs by the number of runs that the ledger knows: 1 and 1,000,000, for each ledger.

    python -m bench.runs [--runs 1000000]

In one process, without gunicorn: the application is called as gunicorn would call it, with a run chosen
anew each time, and its processor time is measured, for the two numbers in turn.
"""

from __future__ import annotations

# The first thing of all, as in gunicorn.conf.py.
from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - after the patch
import contextlib  # noqa: E402
import gc  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from bench.processes import PROXY_KEY, cores, stub  # noqa: E402
from bench.stores import fill, name_of, stores  # noqa: E402
from bench.tables import heading, show  # noqa: E402
from ridges_proxy import create_app  # noqa: E402
from ridges_proxy.config import Settings, load_settings  # noqa: E402
from ridges_proxy.ledger import open_ledger  # noqa: E402
from ridges_proxy.telemetry import logs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, CALLS = 21, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    options = parser.parse_args()
    server_cores, other_cores = cores()
    rows = []
    with contextlib.ExitStack() as stack:
        upstream = f"http://127.0.0.1:{stack.enter_context(stub(other_cores)).port}"
        os.sched_setaffinity(0, server_cores)
        for name, url in stores(stack, other_cores):
            numbers = (1, options.runs)
            apps = [application(upstream, another(url, number), number) for number in numbers]
            costs: tuple[list[float], ...] = ([], [])
            for _ in range(ROUNDS):
                for app, number, found in zip(apps, numbers, costs, strict=True):
                    found.append(cost(app, number))
            one, many = map(statistics.median, costs)
            rows.append((name, f"{one:,.0f}", f"{many:,.0f}", f"{many / one:.2f}"))
    heading(f"CPU µs a call by the number of runs, 1 and {options.runs:,}")
    show(("ledger", "1 run", f"{options.runs:,} runs", "ratio"), rows)


def another(url: str, number: int) -> str:
    """A store of its own for each number of runs, beside the others of its kind."""
    if url.startswith("sqlite"):
        return f"{url}.{number}"
    return f"{url}/{number > 1:d}" if url.startswith("redis") else url


def application(upstream: str, ledger_url: str, runs: int) -> Callable[..., Any]:
    """The service over a ledger that knows so many runs, its log lines written to nowhere."""
    values = {
        "CHUTES_API_KEY": "bench-chutes-key",
        "PROXY_API_KEY": PROXY_KEY,
        "CHUTES_BASE_URL": f"{upstream}/v1",
        "MAX_COST_PER_RUN": "100000",
        "RATE_LIMIT_PER_RUN": "off",
        "RATE_LIMIT_PER_IP": "off",
        "LEDGER_URL": ledger_url,
    }
    settings = load_settings(Settings, values)
    ledger = open_ledger(settings)
    fill(ledger, runs)
    app = create_app(settings, ledger)
    (handler,) = logging.getLogger(logs.ROOT).handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open to the end
    gc.collect()
    gc.freeze()
    return app


class Input(io.BytesIO):
    """A body as gunicorn gives it."""

    failed = False


def cost(app: Callable[..., Any], runs: int) -> float:
    """Processor time of a call, in microseconds."""
    asked = [name_of(each) for each in random.choices(range(runs), k=CALLS)]
    began = time.process_time()
    for run in asked:
        call(app, run)
    return (time.process_time() - began) / CALLS * 1e6


def call(app: Callable[..., Any], run: str) -> None:
    messages = [{"role": "user", "content": "Say something. events=20"}]
    body = json.dumps({"run_id": run, "messages": messages}).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/agents/inference",
        "QUERY_STRING": "",
        "SERVER_NAME": "bench",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": Input(body),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": f"Bearer {PROXY_KEY}",
        "REMOTE_ADDR": "127.0.0.1",
    }
    statuses: list[str] = []
    answer = app(environ, lambda status, _headers, _exc_info=None: statuses.append(status))
    assert b"word" in b"".join(answer)
    answer.close()
    assert statuses == ["200 OK"]


if __name__ == "__main__":
    main()
