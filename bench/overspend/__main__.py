"""Measure how much a run can overspend, compared with the bills of an upstream that bills all it may.

    python -m bench.overspend [--quick] [--only TEXT] [--no-peers | --only-peers] [--json FILE] [--page FILE]

Runs every scenario against this proxy on each store, with one worker and with several. Where they have what a
scenario needs, also against the gateways of others that keep budgets, and against a service like the one that
this proxy replaces (bench/peers). One that cannot be run here is left out, with a line that says why.
`--quick` runs only this proxy with one worker on each store, `--only-peers` only the others. `--page` writes
the tables into a page that has a part for them, in place of what is there.

Exits with 1 if this proxy overspent, did not record what was billed, kept a hold with no call in flight, or
charged more than it may. It also exits with 1 if a scenario was inconclusive with this proxy: the situation
that it tests did not arise. An overspend of "usage: below" does not count: an upstream that reports less than
it bills is believed (docs/reference/overspend.md).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from bench.http_request import MODEL
from bench.options import argument_parser
from bench.overspend.outcome import NANOUSD_PER_TOKEN
from bench.overspend.peers.peer_gateway import Offer
from bench.overspend.peers.start import PEERS, running
from bench.overspend.proxy_gateway import DEPLOYMENTS, Deployment, proxy_gateway
from bench.overspend.report import PART, Result, as_json, as_markdown
from bench.overspend.runner import can_run, run_scenario
from bench.overspend.scenarios import scenarios
from bench.overspend.trial import FIVE_CALLS_NANOUSD, ONE_CALL_NANOUSD
from bench.pages import write_part
from bench.processes import raise_file_limit
from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.billing.prices import TOKENS_PER_PRICE
from ridges_proxy.cli.progress import ProgressDisplay, progress
from tests.process.fake_chutes_control import Upstream

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bench.overspend.gateways import Gateway
    from bench.overspend.scenarios import Scenario

BUDGETS_NANOUSD = (ONE_CALL_NANOUSD, FIVE_CALLS_NANOUSD)
PRICE_USD = NANOUSD_PER_TOKEN * TOKENS_PER_PRICE / NANOUSD_PER_USD


def main() -> None:
    options = parse_options()
    chosen = [scenario for scenario in scenarios() if options.only in scenario.name]
    raise_file_limit()
    every_interface = "0.0.0.0"  # so that a second machine can reach it
    with Upstream("--host", every_interface) as upstream, progress() as display:
        results = list(run_all(options, chosen, upstream, display))
    if options.json:
        options.json.write_text(json.dumps(as_json(results), indent=1))
    text = as_markdown(chosen, results)
    print(text)
    if options.page:
        write_part(options.page, PART, text)
    sys.exit(any(result.faults for result in results))


def run_all(
    options: argparse.Namespace, chosen: list[Scenario], upstream: Upstream, display: ProgressDisplay
) -> Iterator[Result]:
    """Run each scenario with each gateway that can run it."""
    deployments = chosen_deployments(options)
    peers = {} if options.quick or options.no_peers else PEERS
    total = len(chosen) * (len(deployments) + len(peers))
    done = count(1)
    offers = [Offer(budget, {MODEL: (PRICE_USD, PRICE_USD)}, len(chosen)) for budget in BUDGETS_NANOUSD]
    for gateway in chain(
        proxies(upstream.url, deployments), running(peers, upstream.url, offers, display.say)
    ):
        for scenario in chosen:
            if can_run(scenario, gateway):
                outcome = run_scenario(scenario, gateway, upstream)
                faults = scenario.faults(outcome) if gateway.is_this_proxy else {}
                yield Result(scenario.name, gateway.name, gateway.is_this_proxy, outcome, faults)
                display.say(f"{gateway.name}: {scenario.name}: {dataclasses.replace(outcome, levels=())}")
            display("scenarios of all gateways", next(done), total)


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="only this proxy, with one worker on each store")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--no-peers", action="store_true", help="only this proxy")
    only.add_argument("--only-peers", action="store_true", help="only the other gateways")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only scenarios with this text in their names"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables into this page, too")
    options = parser.parse_args()
    if not any(options.only in scenario.name for scenario in scenarios()):
        parser.error(f"no scenario has {options.only!r} in its name")
    return options


def chosen_deployments(options: argparse.Namespace) -> list[Deployment]:
    if options.only_peers:
        return []
    return [each for each in DEPLOYMENTS if not options.quick or (each.workers, each.machines) == (1, 1)]


def proxies(upstream_url: str, deployments: list[Deployment]) -> Iterator[Gateway]:
    """This proxy on each deployment. Each stops when the next one is asked for."""
    for deployment in deployments:
        with proxy_gateway(upstream_url, deployment) as gateway:
            yield gateway


if __name__ == "__main__":
    main()
