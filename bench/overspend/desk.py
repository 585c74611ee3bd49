"""Where a scenario is played: one gateway, one upstream, the runs of the scenario, and what came of them."""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TYPE_CHECKING

from bench.overspend.asks import Caller, greedy, send
from bench.overspend.outcome import Charges, Outcome, is_payable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.overspend.asks import Ask, Kind, Reply
    from bench.overspend.gateways import Books, Gateway, Run
    from bench.overspend.scenarios import Scenario
    from tests.process.fake_chutes_control import Upstream

PATIENCE_SECONDS = 15.0
"""For a call to reach the upstream, or to be refused."""

SETTLE_SECONDS = 15.0
"""For all holds to resolve: those of killed workers fall due after 6."""

FIVE_CALLS_NANOUSD = 1_900_000
ONE_CALL_NANOUSD = 400_000
"""Caps. A call of /agents holds some 370,000: 1,024 tokens, and the bound of a short prompt."""

CALLS = 12
"""More than twice as many as the larger cap pays for."""


class NotPlayedError(Exception):
    """The scenario did not come to the moment that it is about."""


class Desk:
    """What a scenario works with."""

    def __init__(self, gateway: Gateway, upstream: Upstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.reported: int | None = 1
        """As in `Charges`."""
        self.in_phase = 0
        self.refused = 0
        """As in `Least`."""
        self._runs: list[Run] = []
        self._embedding_seconds = 0.0
        self._unsure = 0
        self._gates = itertools.count()
        upstream.reset()

    def run(
        self, budget_nanousd: int = FIVE_CALLS_NANOUSD, run_id: str | None = None, *, by_token: bool = True
    ) -> Run:
        """A run of its own, whose cap counts."""
        run = self.gateway.run(budget_nanousd, run_id, by_token=by_token)
        self._runs.append(run)
        return run

    def note(self, *replies: Reply) -> None:
        """Remember what the books are compared with."""
        self._embedding_seconds += sum(reply.embedding_seconds for reply in replies if reply.good)

    def spend(
        self, run: Run, kind: Kind, times: int = CALLS, prompt: str | None = None, **fields: object
    ) -> list[Reply]:
        """Call one after another, whatever comes of it."""
        said = greedy() if prompt is None else prompt
        replies = [send(self.gateway.ask(run, kind, said, **fields)) for _ in range(times)]
        self.note(*replies)
        return replies

    def stop(self, asks_at: Callable[[str], Sequence[Ask]]) -> tuple[str, list[Caller]]:
        """Make calls that are to stop at a gate, and wait until they do. The gate, and who waits there."""
        gate = f"gate-{next(self._gates)}"
        callers = [Caller(ask) for ask in asks_at(gate)]
        try:
            self.await_upstream("at_gate", callers)
        except NotPlayedError:
            self.leave(gate, callers)
            raise
        return gate, callers

    def leave(self, gate: str, callers: Sequence[Caller]) -> None:
        """Hang up at a gate, and open it."""
        for caller in callers:
            caller.leave()
        self.upstream.release(gate)
        self.upstream.wait(idle=1)

    def await_upstream(self, counter: str, callers: Sequence[Caller], already: int = 0) -> None:
        """Wait until the upstream counts each of these calls, beside those already counted, or it is over.

        They are in the phase then, and may be charged their holds: who leaves now leaves no usage.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            over = sum(caller.over() for caller in callers)  # first: a call may go on to its end meanwhile
            counters = self.upstream.wait()
            seen = min(counters[counter] - already, len(callers))
            if seen + over >= len(callers):
                break
            if time.monotonic() > end:
                raise NotPlayedError(f"{counter}: {seen} of {len(callers)} calls, {over} were over before")
            time.sleep(0.005)
        self.in_phase += seen
        self._unsure = counters["count"]

    def settle(self) -> None:
        """Wait until nothing is in flight, and every hold has resolved; those of the dead fall due."""
        self.upstream.wait(idle=1, timeout_seconds=30.0)
        self._settled_books()

    def outcome(self, *, forgotten: bool = False) -> Outcome:
        """Wait until nothing is in flight, and compare the books."""
        self.upstream.wait(idle=1, timeout_seconds=30.0)
        books = [each for each in self._settled_books() if each]
        rows = self.upstream.books()
        charges = Charges(self.reported, self._unsure, self._embedding_seconds)
        told = len(books) == len(self._runs)
        return Outcome(
            budget_nanousd=sum(run.budget_nanousd for run in self._runs),
            billed_nanousd=rows["billed_nanousd"],
            spent_nanousd=sum(each.spent_nanousd for each in books) if told else None,
            held_nanousd=sum(each.held_nanousd for each in books),
            payable_nanousd=charges.most_nanousd(rows["calls"]),
            calls=sum(map(is_payable, rows["calls"])),
            charged=sum(each.calls for each in books),
            in_phase=self.in_phase,
            refused=self.refused,
            forgotten=forgotten,
        )

    def _settled_books(self) -> list[Books | None]:
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            books = [self.gateway.books(run) for run in self._runs]
            if time.monotonic() > end or not any(each and each.held_nanousd for each in books):
                return books
            time.sleep(0.05)


def played(scenario: Scenario, gateway: Gateway, upstream: Upstream) -> Outcome:
    """What the scenario comes to with this gateway, and whether it did come to it."""
    desk = Desk(gateway, upstream)
    stuck = None
    try:
        scenario.play(desk)
    except NotPlayedError as error:
        stuck = str(error)
    outcome = desk.outcome(forgotten=gateway.forgets and scenario.needs in {"kill", "reload"})
    return dataclasses.replace(outcome, not_played=stuck or scenario.least.lacking(outcome))
