"""The tables and the summary of the overspend benchmark."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from bench.overspend.outcome import Outcome
from bench.overspend.report import Result, as_json, as_markdown

OUTCOME = Outcome(
    budget_nanousd=1_000,
    billed_nanousd=900,
    spent_nanousd=900,
    held_nanousd=0,
    permitted_nanousd=1_000,
    calls=5,
    charged_calls=5,
    tested_calls=5,
    refused=0,
    ledger_lost=False,
)
OVER = replace(OUTCOME, billed_nanousd=13_000)


def results(**faults: int | str) -> list[Result]:
    return [
        Result("kill", "memory", True, replace(OVER, ledger_lost=True), {}),
        Result("kill", "SQLite", True, OUTCOME, {}),
        Result("below", "memory", True, OVER, {}),
        Result("below", "SQLite", True, OVER, faults),
        Result("kill", "other", False, replace(OUTCOME, inconclusive="calls 1 of 5"), {}),
    ]


def test_the_tables_have_each_scenario_and_gateway() -> None:
    chosen: list[Any] = [SimpleNamespace(name=name) for name in ("kill", "below")]
    measured, _, text = as_markdown(chosen, results(overspend=7)).partition("\n\n")
    assert measured.startswith("20")
    assert text.startswith("Overspend in percent of the budget:\n\n| ")
    assert "| kill | 1,200 | 0 | inconclusive |" in text
    assert "| below | 1,200 | 1,200 |  |" in text
    assert "| below | SQLite | overspend: 7 |" in text
    assert "| kill | other | inconclusive: calls 1 of 5 |" in text


def test_the_summary_tells_faults_from_the_overspends_that_are_known() -> None:
    assert as_json(results())["summary"] == (
        "4 scenarios on 2 kinds of server; 0 with a fault; "
        "1 with an overspend after the loss of a ledger in memory; "
        "2 with an overspend with an upstream that bills more than it reports; phantom holds 0"
    )
    assert "; 1 with a fault; " in as_json(results(overspend=7))["summary"]
