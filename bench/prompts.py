"""Measure what learned counts add to the cost of a call, by the number of its messages.

    python -m bench.prompts

It runs in one process without gunicorn: it calls the application as gunicorn would, and measures the
processor time of calls to /v1. Each conversation has messages of 1,500 characters, and two new ones in each
call. The rounds take the applications in turn: without learned counts, with them, and with them after calls
of 1,000 other runs.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does.
from gevent import monkey

monkey.patch_all()

import functools  # noqa: E402 - after the patch
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from bench.http_request import COMPLETIONS_PATH, MODEL, PROXY_HEADERS, Request  # noqa: E402
from bench.options import argument_parser  # noqa: E402
from bench.processes import split_cores  # noqa: E402
from bench.servers import stub  # noqa: E402
from bench.service import application, call  # noqa: E402
from bench.tables import print_heading, print_table  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

ROUNDS, CONVERSATIONS, CALLS = 15, 20, 4
MESSAGE_CHARACTERS = 1_500
CHARACTERS_PER_TOKEN = 4
OTHER_RUNS = 1_000
LENGTHS = (6, 40, 100)
"""Messages in the middle of a conversation's measured calls."""


def main() -> None:
    argument_parser(__doc__).parse_args()
    server_cores, other_cores = split_cores()
    with stub(other_cores) as upstream:
        os.sched_setaffinity(0, server_cores)
        unlimited = functools.partial(
            application, upstream.url, RATE_LIMIT_PER_RUN="off", RATE_LIMIT_PER_IP="off"
        )
        apps = [unlimited(LEARNED_COUNTS_BYTES="0"), unlimited(), unlimited()]
        for number in range(OTHER_RUNS):
            call(apps[-1], chat(conversation(f"other {number}", 2), f"other-{number}"))
        rows = [row(apps, length) for length in LENGTHS]
    print_heading("CPU µs a call by the number of messages")
    print_table(
        ("messages", "without", "with learned counts", "share", f"after {OTHER_RUNS:,} runs", "share"), rows
    )


def row(apps: list[Flask], length: int) -> tuple[str, ...]:
    costs: list[list[float]] = [[] for _ in apps]
    for number in range(ROUNDS):
        for app, measured in zip(apps, costs, strict=True):
            measured.append(cpu_microseconds_per_call(app, length, number))
    without, first, many = map(statistics.median, costs)
    return (
        str(length),
        f"{without:,.0f}",
        f"{first:,.0f}",
        f"{first / without - 1:.1%}",
        f"{many:,.0f}",
        f"{many / without - 1:.1%}",
    )


def cpu_microseconds_per_call(app: Flask, length: int, number: int) -> float:
    spent = calls = 0.0
    for index in range(CONVERSATIONS):
        name = f"{length} {number} {index}"
        first, *others = requests(name, length)
        call(app, first)
        started = time.process_time()
        for request in others:
            call(app, request)
        spent += time.process_time() - started
        calls += len(others)
    return spent / calls * 1e6


def requests(name: str, length: int) -> Iterator[Request]:
    """A call that is not measured, and the measured ones behind it. Each has two new messages."""
    start = length - CALLS - 1
    messages = conversation(name, start + 2 * CALLS)
    for count in range(start, start + 2 * CALLS + 1, 2):
        yield chat(messages[:count], f"run {name}")


def conversation(name: str, length: int) -> list[dict[str, str]]:
    letters = random.Random(name)
    roles = ["user", "assistant"] * length
    return [
        {"role": role, "content": "".join(letters.choices("abcdef ", k=MESSAGE_CHARACTERS))}
        for role in roles[:length]
    ]


def chat(messages: list[dict[str, str]], run_id: str) -> Request:
    tokens = len(messages) * MESSAGE_CHARACTERS // CHARACTERS_PER_TOKEN
    body = {"model": MODEL, "messages": messages, "max_tokens": 100, "user": f"events=20 prompt={tokens}"}
    return Request(COMPLETIONS_PATH, json.dumps(body).encode(), {**PROXY_HEADERS, "X-Run-Id": run_id})


if __name__ == "__main__":
    main()
