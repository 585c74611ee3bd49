"""What agents, upstreams and machines do, one way after another: each is played at a desk."""

from __future__ import annotations

import dataclasses
import random
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bench.overspend.asks import Caller, Kind, at_once, greedy, send, wordy
from bench.overspend.desk import CALLS, ONE_CALL_NANOUSD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.overspend.desk import Desk

Moment = tuple[Kind, object]
"""Of a call: its kind, and the fake Chutes's `gate_at`."""

AT_ONCE = 100
IN_FLIGHT = 5
"""Calls that a kill meets: as many as the larger cap pays for."""

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
"""Of the fake Chutes's error statuses, one of each kind."""

LAST_WORD = 900
"""Of the answers that are stopped: after it come the finish and the usage. A call that asks for fewer ends
before it, and so before any gate that stands there."""

ASLEEP_SECONDS = 2.5
"""Above our run TTL of a second, and a sweep's interval."""


def race(desk: Desk, kind: Kind, budget_nanousd: int) -> None:
    """All calls in the same moment, each of which alone would fit."""
    run = desk.run(budget_nanousd)
    prompt = greedy(first_ms=20, pause_ms=2)
    desk.note(*at_once([desk.gateway.ask(run, kind, prompt) for _ in range(AT_ONCE)]))


def mixed(desk: Desk) -> None:
    """All kinds that the gateway knows, in the same moment, on one run."""
    run = desk.run()
    prompt = greedy(first_ms=20, pause_ms=2)
    kinds = sorted(desk.gateway.kinds)
    asks = [desk.gateway.ask(run, kinds[number % len(kinds)], prompt) for number in range(AT_ONCE)]
    random.Random(0).shuffle(asks)
    desk.note(*at_once(asks))


def leaving(desk: Desk, kind: Kind, at: object) -> None:
    """Call, and hang up at one moment of the answer, again and again."""
    run = desk.run()
    for _ in range(CALLS):
        desk.leave(*desk.stop(lambda gate: [desk.gateway.ask(run, kind, _stopping(gate, at))]))


def usage_of(desk: Desk, kind: Kind, usage: str) -> None:
    """The upstream says nothing of its usage, or something else than the truth."""
    desk.reported = {"each": 1, "above": 10}.get(usage)
    desk.spend(desk.run(), kind, prompt=wordy(usage=usage))


def killed(desk: Desk, kind: Kind, at: object, *, ended: bool = False) -> None:
    """Calls are all at one moment of their answers when the process dies."""
    killed_at(desk, [(kind, at)] * IN_FLIGHT, ended=ended)


def killed_at(desk: Desk, moments: Sequence[Moment], *, ended: bool = False) -> None:
    """Calls are in flight, or have just ended upstream, when the process dies; then the run goes on.

    It does at once, and again when the holds of the dead have fallen due: a ledger that gives them back
    overspends only then.
    """
    run = desk.run()
    gate, callers = desk.stop(
        lambda gate: [desk.gateway.ask(run, kind, _stopping(gate, at)) for kind, at in moments]
    )
    if ended:
        desk.upstream.release(gate)
        desk.upstream.wait(finished=desk.in_phase)
    desk.gateway.kill()
    desk.leave(gate, callers)
    kind, _ = moments[0]
    desk.spend(run, kind)
    desk.settle()
    desk.spend(run, kind)


def retried(desk: Desk, kind: Kind) -> None:
    """An impatient client sends the very same body again, before the first one is answered."""
    ask = desk.gateway.ask(desk.run(), kind, greedy(first_ms=150))
    for _ in range(CALLS):
        already = desk.upstream.wait()["count"]
        caller = Caller(ask)
        desk.await_upstream("count", [caller], already)
        caller.leave()


def asleep(desk: Desk, kind: Kind) -> None:
    """Spend all, sleep until an idle run is forgotten, and come again."""
    run = desk.run()
    desk.spend(run, kind)
    time.sleep(ASLEEP_SECONDS)  # nothing tells that a sweep has passed over a run and kept it
    desk.spend(run, kind)


def reloaded(desk: Desk, kind: Kind) -> None:
    """Spend all, have the gateway read its settings anew, and come again."""
    run = desk.run()
    desk.spend(run, kind)
    desk.gateway.reload()
    desk.spend(run, kind)


def called(desk: Desk, kind: Kind, fields: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Call again and again, with fields beside the usual ones."""
    desk.spend(desk.run(), kind, **fields)


def wrong(desk: Desk, kind: Kind, fields: Mapping[str, Any]) -> None:
    """Fields that are to be refused; then the run spends what it has, which is all, if they were."""
    run = desk.run()
    desk.refused = sum(reply.refused for reply in desk.spend(run, kind, **fields))
    desk.spend(run, kind)


def endless(desk: Desk, kind: Kind) -> None:
    """The upstream does not keep to max_tokens, and never ends."""
    desk.spend(desk.run(ONE_CALL_NANOUSD), kind, 2, wordy(fault="endless", pause_ms=1))


def overlong(desk: Desk, kind: Kind) -> None:
    """The upstream does not keep to max_tokens, and bills what it sends."""
    prompt = wordy(events=3000, ignore_max_tokens=True, pause_ms=1)
    desk.spend(desk.run(ONE_CALL_NANOUSD), kind, 2, prompt)


def duplicates(desk: Desk, kind: Kind) -> None:
    """One name twice: whoever checks may read the one, and whoever pays the other."""
    run = desk.run()
    whole = desk.gateway.ask(run, kind, greedy())
    for first, second in ((1, 100_000), (100_000, 1)):
        body = b'{"max_tokens":%d,' % first + whole.body[1:-1] + b',"max_tokens":%d}' % second
        desk.note(*at_once([dataclasses.replace(whole, body=body)] * CALLS))
    other = whole.body.replace(run.id.encode(), b"somebody-else", 1)
    if other != whole.body:
        named = b'"run_id": "somebody-else",'
        desk.note(send(dataclasses.replace(whole, body=b"{" + named + whole.body[1:])))


def alike(desk: Desk) -> None:
    """Names that a store might take for one: each has its own books, and its own cap."""
    stem = f"{random.Random().randrange(10**9)}-\u00e9clair"
    for name in (stem, stem.upper(), stem.replace("\u00e9", "e\u0301"), f" {stem}", f"{stem} "):
        desk.spend(desk.run(run_id=name), Kind.AGENTS, CALLS // 2)


def refused(desk: Desk, kind: Kind) -> None:
    """Calls that the upstream answers with an error status, and bills nothing for; then the run goes on."""
    run = desk.run()
    for fault in sorted(REFUSALS):
        desk.spend(run, kind, 2, greedy(fault=fault))
    desk.in_phase = desk.upstream.wait()["count"]
    desk.spend(run, kind)


def _stopping(gate: str, at: object) -> str:
    return wordy(events=LAST_WORD, gate=gate, gate_at=at)
