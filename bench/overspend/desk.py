"""Where a scenario is played: one gateway, one upstream, the runs of the scenario, and what came of them."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.overspend.asks import Caller, Reply, greedy, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.overspend.asks import Ask, Kind
    from bench.overspend.gateways import Books, Gateway, Run
    from bench.overspend.scenarios import Scenario
    from tests.process.stand_in_control import StandIn

NANOUSD_PER_TOKEN = 270
EMBEDDING_NANOUSD = 3_000_000
"""The most that one embedding may be charged: 30 s at 0.0001 USD."""

UNSEEN_TOKENS = 600
"""More than the allowances for templates that a prompt's bound has beside its bytes."""

SETTLE_SECONDS = 15.0
"""For all holds to resolve: those of killed workers fall due after 5."""

FIVE_CALLS_NANOUSD = 1_900_000
ONE_CALL_NANOUSD = 400_000
"""Caps. A call of /agents holds some 370,000: 1,024 tokens, and the bound of a short prompt."""

CALLS = 12
"""More than twice as many as the larger cap pays for."""


REFUSALS = frozenset(
    {
        "quota",
        "at_capacity",
        "no_instances",
        "exhausted",
        "model_not_found",
        "invalid_request",
        "auth_invalid",
    }
)
"""Faults of the stand-in that are error statuses: nothing is billed."""


@dataclass(frozen=True)
class Outcome:
    """What a scenario came to, in nano-USD."""

    cap_nanousd: int
    billed_nanousd: int
    """By the upstream's own books."""
    spent_nanousd: int | None
    """By the gateway's; None where it does not tell."""
    held_nanousd: int
    """With nothing in flight: phantom holds."""
    payable_nanousd: int
    """The most that could be asked for what reached the upstream and was not refused there."""
    answered: int
    """Calls that were answered well."""
    forgotten: bool
    """The ledger lives in the process that ended, and says so: nothing else can be expected of it."""

    @property
    def overspend_nanousd(self) -> int:
        """Billed above the cap."""
        return max(0, self.billed_nanousd - self.cap_nanousd)

    @property
    def unbooked_nanousd(self) -> int:
        """Billed and not booked: the next overspend."""
        return 0 if self.spent_nanousd is None else max(0, self.billed_nanousd - self.spent_nanousd)

    @property
    def unfair_nanousd(self) -> int:
        """Charged for what was never sent, or was refused."""
        return max(0, (self.spent_nanousd or 0) - self.payable_nanousd)


class Desk:
    """What a scenario works with."""

    def __init__(self, gateway: Gateway, upstream: StandIn) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.reported = 1
        """How many times the truth the upstream says that it bills: so much is what it asks for."""
        self._runs: list[Run] = []
        self._answered = 0
        self._gates = itertools.count()
        upstream.reset()

    def run(
        self, cap_nanousd: int = FIVE_CALLS_NANOUSD, run_id: str | None = None, *, by_token: bool = True
    ) -> Run:
        """A run of its own, whose cap counts."""
        run = self.gateway.run(cap_nanousd, run_id, by_token=by_token)
        self._runs.append(run)
        return run

    def note(self, *replies: Reply) -> None:
        """Count the good ones among answers."""
        self._answered += sum(reply.good for reply in replies)

    def spend(
        self, run: Run, kind: Kind, times: int = CALLS, prompt: str | None = None, **fields: object
    ) -> None:
        """Call one after another, whatever comes of it."""
        for _ in range(times):
            self.note(send(self.gateway.ask(run, kind, greedy() if prompt is None else prompt, **fields)))

    def leave(self, ask_at: Callable[[str], Ask]) -> None:
        """Make a call that is to stop at a gate, leave it there, and open the gate."""
        gate = f"gate-{next(self._gates)}"
        caller = Caller(ask_at(gate))
        self.await_upstream("at_gate", 1, caller.answered)
        caller.leave()
        self.upstream.release(gate)
        self.upstream.wait(idle=1)

    def await_upstream(self, counter: str, least: int, answered: Callable[[], bool]) -> None:
        """Wait until the upstream has counted so many, or the calls have their answers already."""
        end = time.monotonic() + 5.0
        while self.upstream.wait()[counter] < least and not answered():
            if time.monotonic() > end:
                return
            time.sleep(0.005)

    def outcome(self, *, forgotten: bool = False) -> Outcome:
        """Wait until nothing is in flight, and compare the books."""
        self.upstream.wait(idle=1, timeout_seconds=30.0)
        books = self._settled_books()
        rows = self.upstream.books()
        return Outcome(
            cap_nanousd=sum(run.cap_nanousd for run in self._runs),
            billed_nanousd=rows["billed_nanousd"],
            spent_nanousd=None if None in books else sum(each.spent_nanousd for each in books if each),
            held_nanousd=sum(each.held_nanousd for each in books if each),
            payable_nanousd=self.reported * sum(map(_payable_nanousd, rows["calls"])),
            answered=self._answered,
            forgotten=forgotten,
        )

    def _settled_books(self) -> list[Books | None]:
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            books = [self.gateway.books(run) for run in self._runs]
            if time.monotonic() > end or not any(each and each.held_nanousd for each in books):
                return books
            time.sleep(0.05)


def played(scenario: Scenario, gateway: Gateway, upstream: StandIn) -> Outcome:
    """What the scenario comes to with this gateway."""
    desk = Desk(gateway, upstream)
    scenario.play(desk)
    return desk.outcome(forgotten=gateway.forgets and scenario.needs in {"kill", "reload"})


def _payable_nanousd(row: dict[str, Any]) -> int:
    """The most that a call may cost by what the upstream was sent."""
    if row["outcome"] == "refused" or row["fault"] in REFUSALS:
        return 0
    if row["path"].endswith("/embed"):
        return EMBEDDING_NANOUSD
    choices = int((row["body"] or {}).get("n") or 1)
    tokens = int(row["prompt_tokens"]) + UNSEEN_TOKENS + choices * int(row["max_tokens"] or 0)
    return max(tokens * NANOUSD_PER_TOKEN, int(row["billed_nanousd"]))
