"""The steps of the scenarios: what agents, upstreams and machines do in a trial."""

from __future__ import annotations

import dataclasses
import random
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bench.overspend.requests import CallKind, OpenRequest, greedy_prompt, send, send_at_once, wordy_prompt
from bench.overspend.trial import CALLS, ONE_CALL_NANOUSD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.overspend.trial import Trial

StopPoint = tuple[CallKind, object]
"""A kind of call, and the fake Chutes's `gate_at`, where its answer stops."""

CALLS_AT_ONCE = 100
KILLED_CALLS = 5
"""Calls in flight when a worker is killed: as many as the larger budget pays for."""

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
"""One fault of the fake Chutes for each kind of error status."""

LAST_EVENT = 900
"""The number of content events of an answer that stops at a gate. The finish reason and the usage follow it.
If a budget pays for fewer tokens, the answer ends before, and so before any gate that is set there."""

HIDDEN_SECONDS = 0.5
"""How long a client stays while 1,000 tokens a second are generated unseen."""

IDLE_SECONDS = 2.5
"""Above the proxy's run TTL of 1 s and the interval of a sweep."""


def race(trial: Trial, kind: CallKind, budget_nanousd: int) -> None:
    """Make all calls at the same moment. Each of them alone would fit the budget."""
    run = trial.new_run(budget_nanousd)
    prompt = greedy_prompt(first_ms=20, pause_ms=2)
    requests = [trial.gateway.request(run, kind, prompt) for _ in range(CALLS_AT_ONCE)]
    trial.add_responses(send_at_once(requests))


def race_all_kinds(trial: Trial) -> None:
    """Make calls of all kinds that the gateway knows at the same moment, on one run."""
    run = trial.new_run()
    prompt = greedy_prompt(first_ms=20, pause_ms=2)
    kinds = sorted(trial.gateway.kinds)
    requests = [
        trial.gateway.request(run, kinds[number % len(kinds)], prompt) for number in range(CALLS_AT_ONCE)
    ]
    random.Random(0).shuffle(requests)
    trial.add_responses(send_at_once(requests))


def leave(trial: Trial, kind: CallKind, at: object) -> None:
    """Make a call and leave at one point of the answer, several times."""
    run = trial.new_run()
    for _ in range(CALLS):
        trial.leave_gate(
            *trial.stop_at_gate(lambda gate: [trial.gateway.request(run, kind, _stopping_prompt(gate, at))])
        )


def leave_hidden_tokens(trial: Trial, kind: CallKind, options: Mapping[str, Any]) -> None:
    """Leave while the upstream generates tokens that it bills and does not send, again and again."""
    run = trial.new_run()
    prompt = wordy_prompt(hidden=100_000, **options)
    for _ in range(CALLS):
        already = trial.upstream.wait()["count"]
        request = trial.gateway.request(run, kind, prompt, include_reasoning=False)
        open_request = OpenRequest(request)
        trial.wait_for_upstream("count", [open_request], already)
        time.sleep(HIDDEN_SECONDS)
        open_request.reset()
        trial.upstream.wait(idle=1)


def time_out_after_work(trial: Trial, kind: CallKind) -> None:
    """Make calls for which a gateway of the upstream answers 504 after work that is billed."""
    trial.tested_calls = CALLS
    trial.make_calls(trial.new_run(), kind, prompt=greedy_prompt(fault="gateway_timeout", first_ms=20))


def report_usage(trial: Trial, kind: CallKind, usage: str) -> None:
    """Make calls while the upstream reports no usage, or a wrong one."""
    trial.reported_factor = {"each": 1, "above": 10}.get(usage)
    trial.make_calls(trial.new_run(), kind, prompt=wordy_prompt(usage=usage))


def kill(trial: Trial, kind: CallKind, at: object, *, answered: bool = False) -> None:
    """Kill the workers while calls of one kind are at one point of their answers."""
    kill_at(trial, [(kind, at)] * KILLED_CALLS, answered=answered)


