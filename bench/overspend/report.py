"""The tables of the results, their summary, and everything that is wrong."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from bench.tables import markdown_table, measured_on
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.overspend.outcome import Outcome
    from bench.overspend.scenarios import Scenario

PART = "overspend"
"""The part of the page where the tables stand."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a scenario with a gateway."""

    scenario: str
    gateway: str
    is_this_proxy: bool
    outcome: Outcome
    faults: dict[str, int | str]
    """What is wrong, if the gateway is this proxy."""


def as_markdown(chosen: list[Scenario], results: list[Result]) -> str:
    """Return the overspend with every gateway, the sums for this proxy, and every problem."""
    outcomes = {(result.scenario, result.gateway): result.outcome for result in results}
    names = list(dict.fromkeys(result.gateway for result in results))
    parts = [
        measured_on(),
        "Overspend in percent of the budget:",
        markdown_table(
            ("", *names),
            [
                [scenario.name, *(percent_cell(outcomes.get((scenario.name, name))) for name in names)]
                for scenario in chosen
            ],
        ),
        "This proxy, all scenarios together, in USD:",
        sums([result.outcome for result in results if result.is_this_proxy]),
    ]
    if problems := list(problem_rows(results)):
        parts.append("Inconclusive, held with no call in flight, or wrong in this proxy:")
        parts.append(markdown_table(("", "gateway", "problem"), problems, left=3))
    return "\n\n".join(part.strip() for part in parts)


def sums(outcomes: list[Outcome]) -> str:
    return markdown_table(
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
    """All faults of this proxy; the inconclusive scenarios and the phantom holds of the other gateways."""
    for result in results:
        if result.is_this_proxy:
            for name, value in result.faults.items():
                yield result.scenario, result.gateway, f"{name}: {value}"
            continue
        if result.outcome.is_inconclusive:
            yield result.scenario, result.gateway, f"inconclusive: {result.outcome.inconclusive}"
        if held_nanousd := result.outcome.held_nanousd:
            yield result.scenario, result.gateway, f"phantom holds: {usd_cell(held_nanousd)} USD"


def percent_cell(outcome: Outcome | None) -> str:
    """Empty if the gateway lacks what the scenario needs."""
    if outcome is None:
        return ""
    if outcome.is_inconclusive:
        return "inconclusive"
    percent = outcome.overspend_percent
    return f"{percent:,.0f}" if percent >= 1 or not percent else f"{percent:.2f}"


def usd_cell(nanousd: int) -> str:
    return f"{nanousd / NANOUSD_PER_USD:.6f}" if nanousd else "0"


def summary(results: list[Result]) -> str:
    """Return how many scenarios ran with this proxy, with how many faults, and which overspends are none."""
    ours = [result for result in results if result.is_this_proxy]
    over = [result.outcome for result in ours if result.outcome.overspend_percent and not result.faults]
    lost = sum(outcome.ledger_lost for outcome in over)
    known = {
        "after the loss of a ledger in memory": lost,
        "with an upstream that bills more than it reports": len(over) - lost,
    }
    parts = [
        f"{len(ours):,} scenarios on {len({result.gateway for result in ours})} kinds of server",
        f"{sum(bool(result.faults) for result in ours)} with a fault",
        *(f"{count} with an overspend {reason}" for reason, count in known.items() if count),
        f"phantom holds {usd_cell(sum(result.outcome.held_nanousd for result in ours))}",
    ]
    return "; ".join(parts)


def as_json(results: list[Result]) -> dict[str, Any]:
    """Return the summary, and all figures by scenario and gateway."""
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        figures.setdefault(result.scenario, {})[result.gateway] = dataclasses.asdict(result.outcome)
    return {"summary": summary(results), "scenarios": figures}
