"""The table of the results, its summary line, and the page that shows them."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from statistics import mean
from typing import TYPE_CHECKING, Any

from bench.tables import markdown_table, measured_on
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bench.utilisation.trial import Case, Result

Results = list[tuple[str, "Case", "Result"]]
"""Each with the name of the deployment."""

LINE_CHARACTERS = 120
"""Of the pages in docs/."""

PART = "utilisation"
"""The part of the page where the table stands."""


def faults(results: Results) -> list[str]:
    """Overspend and phantom holds, each with the agent that had them."""
    return [
        f"{deployment}, {case.kind}, {case.model.name}, seed {case.seed}: {name} {amount_nanousd} nano-USD"
        for deployment, case, result in results
        for name, amount_nanousd in (
            ("overspend", result.overspend_nanousd),
            ("phantom hold", result.held_nanousd),
        )
        if amount_nanousd
    ]


def as_markdown(results: Results, price_of: Callable[[Case], str]) -> str:
    """The heading, a row for each kind at each price, and the summary."""
    deployments = list(dict.fromkeys(deployment for deployment, _, _ in results))
    rows: dict[str, Results] = defaultdict(list)
    for each in results:
        rows[f"{each[1].kind}, {price_of(each[1])}"].append(each)
    columns = (
        "",
        *deployments,
        "calls",
        "429",
        "refused, but fitted",
        "cut, but fitted",
        "overspend",
        "phantom holds",
    )
    table = markdown_table(columns, (_row(name, deployments, row) for name, row in rows.items()))
    text = textwrap.fill(summary(results), LINE_CHARACTERS)
    return f"{measured_on()}\n\n{table}\n{text}\n"


def peers_as_markdown(results: Results, price_of: Callable[[Case], str]) -> str:
    """A row for each kind at each price: the used share, and the largest overspend in percent."""
    peers = list(dict.fromkeys(name for name, _, _ in results))
    rows = list(dict.fromkeys(f"{case.kind}, {price_of(case)}" for _, case, _ in results))
    cells: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for name, case, result in results:
        cells[f"{case.kind}, {price_of(case)}", name].append(result)
    columns = ("", *(column for name in peers for column in (name, "overspend %")))
    table = markdown_table(
        columns,
        [(row, *(text for name in peers for text in _peer_cells(cells[row, name]))) for row in rows],
    )
    return f"{measured_on()}\n\nThe gateways of others:\n\n{table}"


def _peer_cells(results: list[Result]) -> tuple[str, str]:
    """Empty if nothing was run."""
    if not results:
        return "", ""
    overspend = max(100 * result.overspend_nanousd / result.budget_nanousd for result in results)
    return _utilisation_cell(results), f"{overspend:.0f}"


def summary(results: Results) -> str:
    """The mean and the least utilisation of all agents, and the sums."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for _, case, result in results:
        by_kind[case.kind].append(result)
    lowest = min(by_kind, key=lambda kind: _mean(by_kind[kind]))
    figures = [result for _, _, result in results]
    seeds = len({case.seed for _, case, _ in results})
    return (
        f"{len(figures)} agents, utilisation {_mean(figures):.1%} in the mean "
        f"({_mean(by_kind[lowest]):.1%} for the lowest kind, {lowest}), "
        f"{min(result.utilisation for result in figures):.1%} for the least single agent, "
        f"overspend {_usd(result.overspend_nanousd for result in figures)}, "
        f"phantom holds {_usd(result.held_nanousd for result in figures)}. Seeds of each sort: {seeds}."
    )


def as_json(results: Results, of_peers: Results) -> dict[str, Any]:
    """The summary for this proxy, and all figures of each agent."""
    return {
        "summary": summary(results) if results else "only other gateways",
        "agents": [
            {
                "deployment": name,
                "kind": case.kind,
                "model": case.model.name,
                "seed": case.seed,
                **vars(result),
            }
            for name, case, result in [*results, *of_peers]
        ],
    }


def _row(name: str, deployments: Iterable[str], row: Results) -> list[str]:
    by_deployment: Mapping[str, list[Result]] = defaultdict(list)
    for deployment, _, result in row:
        by_deployment[deployment].append(result)
    figures = [result for _, _, result in row]
    return [
        name,
        *(_utilisation_cell(by_deployment[deployment]) for deployment in deployments),
        f"{mean(result.calls for result in figures):.0f}",
        *(
            f"{mean(getattr(result, name) for result in figures):.1f}".removesuffix(".0")
            for name in ("waits", "refused", "cut")
        ),
        _usd(result.overspend_nanousd for result in figures),
        _usd(result.held_nanousd for result in figures),
    ]


def _utilisation_cell(results: list[Result]) -> str:
    """The mean and the least; empty if nothing was run."""
    if not results:
        return ""
    return f"{100 * _mean(results):.1f} ({100 * min(result.utilisation for result in results):.1f})"


def _mean(results: list[Result]) -> float:
    return mean(result.utilisation for result in results)


def _usd(amounts_nanousd: Iterable[int]) -> str:
    total = sum(amounts_nanousd)
    return f"{total / NANOUSD_PER_USD:.6f}" if total else "0"
