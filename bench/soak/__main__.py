"""A soak: mixed good, bad and leaving clients for half an hour, at 70 % of what the server carries.

    python -m bench.soak [--minutes 30] [--share 0.7] [--strict]

One worker on SQLite on core 0, the clients and the fake on core 1. Ends with 1 if memory grew after the
warm-up, a descriptor, greenlet, hold or connection is left over, a client met what it should not, or the
books are not the fake's. `--strict` also fails for any time above 0.1 s for which the hub stood still,
as gevent's own monitor sees it.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - after the patch
import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import gevent  # noqa: E402

from bench.processes import raise_file_limit, resident_kb, split_cores  # noqa: E402
from bench.servers import Server, gunicorn  # noqa: E402
from bench.soak.books import compare  # noqa: E402
from bench.soak.clients import FAILING, GOOD, LEAVING, Clients  # noqa: E402
from bench.tables import date_and_machine, print_heading, print_table  # noqa: E402
from tests.process.fake_chutes_control import Upstream  # noqa: E402
from tests.process.kernel import open_connections  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.soak.books import Compared
    from bench.soak.clients import Tally

CAPACITY_CLIENTS = 32
CAPACITY_SECONDS = 8.0
WARM_SHARE = 0.25
"""Of the time: what has grown by then is what the service needs."""

MOST_GROWTH_KB = 16_384
"""After that, at the median: what SQLite may keep of its file, and what the busiest moment has left behind.
It is the blocks that show a leak."""

MOST_BLOCKS = 5_000
"""Of Python's allocator, more than before the load: a fiftieth of a block a call in half an hour."""

MOST_BLOCK_SECONDS = "0.1"
QUIET_SECONDS = 65.0
"""For idle connections to be closed, all that was cut off to settle, and rate limits' windows to pass."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    raise_file_limit()
    server_cores, load_cores = split_cores()
    os.sched_setaffinity(0, load_cores)
    with tempfile.TemporaryDirectory() as name, Upstream() as upstream:
        folder = Path(name)
        with started(upstream.url, folder, server_cores) as serving:
            problems = soaked(serving, upstream, folder, options)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    sys.exit(bool(problems))


@contextlib.contextmanager
def started(upstream: str, folder: Path, on: set[int]) -> Iterator[Server]:
    settings = {
        "LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        "MODEL_PRICES": json.dumps(dict.fromkeys((GOOD, LEAVING, FAILING), 0.27)),
        "DEFAULT_MODEL": GOOD,
        "CIRCUIT_FAILURES": "0",  # FAILING is to fail
        "GEVENT_MONITOR_THREAD_ENABLE": "1",
        "GEVENT_MAX_BLOCKING_TIME": MOST_BLOCK_SECONDS,
        "SOAK_FOLDER": str(folder),
    }
    log = folder / "log"
    with (
        log.open("wb") as said,
        gunicorn("wsgi:app", "bench/soak/server_conf.py", upstream, on, said, **settings) as serving,
    ):
        yield serving


def soaked(serving: Server, upstream: Upstream, folder: Path, options: argparse.Namespace) -> list[str]:
    clients = Clients(serving.port)
    rate = options.share * capacity(clients)
    before_load = left_alive(serving, upstream, folder, clients)
    clients = Clients(serving.port, seed=1)
    upstream.reset()
    before = compare(upstream, folder)
    resident = [serving.resident_kb() for _ in clients.at(rate, 60 * options.minutes)]
    growth_kb = growth_of(resident)
    after_load = left_alive(serving, upstream, folder, clients)
    left = [after - before for before, after in zip(before_load, after_load, strict=True)]
    books = compare(upstream, folder, before)
    blocks = blocks_in(folder / "log")
    print_heading(f"{options.minutes:g} minutes at {rate:.0f} requests a second ({date_and_machine()})")
    report(clients.tally, growth_kb, left, books, blocks)
    found = [
        (growth_kb > MOST_GROWTH_KB, f"memory grew by {growth_kb} kB after the warm-up"),
        (left[0] > 0, f"{left[0]} descriptors are left over"),
        (left[1] > 0, f"{left[1]} greenlets are left over"),
        (left[2] > MOST_BLOCKS, f"{left[2]} blocks of memory are left over"),
        (
            bool(clients.tally.failed),
            f"{len(clients.tally.failed)} clients met what they should not: {clients.tally.failed[:5]}",
        ),
        (options.strict and bool(blocks), f"the hub stood still {len(blocks)} times"),
    ]
    return [text for wrong, text in found if wrong] + books.problems


def report(tally: Tally, growth_kb: int, left: list[int], books: Compared, blocks: list[str]) -> None:
    """Print what came of it."""
    figures = {
        "answered": tally.answered,
        "refused": tally.refused,
        "left": tally.left,
        "growth kB": growth_kb,
        "files left": left[0],
        "greenlets left": left[1],
        "blocks left": left[2],
        "held": books.held,
        "hub stood still": len(blocks),
    }
    print_table(tuple(figures), [tuple(map(str, figures.values()))])
    print_table(
        ("", "billed upstream, nano-USD", "booked"),
        [(each, *map(str, row)) for each, row in books.rows.items()],
    )
    for block in blocks[:5]:
        print(block)


def capacity(clients: Clients) -> float:
    """Requests a second of the same mix, by so many clients one after another."""
    end = time.monotonic() + CAPACITY_SECONDS
    count = 0

    def call() -> None:
        nonlocal count
        while time.monotonic() < end:
            clients.one()
            count += 1

    gevent.joinall([gevent.spawn(call) for _ in range(CAPACITY_CLIENTS)])
    return count / CAPACITY_SECONDS


def growth_of(resident_kb: list[int]) -> int:
    """By how much the last quarter is above the quarter behind the warm-up."""
    quarter = max(1, int(len(resident_kb) * WARM_SHARE))
    return round(
        statistics.median(resident_kb[-quarter:]) - statistics.median(resident_kb[quarter : 2 * quarter])
    )


def open_files(serving: Server, upstream: Upstream) -> int:
    """The worker's, but for its pool of connections to the upstream, which keeps as many as it once used."""
    (worker,) = (pid for pid in serving.children() if resident_kb(pid))
    upstream_port = int(upstream.url.rpartition(":")[2])
    return len(list(Path(f"/proc/{worker}/fd").iterdir())) - open_connections(worker, upstream_port)


def left_alive(serving: Server, upstream: Upstream, folder: Path, clients: Clients) -> tuple[int, int, int]:
    """Open files, greenlets, and blocks of memory, once all is quiet."""
    gevent.sleep(QUIET_SECONDS)
    clients.ask_once()  # what has passed is forgotten with the next hit
    gevent.sleep(1.0)
    told = folder / "count.told"
    told.unlink(missing_ok=True)
    (folder / "count").touch()
    with gevent.Timeout(30):
        while not (told.exists() and told.read_text().endswith("\n")):
            gevent.sleep(0.05)
    greenlets, blocks = map(int, told.read_text().split())
    return open_files(serving, upstream), greenlets, blocks


def blocks_in(log: Path) -> list[str]:
    return [line for line in log.read_text(errors="replace").splitlines() if "appears to be blocked" in line]


if __name__ == "__main__":
    main()
