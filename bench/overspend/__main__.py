"""How much a run can overspend, by the books of an upstream that bills all that it was asked for.

    python -m bench.overspend [--quick] [--only TEXT] [--no-peers] [--json FILE]

Every scenario is played against this proxy on each ledger, with one worker and with several, and, where they
can be asked such a thing, against LiteLLM's proxy and a service in the form of the one that this replaces.
`--quick` plays it with one worker on each ledger, and without them. Ends with 1 if ours overspent, did not
book what was billed, held what is not in flight, charged for what was never sent, or did not let through
what a scenario is about: that one was not played then, and nothing is known.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.overspend.desk import FIVE_CALLS_NANOUSD, ONE_CALL_NANOUSD, played
from bench.overspend.gateways import GuideService, LiteLLM
from bench.overspend.ours import OURS, ours
from bench.overspend.scenarios import scenarios
from bench.peer_servers import install
from bench.processes import raise_file_limit
from bench.tables import date_and_machine, print_heading, print_table
from ridges_proxy.billing.money import NANOUSD_PER_USD
from tests.process.fake_chutes_control import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.overspend.gateways import Gateway
    from bench.overspend.outcome import Outcome
    from bench.overspend.scenarios import Scenario

Results = dict[str, dict[str, "Outcome"]]
"""By scenario and gateway."""

CAPS = (ONE_CALL_NANOUSD, FIVE_CALLS_NANOUSD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--only", default="", help="scenarios with this in their names")
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    options = parser.parse_args()
    raise_file_limit()
    plan = [each for each in scenarios() if options.only in each.name]
    if not plan:
        parser.error("no scenario has this in its name")
    results: Results = {each.name: {} for each in plan}
    with Upstream("--host", "0.0.0.0") as upstream:  # a second machine is to reach it
        for gateway in gateways(
            upstream.url, plan, quick=options.quick, peers=not (options.quick or options.no_peers)
        ):
            for scenario in plan:
                if fits(scenario, gateway):
                    outcome = results[scenario.name][gateway.name] = played(scenario, gateway, upstream)
                    print(f"{gateway.name}: {scenario.name}: {outcome}", file=sys.stderr, flush=True)
    report(results)
    if options.json:
        options.json.write_text(json.dumps(as_json(results), indent=1))
    sys.exit(any(outcome.faults() for outcome in of_ours(results)))


def gateways(upstream: str, plan: list[Scenario], *, quick: bool, peers: bool) -> Iterator[Gateway]:
    """One after another, each for as long as it is needed."""
    for ledger, workers, machines in OURS:
        if not quick or (workers, machines) == (1, 1):
            with ours(upstream, ledger, workers, machines) as gateway:
                yield gateway
    if peers:
        install()
        with ExitStack() as stack:
            yield GuideService(stack, upstream, CAPS)
            yield LiteLLM(stack, upstream, CAPS, len(plan))


def fits(scenario: Scenario, gateway: Gateway) -> bool:
    """Whether the gateway can be asked such a thing."""
    return set(scenario.kinds) <= gateway.kinds and (scenario.needs is None or scenario.needs in gateway.can)


def of_ours(results: Results) -> list[Outcome]:
    return [outcome for row in results.values() for name, outcome in row.items() if name.startswith("ours")]


def report(results: Results) -> None:
    """Print what everybody overspent; what ours did wrong beside it, altogether; and each fault."""
    names = list(dict.fromkeys(name for row in results.values() for name in row))
    print_heading(f"Overspend in percent of the cap ({date_and_machine()})")
    print_table(
        ("", *names),
        [[each, *(percent(row.get(name)) for name in names)] for each, row in results.items()],
    )
    mine = of_ours(results)
    print_heading("Ours, all of these together, in USD")
    print_table(
        ("scenarios played", "phantom holds", "unfair charges", "charges too many", "unbooked"),
        [
            [
                str(sum(outcome.not_played is None for outcome in mine)),
                usd(sum(outcome.held_nanousd for outcome in mine)),
                usd(sum(outcome.unfair_nanousd for outcome in mine)),
                str(sum(outcome.surplus for outcome in mine)),
                usd(sum(outcome.unbooked_nanousd for outcome in mine)),
            ]
        ],
    )
    if found := list(shortcomings(results)):
        print_heading("Not played, or wrong in ours")
        print_table(("", "gateway", "what"), found)


def shortcomings(results: Results) -> Iterator[tuple[str, str, str]]:
    """Scenario, gateway, and what is wrong: of others only that it was not played."""
    for scenario, row in results.items():
        for name, outcome in row.items():
            if name.startswith("ours"):
                for what, value in outcome.faults().items():
                    yield scenario, name, f"{what}: {value}"
            elif outcome.is_void:
                yield scenario, name, f"not played: {outcome.not_played}"


def percent(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    if outcome.is_void:
        return "not played"
    share = 100 * outcome.overspend_nanousd / outcome.budget_nanousd
    return f"{share:.0f}" if share >= 1 or not share else f"{share:.2f}"


def usd(nanousd: int) -> str:
    return f"{nanousd / NANOUSD_PER_USD:.6f}" if nanousd else "0"


def as_json(results: Results) -> dict[str, dict[str, dict[str, int | str | None]]]:
    return {
        name: {gateway: vars(outcome) for gateway, outcome in row.items()} for name, row in results.items()
    }


if __name__ == "__main__":
    main()
