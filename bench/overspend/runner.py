"""Run a scenario against a gateway."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bench.overspend.trial import InconclusiveError, Trial

if TYPE_CHECKING:
    from bench.overspend.gateways import Gateway
    from bench.overspend.outcome import Outcome
    from bench.overspend.scenarios import Scenario
    from tests.process.fake_chutes_control import Upstream


def can_run(scenario: Scenario, gateway: Gateway) -> bool:
    """Whether the gateway has the kinds of calls and the abilities that the scenario needs."""
    return scenario.abilities <= gateway.abilities and set(scenario.kinds) <= gateway.kinds


def run_scenario(scenario: Scenario, gateway: Gateway, upstream: Upstream) -> Outcome:
    """The outcome of the scenario with this gateway, and whether it is conclusive."""
    trial = Trial(gateway, upstream)
    problem = None
    try:
        scenario.run(trial)
    except InconclusiveError as error:
        problem = str(error)
    outcome = trial.outcome(ledger_lost=gateway.loses_ledger and scenario.ends_workers)
    return dataclasses.replace(outcome, inconclusive=problem or scenario.minimum.shortfall(outcome))
