"""What the proxy adds to a call's latency, at 20, 50 and 80 % of what it can carry.

    python -m bench.latency [--rounds 5] [--seconds 4]

Capacity is what a closed loop of wrk reaches in the same run. The load is open: requests are due at even
times, and a latency counts from there. In turn through the proxy and straight at the stub, at the same
rate; what is added is the difference of the two, of each percentile, as the median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from typing import Any

from bench.http_load import Ask, chat, measure
from bench.processes import Server, cores, piped, server, stub
from bench.tables import heading, show

SHARES = (0.2, 0.5, 0.8)
ROUTES = {
    "/agents/inference": chat("/agents/inference"),
    "/v1 whole": chat("/v1/chat/completions"),
    "/v1 streamed": chat("/v1/chat/completions", stream=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    server_cores, load_cores = cores()
    rows = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        url = f"http://127.0.0.1:{upstream.port}"
        proxy = stack.enter_context(server("wsgi:app", "gunicorn.conf.py", url, server_cores))
        for name, ask in ROUTES.items():
            # Asked straight, the stub is asked as the proxy asks it.
            straight = chat("/v1/chat/completions", stream=name != "/v1 whole")
            capacity = statistics.median(
                measure(proxy, ask, 2.0, load_cores).rate for _ in range(options.rounds)
            )
            for share in SHARES:
                rate = capacity * share
                pairs = [
                    [
                        run(target, each, rate, options.seconds, load_cores)
                        for target, each in ((upstream, straight), (proxy, ask))
                    ]
                    for _ in range(options.rounds)
                ]
                rows.append((f"{name}, {share:.0%}: {rate:,.0f}/s", *cells(pairs)))
    heading("Added latency, ms")
    show(("", "straight: p50", "p99", "through: p50", "p99", "added: p50", "p99", "errors"), rows)


def cells(pairs: list[list[dict[str, float]]]) -> tuple[str, ...]:
    found = []
    for at in (0, 1):
        found += [statistics.median(pair[at][name] for pair in pairs) for name in ("p50", "p99")]
    found += [statistics.median(pair[1][name] - pair[0][name] for pair in pairs) for name in ("p50", "p99")]
    errors = sum(each["errors"] for pair in pairs for each in pair)
    return (*(f"{each:.2f}" for each in found), f"{errors:.0f}")


def run(target: Server, ask: Ask, rate: float, seconds: float, on: set[int]) -> dict[str, Any]:
    """One round of open load."""
    found: dict[str, Any] = piped(
        ["bench.open_loop", str(target.port), str(rate), str(seconds)], ask.raw(), on
    )
    return found


if __name__ == "__main__":
    main()