def kill_at(trial: Trial, stop_points: Sequence[StopPoint], *, answered: bool = False) -> None:
    """Kill the workers while calls are in flight, or just after the upstream has answered; then go on.

    The run goes on at once, and again after the holds of the killed workers have expired: a ledger that
    releases them overspends only then.
    """
    run = trial.new_run()
    gate, open_requests = trial.stop_at_gate(
        lambda gate: [
            trial.gateway.request(run, kind, _stopping_prompt(gate, at)) for kind, at in stop_points
        ]
    )
    if answered:
        trial.upstream.release(gate)
        trial.upstream.wait(finished=trial.tested_calls)
    trial.gateway.kill()
    trial.leave_gate(gate, open_requests)
    kind, _ = stop_points[0]
    trial.make_calls(run, kind)
    trial.wait_until_settled()
    trial.make_calls(run, kind)


def retry(trial: Trial, kind: CallKind) -> None:
    """Send the same body again before the first request is answered, as a client with a short timeout."""
    request = trial.gateway.request(trial.new_run(), kind, greedy_prompt(first_ms=150))
    for _ in range(CALLS):
        already = trial.upstream.wait()["count"]
        open_request = OpenRequest(request)
        trial.wait_for_upstream("count", [open_request], already)
        open_request.reset()


def idle(trial: Trial, kind: CallKind) -> None:
    """Spend the budget, wait until an idle run is forgotten, and call again."""
    run = trial.new_run()
    trial.make_calls(run, kind)
    time.sleep(IDLE_SECONDS)  # a sweep that keeps a run leaves no trace to wait for
    trial.make_calls(run, kind)


def reload(trial: Trial, kind: CallKind) -> None:
    """Spend the budget, let the gateway reload its settings, and call again."""
    run = trial.new_run()
    trial.make_calls(run, kind)
    trial.gateway.reload()
    trial.make_calls(run, kind)


def call(trial: Trial, kind: CallKind, fields: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Make calls one after another, with these additional fields."""
    trial.make_calls(trial.new_run(), kind, **fields)


def send_refused_fields(trial: Trial, kind: CallKind, fields: Mapping[str, Any]) -> None:
    """Make calls with fields that must be refused. Then spend the budget, which must be whole."""
    run = trial.new_run()
    trial.refused = sum(each.is_client_error for each in trial.make_calls(run, kind, **fields))
    trial.make_calls(run, kind)


def receive_endless_answer(trial: Trial, kind: CallKind) -> None:
    """Make calls while the upstream ignores max_tokens and never ends its answer."""
    prompt = wordy_prompt(fault="endless", pause_ms=1)
    trial.make_calls(trial.new_run(ONE_CALL_NANOUSD), kind, 2, prompt)


def receive_long_answer(trial: Trial, kind: CallKind) -> None:
    """Make calls while the upstream ignores max_tokens and bills what it sends."""
    prompt = wordy_prompt(events=3000, ignore_max_tokens=True, pause_ms=1)
    trial.make_calls(trial.new_run(ONE_CALL_NANOUSD), kind, 2, prompt)


def send_duplicate_keys(trial: Trial, kind: CallKind) -> None:
    """Send a field twice: the gateway may check one of them, and the upstream may use the other."""
    run = trial.new_run()
    request = trial.gateway.request(run, kind, greedy_prompt())
    for first, second in ((1, 100_000), (100_000, 1)):
        body = b'{"max_tokens":%d,' % first + request.body[1:-1] + b',"max_tokens":%d}' % second
        trial.add_responses(send_at_once([dataclasses.replace(request, body=body)] * CALLS))
    if run.id.encode() in request.body:
        body = b'{"run_id": "another-run",' + request.body[1:]
        trial.add_responses([send(dataclasses.replace(request, body=body))])


def use_similar_run_ids(trial: Trial) -> None:
    """Call on runs whose ids a store might take for the same id. Each has a budget of its own."""
    stem = f"{random.Random().randrange(10**9)}-\u00e9clair"
    for run_id in (stem, stem.upper(), stem.replace("\u00e9", "e\u0301"), f" {stem}", f"{stem} "):
        trial.make_calls(trial.new_run(run_id=run_id), CallKind.AGENTS, CALLS // 2)


def meet_refusals(trial: Trial, kind: CallKind) -> None:
    """Make calls that the upstream answers with an error status and does not bill. Then spend the budget."""
    run = trial.new_run()
    for fault in sorted(REFUSALS):
        trial.make_calls(run, kind, 2, greedy_prompt(fault=fault))
    trial.tested_calls = trial.upstream.wait()["count"]
    trial.make_calls(run, kind)


def _stopping_prompt(gate: str, at: object) -> str:
    return wordy_prompt(events=LAST_EVENT, gate=gate, gate_at=at)
