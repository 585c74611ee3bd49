"""One trial of a scenario: a gateway, an upstream, the runs of the scenario, and their outcome."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from bench.overspend.nests import RUN_NANOUSD, Nest
from bench.overspend.outcome import Outcome, PermittedCharges, is_chargeable
from bench.overspend.requests import OpenRequest, greedy_prompt, send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.overspend.gateways import Gateway, Run, Spending
    from bench.overspend.requests import CallKind, GatewayRequest, Response
    from tests.process.fake_chutes_control import Upstream

ARRIVAL_SECONDS = 15.0
"""For a call to reach the upstream, or to be refused."""

IDLE_SECONDS = 30.0
"""For the calls upstream to end."""

SETTLE_SECONDS = 15.0
"""For all holds to resolve: those of killed workers expire after 6 s."""

FIVE_CALLS_NANOUSD = 1_900_000
ONE_CALL_NANOUSD = 400_000
"""Budgets. A call of /agents holds some 370,000: 1,024 tokens, and the bound of a short prompt."""

CALLS = 12
"""More than twice as many as the larger budget pays for."""


FAR_SECONDS = 1800
"""Until the end of a period that no trial reaches: half of the shortest window."""


class InconclusiveError(Exception):
    """The trial did not reach the situation that the scenario tests."""


class Trial:
    """The parts that the steps of a scenario use."""

    def __init__(self, gateway: Gateway, upstream: Upstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.reported_factor: int | None = 1
        """See PermittedCharges."""
        self.tested_calls = 0
        self.refused = 0
        """See Minimum."""
        self._runs: list[Run] = []
        self._nest: Nest | None = None
        self._embedding_seconds = 0.0
        self._unsure_calls = 0
        self._gate_numbers = itertools.count()
        upstream.reset()

    def new_run(self, budget_nanousd: int = FIVE_CALLS_NANOUSD, run_id: str | None = None) -> Run:
        """A run whose budget and amounts count in the outcome. No other budget limits it."""
        if "set_budgets" in self.gateway.abilities:
            self.gateway.set_budgets(())
        return self._add_run(self.gateway.new_run(budget_nanousd, run_id))

    def new_nest(self, seconds: int = FAR_SECONDS) -> Nest:
        """Runs under budgets that they share, of which all count in the outcome.

        The first period of these budgets ends in about so many seconds.
        """
        self._nest = Nest(
            self.gateway,
            int(time.time()) + seconds,
            lambda groups: self._add_run(self.gateway.new_run(RUN_NANOUSD, groups=groups)),
        )
        self._nest.begin()
        return self._nest

    def _add_run(self, run: Run) -> Run:
        self._runs.append(run)
        return run

    def add_responses(self, responses: Sequence[Response]) -> None:
        """Count the time of successful embeddings, which may be charged."""
        self._embedding_seconds += sum(each.embedding_seconds for each in responses if each.is_success)

    def make_calls(
        self, run: Run, kind: CallKind, times: int = CALLS, prompt: str | None = None, **fields: object
    ) -> list[Response]:
        """Make calls one after another, whatever their responses are."""
        text = greedy_prompt() if prompt is None else prompt
        responses = [send(self.gateway.request(run, kind, text, **fields)) for _ in range(times)]
        self.add_responses(responses)
        return responses

    def stop_at_gate(
        self, requests_for: Callable[[str], Sequence[GatewayRequest]]
    ) -> tuple[str, list[OpenRequest]]:
        """Send the requests for a new gate of the upstream, and wait until their calls stop there."""
        gate = f"gate-{next(self._gate_numbers)}"
        open_requests = [OpenRequest(request) for request in requests_for(gate)]
        try:
            self.wait_for_upstream("at_gate", open_requests)
        except InconclusiveError:
            self.leave_gate(gate, open_requests)
            raise
        return gate, open_requests

    def leave_gate(self, gate: str, open_requests: Sequence[OpenRequest]) -> None:
        """Reset the connections, then open the gate."""
        for request in open_requests:
            request.reset()
        self.upstream.release(gate)
        self.upstream.wait(idle=1)

    def leave_closed_gate(self, gate: str, open_requests: Sequence[OpenRequest]) -> None:
        """Reset the connections, and open the gate when the gateway has ended its calls.

        Otherwise the upstream may generate a whole answer in the milliseconds that a busy gateway needs to
        notice that its client has left. No gateway sees these tokens, so none can record them.
        """
        for request in open_requests:
            request.reset()
        self.upstream.wait(idle=1, timeout_seconds=IDLE_SECONDS)
        self.upstream.release(gate)

    def wait_for_upstream(self, counter: str, open_requests: Sequence[OpenRequest], already: int = 0) -> None:
        """Wait until the upstream has counted each call, besides those counted already, or the call is over.

        The calls are then in the situation that the scenario tests. They may be charged their holds, because
        a client that leaves now leaves no usage.
        """
        end = time.monotonic() + ARRIVAL_SECONDS
        while True:
            over = sum(request.is_over() for request in open_requests)  # first: a call may end meanwhile
            counters = self.upstream.wait()
            arrived = min(counters[counter] - already, len(open_requests))
            if arrived + over >= len(open_requests):
                break
            if time.monotonic() > end:
                raise InconclusiveError(
                    f"{counter}: {arrived} of {len(open_requests)} calls, {over} were over before"
                )
            time.sleep(0.005)
        self.tested_calls += arrived
        self._unsure_calls = counters["count"]

    def wait_until_settled(self) -> list[Spending | None]:
        """Wait until no call is in flight and all holds have resolved. The amounts of each run."""
        self.upstream.wait(idle=1, timeout_seconds=IDLE_SECONDS)
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            spending = [self.gateway.spending(run) for run in self._runs]
            is_held = any(each and each.held_nanousd for each in spending)
            is_held = is_held or (self._nest is not None and self._nest.held_nanousd() > 0)
            if time.monotonic() > end or not is_held:
                return spending
            time.sleep(0.05)

    def outcome(self, *, ledger_lost: bool = False) -> Outcome:
        """Wait until all is settled, and compare the gateway's amounts with the upstream's."""
        spendings = self.wait_until_settled()
        reported = [spending for spending in spendings if spending]
        upstream, nest = self.upstream.books(), self._nest
        permitted = PermittedCharges(self.reported_factor, self._unsure_calls, self._embedding_seconds)
        all_reported = len(reported) == len(self._runs)
        return Outcome(
            budget_nanousd=sum(run.budget_nanousd for run in self._runs),
            billed_nanousd=upstream["billed_nanousd"],
            spent_nanousd=sum(each.spent_nanousd for each in reported) if all_reported else None,
            held_nanousd=sum(each.held_nanousd for each in reported),
            permitted_nanousd=permitted.total_nanousd(upstream["calls"]),
            calls=sum(map(is_chargeable, upstream["calls"])),
            charged_calls=sum(each.charged_calls for each in reported),
            tested_calls=self.tested_calls,
            refused=self.refused,
            ledger_lost=ledger_lost,
            levels=tuple(nest.outcomes(upstream["calls"], permitted, spendings) if nest else ()),
        )
