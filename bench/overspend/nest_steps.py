"""The steps of the scenarios with budgets that several runs share."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from bench.overspend.outcome import ANSWER_NANOUSD, Minimum
from bench.overspend.requests import greedy_prompt, send, send_at_once
from bench.overspend.steps import CALLS_AT_ONCE
from bench.overspend.trial import InconclusiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.overspend.gateways import Gateway
    from bench.overspend.nests import Nest
    from bench.overspend.requests import OpenRequest, Response
    from bench.overspend.trial import Trial

STOPPED_CALLS = (0, 1, 2, 23, 24)
"""Calls in flight when the gateway or the period ends: as many as the budget for all pays for. The first
three are of three groups; the other two are of the dear model."""

WAITS_SECONDS = (4, 10, 30)
"""From the beginning of a trial to the end of its first period: the gateway must have its budgets before."""

STOP_SECONDS = 1.5
"""Before the end of the period, in which the calls must be held that the end finds in flight."""

RUSH_SECONDS = 0.5
"""Before and after the end of the period, in which the other calls are made."""

ONE_PERIOD = Minimum(5, 5 * ANSWER_NANOUSD)
THREE_STOPPED = Minimum(5, 5 * ANSWER_NANOUSD, tested_calls=3)
"""The budget for all pays for five answers. On a busy machine a call may be over before the others arrive."""

TWO_PERIODS = Minimum(8, 8 * ANSWER_NANOUSD, tested_calls=3)
LOST_REPLIES = Minimum(5, 5 * ANSWER_NANOUSD, tested_calls=5)


def race(trial: Trial) -> None:
    """Make all calls at the same moment. Each of them alone would fit every budget."""
    _race(trial, trial.new_nest())


def end_gateway(trial: Trial, end: Callable[[Gateway], None]) -> None:
    """Kill, reload or restart the gateway while calls are in flight. Then go on.

    The calls go on at once, and again after the holds of killed workers have expired.
    """
    nest = trial.new_nest()
    gate, open_requests = _stop(trial, nest)
    end(trial.gateway)
    trial.leave_closed_gate(gate, open_requests)
    _race(trial, nest)
    trial.wait_until_settled()
    _race(trial, nest)


def lose_replies(trial: Trial) -> None:
    """Make calls while replies of the ledger are lost; then go on without losses."""
    nest = trial.new_nest()
    with trial.gateway.losing_replies() as end_losses:
        _race(trial, nest)
        trial.tested_calls = end_losses()
        trial.wait_until_settled()
        _race(trial, nest)
        trial.wait_until_settled()


def end_period(trial: Trial, end: Callable[[Gateway], None] | None = None) -> None:
    """Let the period end while calls are in flight and others are made without a pause. Then go on.

    `end` kills the gateway before the period ends, so that the holds expire in the next period.
    """
    nest = _nest_before_end(trial)
    gate, open_requests = _stop(trial, nest)
    if time.time() >= nest.ends_at:
        trial.leave_gate(gate, open_requests)
        raise InconclusiveError("the period ended before the calls were in flight")
    if end is not None:
        end(trial.gateway)
    trial.add_responses(_rush(nest))
    trial.leave_closed_gate(gate, open_requests)
    trial.wait_until_settled()
    _race(trial, nest)


def _race(trial: Trial, nest: Nest) -> None:
    prompt = partial(_greedy_prompt, pause_ms=2)
    requests = [nest.request(number, prompt) for number in range(CALLS_AT_ONCE)]
    trial.add_responses(send_at_once(requests))


def _stop(trial: Trial, nest: Nest) -> tuple[str, list[OpenRequest]]:
    return trial.stop_at_gate(
        lambda gate: [
            nest.request(number, partial(_greedy_prompt, gate=gate, gate_at="headers"))
            for number in STOPPED_CALLS
        ]
    )


def _nest_before_end(trial: Trial) -> Nest:
    """A nest whose first period ends in STOP_SECONDS."""
    for seconds in WAITS_SECONDS:
        nest = trial.new_nest(seconds)
        spare = nest.ends_at - STOP_SECONDS - time.time()
        if spare >= 0:
            time.sleep(spare)  # the end of a period is a time on the clock
            return nest
    raise InconclusiveError("the period ended before the gateway had its budgets")


def _rush(nest: Nest) -> list[Response]:
    """Make calls at even intervals around the end of the period."""
    begins_at = max(time.time(), nest.ends_at - RUSH_SECONDS)
    seconds = nest.ends_at + RUSH_SECONDS - begins_at

    def wait_and_send(number: int) -> Response:
        time.sleep(max(0.0, begins_at + seconds * number / CALLS_AT_ONCE - time.time()))
        return send(nest.request(number, partial(_greedy_prompt, pause_ms=2)))

    with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
        return list(threads.map(wait_and_send, range(CALLS_AT_ONCE)))


def _greedy_prompt(label: str, **options: object) -> str:
    return greedy_prompt(first_ms=20, label=label, **options)
