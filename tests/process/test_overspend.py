"""The overspend benchmark, in part: 0 on every ledger, while gateways that have a fault are found out."""

from __future__ import annotations

import operator
import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from bench.overspend.asks import Ask, Kind
from bench.overspend.desk import FIVE_CALLS_NANOUSD, Desk, played
from bench.overspend.gateways import Books, Gateway, Run
from bench.overspend.ours import ours
from bench.overspend.scenarios import Scenario, scenarios
from tests.process.fake_chutes_control import Upstream
from tests.support.missing import missing
from tests.support.one_answer import answering, http

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.overspend.outcome import Outcome

BY_NAME = {each.name: each for each in scenarios()}

# Left to `make overspend`: a kill at every moment of each kind (six seconds each, as the holds of the dead
# have to fall due), most of the rest on ledgers that are shared, several workers, several machines, and the
# other gateways.

WITHOUT_RESTART = [each for each in scenarios() if each.needs not in {"kill", "reload"}]
"""Everything for `memory://`, which forgets, and says so."""

BY_LEDGER = [
    BY_NAME[name]
    for name in (
        "100 at once, budget for 1, /agents",
        "100 at once, budget for 5, /v1 streamed",
        "100 at once, budget for 5, embedding",
        "100 at once, all kinds on one run",
        "leaves before headers, /v1 whole",
        "kill -9, all kinds on one run",
        "reload, /agents",
        "sleeps past the TTL, /agents",
        "five runs, alike but for case, form or space",
    )
]
"""Where the ledger matters."""

NAME = operator.attrgetter("name")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as started:
        yield started


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[Gateway]:
    if request.param == "Redis" and not shutil.which("redis-server"):
        missing("redis-server", "apt install redis-server")
    with ours(upstream.url, request.param, workers=1, machines=1) as started:
        yield started


# The ledger is a mark of its own, so that all scenarios of one share a server.


@pytest.mark.parametrize("gateway", ["memory"], indirect=True)
@pytest.mark.parametrize("scenario", WITHOUT_RESTART, ids=NAME)
def test_nothing_is_overspent_held_for_ever_or_charged_unfairly(
    scenario: Scenario, gateway: Gateway, upstream: Upstream
) -> None:
    assert played(scenario, gateway, upstream).faults() == {}


@pytest.mark.parametrize("gateway", ["SQLite", "Redis"], indirect=True)
@pytest.mark.parametrize("scenario", BY_LEDGER, ids=NAME)
def test_nor_is_it_with_a_ledger_that_others_share(
    scenario: Scenario, gateway: Gateway, upstream: Upstream
) -> None:
    assert played(scenario, gateway, upstream).faults() == {}


