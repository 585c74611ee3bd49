"""The calls of a run that the server remembers, as sums. The ledger knows costs, but no tokens and models."""

from __future__ import annotations

from typing import NamedTuple

from ridges_proxy.web.callers import turn_of
from ridges_proxy.web.services import services

MAX_CALLS = 10_000
"""A longer run is not known. Parsing so many lines takes 20 ms."""


class RunCalls(NamedTuple):
    """The tokens that the upstream reported for a run's calls, and the models that answered them."""

    prompt_tokens: int
    completion_tokens: int
    models: list[str]


def calls_of(run_id: str) -> RunCalls:
    """The sums of the run's latest calls on this server, of all its workers. A restart forgets them.

    The search takes time, so it has a turn. Raises BodyQueueError or DrainingError.
    """
    recent = services().recent_calls
    recent.flush()
    calls = services().turns.do(turn_of(run_id), lambda: recent.written_of_run(run_id, MAX_CALLS))
    return RunCalls(
        sum(call["prompt_tokens"] or 0 for call in calls),
        sum(call["completion_tokens"] or 0 for call in calls),
        sorted({call["model"] for call in calls if call["upstream_status"] is not None}),
    )
