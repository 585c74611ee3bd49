"""Part of the overspend benchmark: 0 on every store, while gateways with faults are detected."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import time
from typing import TYPE_CHECKING

import pytest

from bench.http_request import COMPLETIONS_PATH
from bench.overspend.gateways import Gateway, Run, Spending
from bench.overspend.nests import DEAR_MODEL, GROUPS
from bench.overspend.outcome import NANOUSD_PER_TOKEN
from bench.overspend.proxy_gateway import SETTINGS, Deployment, proxy_gateway
from bench.overspend.requests import CallKind, GatewayRequest, greedy_prompt, send
from bench.overspend.runner import run_scenario
from bench.overspend.scenarios import Scenario, scenarios
from bench.overspend.shared_budgets import LevelKey
from bench.overspend.trial import FIVE_CALLS_NANOUSD, Trial
from tests.support.missing import missing
from tests.support.one_answer import answering, http
from tests.support.table import check_rows, each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.overspend.outcome import Outcome
    from bench.overspend.shared_budgets import SharedBudget
    from tests.process.fake_chutes_control import Upstream

BY_NAME = {scenario.name: scenario for scenario in scenarios()}

# Only `make overspend` runs the rest: a kill at every point of each kind of call (six seconds each, until the
# holds of killed workers expire), every scenario on every store, several workers, several machines, and the
# other gateways.

PER_STORE = [
    BY_NAME[name]
    for name in (
        "100 at once, budget for 1, /agents",
        "100 at once, all kinds on one run",
        "leaves before headers, /v1 whole",
        "kill -9, all kinds on one run",
        "reload, /agents",
        "idle past the TTL, /agents",
        "five runs, ids differ in case, form or space",
        "nests, 100 at once",
    )
]
"""Scenarios whose result depends on the store"""

STORES = ("memory", "SQLite", "Redis")
QUICK_SETTINGS = {**SETTINGS, "DEADLINE_SECONDS": "2", "SWEEP_INTERVAL_SECONDS": "0.2"}


def scenarios_of(store: str) -> list[Scenario]:
    """The scenarios whose result depends on the store, and this store's third of all others."""
    ends_workers = store != "memory"  # `memory://` documents that it loses its ledger with its process
    per_store = [scenario for scenario in PER_STORE if ends_workers or not scenario.ends_workers]
    others = [
        scenario
        for scenario in scenarios()
        if not scenario.ends_workers and "set_budgets" not in scenario.abilities and scenario not in PER_STORE
    ]
    return [*per_store, *others[STORES.index(store) :: len(STORES)]]


@pytest.mark.parametrize("store", STORES)
def test_no_scenario_overspends_overcharges_or_leaves_a_hold(store: str, chutes: Upstream) -> None:
    if store == "Redis" and not shutil.which("redis-server"):
        missing("redis-server", "apt install redis-server")
    with proxy_gateway(chutes.url, Deployment(store, workers=1, machines=1)) as gateway:

        def check(name: str) -> None:
            scenario = BY_NAME[name]
            faults = scenario.faults(run_scenario(scenario, gateway, chutes))
            if faults.keys() == {"inconclusive"}:  # on a busy machine a deadline may end calls too early
                faults = scenario.faults(run_scenario(scenario, gateway, chutes))
            assert faults == {}

        check_rows([scenario.name for scenario in scenarios_of(store)], check)


@each_row("kind", ["/agents", "/v1 streamed"])
def test_of_a_usage_that_is_too_low_about_half_of_the_truth_is_charged(kind: str, chutes: Upstream) -> None:
    with proxy_gateway(chutes.url, Deployment("memory", workers=1, machines=1)) as gateway:
        scenario = BY_NAME[f"usage: below, {kind}"]
        outcome = run_scenario(scenario, gateway, chutes)
        faults = outcome.faults()

    assert scenario.faults(outcome) == {}
    assert faults.keys() == {"overspend", "unrecorded"}
    assert int(faults["unrecorded"]) <= 0.6 * chutes.books()["billed_nanousd"]


class WithoutKeys(Gateway):
    """A gateway that does not check keys."""

    def new_run(self, budget_nanousd: int, run_id: str | None = None, groups: Sequence[str] = ()) -> Run:
        del groups  # nothing tells them to it
        return Run(run_id or "run", budget_nanousd, {})

    def set_budgets(self, budgets: Sequence[SharedBudget]) -> None:
        pass

    def levels(self, budgets: Sequence[SharedBudget]) -> dict[LevelKey, Spending] | None:  # noqa: ARG002 - without budgets
        return None