class Keyless(Gateway):
    """A gateway that knows no tokens."""

    def run(self, budget_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:  # noqa: ARG002 - it has no use for them
        return Run(run_id or "run", budget_nanousd)


class Nobody(Keyless):
    """No gateway at all: calls go straight to the upstream, and it is told what the books shall say."""

    name = "nobody"
    kinds = frozenset({Kind.STREAM})

    def __init__(self, upstream: Upstream, held_nanousd: int = 0) -> None:
        self._upstream = upstream
        self._held_nanousd = held_nanousd

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        whole = Gateway.chat(run, prompt, stream=kind is Kind.STREAM, **{"max_tokens": 1024, **fields})
        return Ask(
            port_of(self._upstream.url), "/v1/chat/completions", whole, {"Authorization": "Bearer key"}
        )

    def books(self, run: Run) -> Books:  # noqa: ARG002 - all have the same
        return Books(0, self._held_nanousd)


class ChargesTwice(Nobody):
    """It settles every call two times."""

    def books(self, run: Run) -> Books:  # noqa: ARG002 - all have the same
        seen = self._upstream.wait()
        return Books(2 * seen["billed_nanousd"], calls=2 * seen["count"])


class ChargesMore(Nobody):
    """It charges a nano-dollar for nothing."""

    def books(self, run: Run) -> Books:  # noqa: ARG002 - all have the same
        seen = self._upstream.wait()
        return Books(seen["billed_nanousd"] + 1, calls=seen["count"])


class RepaysTheDead(Nobody):
    """Its budget is this: while the holds of killed workers are open, it refuses; then they are gone."""

    def __init__(self, upstream: Upstream, refuses: Gateway) -> None:
        super().__init__(upstream)
        self._refuses = refuses
        self.looks = 0

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        if self.looks:
            return self._refuses.ask(run, kind, prompt, **fields)
        return super().ask(run, kind, prompt, **fields)

    def kill(self) -> None:
        self.looks = 3  # so many more at the books, and the holds have fallen due

    def books(self, run: Run) -> Books:  # noqa: ARG002 - all have the same
        self.looks = max(0, self.looks - 1)
        return Books(self._upstream.wait()["billed_nanousd"], held_nanousd=self.looks)


class Door(Keyless):
    """A gateway that does nothing by itself, at a port where somebody else answers, or nobody."""

    name = "door"
    kinds = frozenset(Kind)

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        return Ask(self._port, kind, Gateway.chat(run, prompt, **fields))

    def books(self, run: Run) -> Books:  # noqa: ARG002 - nothing is ever spent
        return Books(0)

    def kill(self) -> None:
        pass

    def reload(self) -> None:
        pass


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture
def refuses_all() -> Iterator[Door]:
    with answering(http(b"{}", "422 Unprocessable Entity")) as server:
        yield Door(port_of(server.url))


def outcome_of(name: str, gateway: Gateway, upstream: Upstream) -> Outcome:
    return played(BY_NAME[name], gateway, upstream)


@pytest.mark.parametrize("name", ["100 at once, budget for 5, /v1 streamed", "usage: none, /v1 streamed"])
def test_a_gateway_without_budgets_is_found_out(upstream: Upstream, name: str) -> None:
    faults = outcome_of(name, Nobody(upstream), upstream).faults()
    assert faults.keys() == {"overspend", "unbooked"}
    assert int(faults["overspend"]) > 0.5 * FIVE_CALLS_NANOUSD


def test_a_gateway_that_refuses_everything_has_played_nothing(
    upstream: Upstream, refuses_all: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overspend.plays.ASLEEP_SECONDS", 0.0)
    for scenario in scenarios():
        assert played(scenario, refuses_all, upstream).faults().keys() == {"not played"}, scenario.name


@pytest.mark.parametrize("name", ["leaves mid answer, /agents", "kill -9, before headers, /v1 whole"])
def test_nor_has_one_that_does_not_answer(
    upstream: Upstream, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overspend.desk.PATIENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = outcome_of(name, Door(listener.getsockname()[1]), upstream)
    assert str(outcome.not_played).startswith("at_gate: 0 of ")


def test_a_charge_for_nothing_is_found_out(upstream: Upstream) -> None:
    outcome = outcome_of("the upstream refuses, /v1 streamed", ChargesMore(upstream), upstream)
    assert outcome.unfair_nanousd == 1


@pytest.mark.parametrize("name", ["leaves after the answer, /v1 streamed", "max_tokens: n, /v1 streamed"])
def test_a_call_that_is_charged_twice_is_found_out(upstream: Upstream, name: str) -> None:
    outcome = outcome_of(name, ChargesTwice(upstream), upstream)
    assert (outcome.unfair_nanousd, outcome.surplus) == (outcome.billed_nanousd, 12)


def test_so_is_one_whose_client_left_and_whose_hold_is_charged(upstream: Upstream) -> None:
    outcome = outcome_of("leaves mid answer, /v1 streamed", ChargesTwice(upstream), upstream)
    assert outcome.surplus == 12


def test_a_ledger_that_repays_the_holds_of_the_dead_is_found_out(
    upstream: Upstream, refuses_all: Door
) -> None:
    outcome = outcome_of("kill -9, mid answer, /v1 streamed", RepaysTheDead(upstream, refuses_all), upstream)
    assert outcome.overspend_nanousd > 0.5 * FIVE_CALLS_NANOUSD


def test_a_hold_that_nobody_resolves_is_found_out(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overspend.desk.SETTLE_SECONDS", 0.0)
    desk = Desk(Nobody(upstream, held_nanousd=7), upstream)
    desk.spend(desk.run(), Kind.STREAM, 1)
    assert desk.outcome().held_nanousd == 7
