"""The overspend benchmark, in part: 0 on every ledger, while a gateway without budgets is found out."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from bench.overspend.asks import Ask, Kind
from bench.overspend.desk import FIVE_CALLS_NANOUSD, Desk, played
from bench.overspend.gateways import Books, Gateway, Run
from bench.overspend.ours import ours
from bench.overspend.scenarios import Scenario, scenarios
from tests.process.stand_in_control import StandIn
from tests.support.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

ONCE = [each for each in scenarios() if set(each.kinds) <= {Kind.AGENTS}]
"""Those that have no kind, or could have any, once; the whole of it is `make overspend`."""

BY_LEDGER = re.compile("100 at once|kill -9, before|sleeps|reload|alike")
"""Where the ledger matters."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[StandIn]:
    with StandIn() as started:
        yield started


PLAN = [
    ("memory", [each for each in ONCE if each.needs not in {"kill", "reload"}]),  # it forgets, and says so
    ("SQLite", [each for each in ONCE if BY_LEDGER.search(each.name)]),
    ("Redis", [each for each in ONCE if BY_LEDGER.search(each.name)]),
]


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, upstream: StandIn) -> Iterator[Gateway]:
    if request.param == "Redis" and not shutil.which("redis-server"):
        missing("redis-server", "apt install redis-server")
    with ours(upstream.url, request.param, workers=1, machines=1) as started:
        yield started


@pytest.mark.parametrize(
    ("gateway", "scenario"),
    [pytest.param(ledger, each, id=f"{ledger}: {each.name}") for ledger, some in PLAN for each in some],
    indirect=["gateway"],
)
def test_nothing_is_overspent_held_for_ever_or_charged_unfairly(
    gateway: Gateway, upstream: StandIn, scenario: Scenario
) -> None:
    outcome = played(scenario, gateway, upstream)
    assert (outcome.overspend_nanousd, outcome.held_nanousd, outcome.unfair_nanousd) == (0, 0, 0)
    assert outcome.unbooked_nanousd == 0


class Nobody(Gateway):
    """No gateway at all: calls go straight to the upstream, and the books charge what nobody sent."""

    name = "nobody"
    kinds = frozenset({Kind.STREAM})

    def __init__(self, upstream: StandIn, books: Books) -> None:
        self._port = int(upstream.url.rpartition(":")[2])
        self._books = books

    def run(self, cap_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:  # noqa: ARG002 - it knows no tokens
        return Run(run_id or "run", cap_nanousd)

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        whole = Gateway.chat(run, prompt, stream=kind is Kind.STREAM, max_tokens=1024, **fields)
        return Ask(self._port, "/v1/chat/completions", whole, {"Authorization": "Bearer key"})

    def books(self, run: Run) -> Books:  # noqa: ARG002 - all have the same
        return self._books


@pytest.mark.parametrize("name", ["100 at once, budget for 5, /v1 streamed", "usage: none, /v1 streamed"])
def test_a_gateway_without_budgets_is_found_out(upstream: StandIn, name: str) -> None:
    (scenario,) = (each for each in scenarios() if each.name == name)
    outcome = played(scenario, Nobody(upstream, Books(0)), upstream)
    assert outcome.overspend_nanousd > 0.5 * FIVE_CALLS_NANOUSD
    assert outcome.unbooked_nanousd == outcome.billed_nanousd


def test_charges_for_nothing_are_found_out(upstream: StandIn) -> None:
    (scenario,) = (each for each in scenarios() if each.name == "the upstream refuses, /v1 streamed")
    outcome = played(scenario, Nobody(upstream, Books(1)), upstream)
    assert (outcome.billed_nanousd, outcome.unfair_nanousd) == (0, 1)


def test_a_hold_that_nobody_resolves_is_found_out(upstream: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.overspend.desk.SETTLE_SECONDS", 0.0)
    desk = Desk(Nobody(upstream, Books(0, held_nanousd=7)), upstream)
    desk.spend(desk.run(), Kind.STREAM, 1)
    assert desk.outcome().held_nanousd == 7