class WithoutBudgets(WithoutKeys):
    """No gateway at all: calls go straight to the upstream. Reports fixed amounts."""

    name = "without budgets"
    kinds = frozenset({CallKind.STREAM})

    def __init__(self, upstream: Upstream, held_nanousd: int = 0) -> None:
        self._upstream = upstream
        self._held_nanousd = held_nanousd

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        body = self.completions_body(run, kind, prompt, **fields)
        headers = {"Authorization": "Bearer key"}
        return GatewayRequest(COMPLETIONS_PATH, body, headers, port=port_of(self._upstream.url))

    def spending(self, run: Run) -> Spending:  # noqa: ARG002 - the same for all runs
        return Spending(0, self._held_nanousd)


class ChargesTwice(WithoutBudgets):
    """Settles every call twice."""

    def spending(self, run: Run) -> Spending:  # noqa: ARG002 - the same for all runs
        counters = self._upstream.wait()
        return Spending(2 * counters["billed_nanousd"], charged_calls=2 * counters["count"])


class ChargesMore(WithoutBudgets):
    """Charges a nano-dollar too much."""

    def spending(self, run: Run) -> Spending:  # noqa: ARG002 - the same for all runs
        counters = self._upstream.wait()
        return Spending(counters["billed_nanousd"] + 1, charged_calls=counters["count"])


class ReleasesHoldsOfKilledWorkers(WithoutBudgets):
    """Refuses calls while the holds of killed workers are open, then accepts them again."""

    def __init__(self, upstream: Upstream, refusing: Gateway) -> None:
        super().__init__(upstream)
        self._refusing = refusing
        self._looks_left = 0

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        if self._looks_left:
            return self._refusing.request(run, kind, prompt, **fields)
        return super().request(run, kind, prompt, **fields)

    def kill(self) -> None:
        self._looks_left = 3  # the holds expire after the amounts have been read so many times

    def spending(self, run: Run) -> Spending:  # noqa: ARG002 - the same for all runs
        self._looks_left = max(0, self._looks_left - 1)
        return Spending(self._upstream.wait()["billed_nanousd"], held_nanousd=self._looks_left)


class Address(WithoutKeys):
    """A gateway at a port where another server answers, or none. Nothing is ever spent."""

    name = "address"
    kinds = frozenset(CallKind)

    def __init__(self, port: int) -> None:
        self._port = port

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        return GatewayRequest(kind, self.chat_body(run, prompt, **fields), port=self._port)

    def spending(self, run: Run) -> Spending:  # noqa: ARG002 - the same for all runs
        return Spending(0)

    def kill(self) -> None:
        pass

    def reload(self) -> None:
        pass

    def restart(self) -> None:
        pass

    @contextlib.contextmanager
    def losing_replies(self) -> Iterator[Callable[[], int]]:
        yield lambda: 0


def greedy_label(label: str) -> str:
    return greedy_prompt(label=label)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture
def refusing() -> Iterator[Address]:
    with answering(http(b"{}", "422 Unprocessable Entity")) as server:
        yield Address(port_of(server.url))


def outcome_of(name: str, gateway: Gateway, chutes: Upstream) -> Outcome:
    return run_scenario(BY_NAME[name], gateway, chutes)


@each_row("name", ["100 at once, budget for 5, /v1 streamed", "usage: none, /v1 streamed"])
def test_a_gateway_without_budgets_overspends(chutes: Upstream, name: str) -> None:
    faults = outcome_of(name, WithoutBudgets(chutes), chutes).faults()
    assert faults.keys() == {"overspend", "unrecorded"}
    assert int(faults["overspend"]) > 0.5 * FIVE_CALLS_NANOUSD


