"""Measure how much a run can overspend, compared with the bills of an upstream that bills all it may.

    python -m bench.overspend [--quick] [--only TEXT] [--no-peers | --only-peers] [--json FILE]

Runs every scenario against this proxy on each store, with one worker and with several. Where they have what a
scenario needs, also against the gateways of others that keep budgets, and against a service like the one that
this proxy replaces (bench/peers). One that cannot be run here is left out, with a line that says why.
`--quick` runs only this proxy with one worker on each store, `--only-peers` only the others.

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
from typing import TYPE_CHECKING, Any

from bench.http_request import MODEL
from bench.options import argument_parser
from bench.overspend.outcome import NANOUSD_PER_TOKEN
from bench.overspend.peers.peer_gateway import Offer
from bench.overspend.peers.start import PEERS, running
from bench.overspend.proxy_gateway import DEPLOYMENTS, Deployment, proxy_gateway
from bench.overspend.runner import can_run, run_scenario
from bench.overspend.scenarios import scenarios
from bench.overspend.trial import FIVE_CALLS_NANOUSD, ONE_CALL_NANOUSD
from bench.processes import raise_file_limit
from bench.tables import date_and_machine, print_heading, print_table
from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.billing.prices import TOKENS_PER_PRICE
from ridges_proxy.cli.progress import ProgressDisplay, progress
from tests.process.fake_chutes_control import Upstream

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bench.overspend.gateways import Gateway
    from bench.overspend.outcome import Outcome
    from bench.overspend.scenarios import Scenario

BUDGETS_NANOUSD = (ONE_CALL_NANOUSD, FIVE_CALLS_NANOUSD)
PRICE_USD = NANOUSD_PER_TOKEN * TOKENS_PER_PRICE / NANOUSD_PER_USD


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a scenario with a gateway."""

    scenario: str
    gateway: str
    is_this_proxy: bool
    outcome: Outcome
    faults: dict[str, int | str]
    """What is wrong, if the gateway is this proxy."""


def main() -> None:
    options = parse_options()
    chosen = [scenario for scenario in scenarios() if options.only in scenario.name]
    raise_file_limit()
    every_interface = "0.0.0.0"  # so that a second machine can reach it
    with Upstream("--host", every_interface) as upstream, progress() as display:
        results = list(run_all(options, chosen, upstream, display))
    print_report(chosen, results)
    if options.json:
        options.json.write_text(json.dumps(as_json(results), indent=1))
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


def print_report(chosen: list[Scenario], results: list[Result]) -> None:
    """Print the overspend with every gateway, the sums for this proxy, and every problem."""
    outcomes = {(result.scenario, result.gateway): result.outcome for result in results}
    names = list(dict.fromkeys(result.gateway for result in results))
    print_heading(f"Overspend in percent of the budget ({date_and_machine()})")
    print_table(
        ("", *names),
        [
            [scenario.name, *(percent_cell(outcomes.get((scenario.name, name))) for name in names)]
            for scenario in chosen
        ],
    )
    print_heading("This proxy, all scenarios together, in USD")
    print_sums([result.outcome for result in results if result.is_this_proxy])
    if problems := list(problem_rows(results)):
        print_heading("Inconclusive with a gateway, or wrong in this proxy")
        print_table(("", "gateway", "problem"), problems)


def print_sums(outcomes: list[Outcome]) -> None:
    print_table(
        ("conclusive scenarios", "phantom holds", "overcharges", "surplus charges", "unrecorded"),
        [
            [
                str(sum(outcome.inconclusive is None for outcome in outcomes)),
                usd_cell(sum(outcome.held_nanousd for outcome in outcomes)),
                usd_cell(sum(outcome.overcharge_nanousd for outcome in outcomes)),
                str(sum(outcome.surplus_charges for outcome in outcomes)),
                usd_cell(sum(outcome.unrecorded_nanousd for outcome in outcomes)),
            ]
        ],
    )


def problem_rows(results: list[Result]) -> Iterator[tuple[str, str, str]]:
    """All faults of this proxy, and the inconclusive scenarios of the other gateways."""
    for result in results:
        if result.is_this_proxy:
            for name, value in result.faults.items():
                yield result.scenario, result.gateway, f"{name}: {value}"
        elif result.outcome.is_inconclusive:
            yield result.scenario, result.gateway, f"inconclusive: {result.outcome.inconclusive}"


def percent_cell(outcome: Outcome | None) -> str:
    """Empty if the gateway lacks what the scenario needs."""
    if outcome is None:
        return ""
    if outcome.is_inconclusive:
        return "inconclusive"
    percent = outcome.overspend_percent
    return f"{percent:.0f}" if percent >= 1 or not percent else f"{percent:.2f}"


def usd_cell(nanousd: int) -> str:
    return f"{nanousd / NANOUSD_PER_USD:.6f}" if nanousd else "0"


def as_json(results: list[Result]) -> dict[str, dict[str, dict[str, Any]]]:
    """All figures, by scenario and gateway."""
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        figures.setdefault(result.scenario, {})[result.gateway] = dataclasses.asdict(result.outcome)
    return figures


if __name__ == "__main__":
    main()