def test_all_scenarios_are_inconclusive_with_a_gateway_that_refuses_everything(
    chutes: Upstream, refusing: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overspend.steps.IDLE_SECONDS", 0.0)
    monkeypatch.setattr("bench.overspend.steps.CALLS_AT_ONCE", 12)
    monkeypatch.setattr("bench.overspend.nest_steps.CALLS_AT_ONCE", 12)
    monkeypatch.setattr("bench.overspend.nest_steps.WAITS_SECONDS", (2,))

    def check(name: str) -> None:
        assert outcome_of(name, refusing, chutes).faults().keys() == {"inconclusive"}

    check_rows(BY_NAME, check)


@each_row("name", ["leaves mid answer, /agents", "kill -9, before headers, /v1 whole"])
def test_a_scenario_is_inconclusive_with_a_gateway_that_does_not_answer(
    chutes: Upstream, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overspend.trial.ARRIVAL_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = outcome_of(name, Address(listener.getsockname()[1]), chutes)
    assert str(outcome.inconclusive).startswith("at_gate: 0 of ")


def test_a_charge_above_the_bill_is_an_overcharge(chutes: Upstream) -> None:
    outcome = outcome_of("the upstream refuses, /v1 streamed", ChargesMore(chutes), chutes)
    assert outcome.overcharge_nanousd == 1


@each_row("name", ["leaves after the answer, /v1 streamed", "max_tokens: n, /v1 streamed"])
def test_a_second_charge_for_a_call_is_an_overcharge_and_a_surplus_charge(
    chutes: Upstream, name: str
) -> None:
    outcome = outcome_of(name, ChargesTwice(chutes), chutes)
    assert (outcome.overcharge_nanousd, outcome.surplus_charges) == (outcome.billed_nanousd, 12)


def test_a_second_charge_for_a_call_whose_client_left_is_a_surplus_charge(chutes: Upstream) -> None:
    outcome = outcome_of("leaves mid answer, /v1 streamed", ChargesTwice(chutes), chutes)
    assert outcome.surplus_charges == 12


def test_a_ledger_that_releases_the_holds_of_killed_workers_overspends(
    chutes: Upstream, refusing: Address
) -> None:
    gateway = ReleasesHoldsOfKilledWorkers(chutes, refusing)
    outcome = outcome_of("kill -9, mid answer, /v1 streamed", gateway, chutes)
    assert outcome.overspend_nanousd > 0.5 * FIVE_CALLS_NANOUSD


def test_a_hold_that_never_resolves_is_reported(chutes: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.overspend.trial.SETTLE_SECONDS", 0.0)
    trial = Trial(WithoutBudgets(chutes, held_nanousd=7), chutes)
    trial.make_calls(trial.new_run(), CallKind.STREAM, 1)
    assert trial.outcome().held_nanousd == 7


class HoldsNothingForItsBudgets(WithoutBudgets):
    """Lets every call pass, and records each shared budget as untouched, with a hold that never resolves."""

    def levels(self, budgets: Sequence[SharedBudget]) -> dict[LevelKey, Spending]:
        return {LevelKey(budget.name, "all", is_first=True): Spending(0, 7) for budget in budgets[:1]}


def test_no_shared_budget_is_overspent_after_a_kill(chutes: Upstream) -> None:
    with proxy_gateway(chutes.url, Deployment("SQLite", workers=2, machines=1), QUICK_SETTINGS) as gateway:
        scenario = BY_NAME["nests, kill -9"]
        outcome = run_scenario(scenario, gateway, chutes)
    assert scenario.faults(outcome) == {}
    reported = [level for level in outcome.levels if level.spent_nanousd]
    assert {level.name.partition(" ")[2] for level in reported} >= {
        "all, first period",
        *(f"group:{group}, first period" for group in GROUPS),
    }


def test_each_shared_budget_is_compared_with_the_bills(
    chutes: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overspend.trial.SETTLE_SECONDS", 0.0)
    faults = outcome_of("nests, 100 at once", HoldsNothingForItsBudgets(chutes), chutes).faults()
    found = {re.sub(r"nest-\d+-", "", name) for name in faults}
    first = ("all all", *(f"team group:{group}" for group in GROUPS), f"dear model:{DEAR_MODEL}")
    assert {f"overspend of {name}, first period" for name in first} <= found
    assert {f"unrecorded of {name}, first period" for name in first} <= found
    assert {"overspend of run 0", "unrecorded of run 0", "held of all all, first period"} <= found
    assert not [name for name in found if "second period" in name]


def test_a_call_counts_in_the_period_in_which_it_was_held(chutes: Upstream) -> None:
    trial = Trial(WithoutBudgets(chutes), chutes)
    nest = trial.new_nest()
    sent_before_the_end = nest.request(0, greedy_label)
    send(sent_before_the_end)
    nest.ends_at = time.time()
    send(sent_before_the_end)  # received after the end, so it may have been held in either period
    send(nest.request(0, greedy_label))
    levels = {level.name.partition(" ")[2]: level for level in trial.outcome().levels}
    first, second = levels["all, first period"], levels["all, second period"]
    bill = chutes.calls()[0]["billed_nanousd"]
    assert (first.billed_nanousd, first.permitted_nanousd) == (bill, 2 * bill)
    assert (second.billed_nanousd, second.calls) == (bill + NANOUSD_PER_TOKEN, 2)
