"""What agents, upstreams and machines do that can make a run cost more than its cap."""

from __future__ import annotations

import dataclasses
import random
import time
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bench.overspend.asks import Caller, Kind, at_once, greedy, send, wordy
from bench.overspend.desk import CALLS, FIVE_CALLS_NANOUSD, ONE_CALL_NANOUSD, REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.overspend.desk import Desk

AT_ONCE = 100
ASLEEP_SECONDS = 3.0
"""Above our run TTL of a second, and a sweep's interval."""

CHATS = (Kind.AGENTS, Kind.WHOLE, Kind.STREAM)
STREAMS = (Kind.AGENTS, Kind.STREAM)
OPENAI = (Kind.WHOLE, Kind.STREAM)
USAGES = ("none", "null", "each", "below", "above")
PHASES: dict[str, object] = {
    "before headers": "headers",
    "first event": 1,
    "mid answer": 3,
    "before usage": 5,
}
GAMES: dict[str, dict[str, object]] = {
    "huge": {"max_tokens": 10**9},
    "beyond 64 bits": {"max_tokens": 10**30},
    "negative": {"max_tokens": -5},
    "zero": {"max_tokens": 0},
    "float": {"max_tokens": 1e6},
    "text": {"max_tokens": "1000000"},
    "true": {"max_tokens": True},
    "null": {"max_tokens": None},
    "both names": {"max_tokens": 1, "max_completion_tokens": 10**6},
    "n": {"n": 5, "max_tokens": 4000},
    "huge n": {"n": 10**6},
    "best_of": {"best_of": 20},
}


@dataclass(frozen=True)
class Scenario:
    """One way to try it."""

    name: str
    play: Callable[[Desk], None]
    kinds: tuple[Kind, ...]
    """What the gateway must be able to be asked."""
    needs: str | None = None
    """What else it must be able to do."""


def scenarios() -> list[Scenario]:
    """All of them."""
    every = tuple(Kind)
    found = [
        *_by_kind("100 at once, budget for 1", race, every, ONE_CALL_NANOUSD),
        *_by_kind("100 at once, budget for 5", race, every, FIVE_CALLS_NANOUSD),
        Scenario("100 at once, all kinds on one run", mixed, ()),
    ]
    for phase, at in PHASES.items():
        found += _by_kind(f"leaves {phase}", leaving, every if at == "headers" else STREAMS, at)
    found += _by_kind("leaves after the answer", called, CHATS)
    for usage in USAGES:
        found += _by_kind(f"usage: {usage}", usage_of, CHATS, usage)
    for game, fields in GAMES.items():
        found += _by_kind(f"max_tokens: {game}", called, OPENAI, fields)
    for phase in ("before headers", "mid answer"):
        found += _by_kind(f"kill -9, {phase}", killed, STREAMS, PHASES[phase], needs="kill")
    return [
        *found,
        *_by_kind("the same body again after a timeout", retried, CHATS),
        *_by_kind("sleeps past the TTL", asleep, CHATS[:1], needs="sleep"),
        *_by_kind("reload", reloaded, CHATS[:1], needs="reload"),
        *_by_kind("ignores max_tokens", overlong, STREAMS),
        *_by_kind("goes on for ever", endless, STREAMS, needs="cut"),
        *_by_kind("duplicate keys", duplicates, CHATS),
        Scenario("five runs, alike but for case, form or space", alike, (Kind.AGENTS,), "names"),
        *_by_kind("the upstream refuses", refused, CHATS),
    ]


def race(desk: Desk, kind: Kind, cap_nanousd: int) -> None:
    """All calls in the same moment, each of which alone would fit."""
    run = desk.run(cap_nanousd)
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
        desk.leave(lambda gate: desk.gateway.ask(run, kind, wordy(gate=gate, gate_at=at)))


def usage_of(desk: Desk, kind: Kind, usage: str) -> None:
    """The upstream says nothing of its usage, or something else than the truth."""
    if usage == "above":
        desk.reported = 10
    desk.spend(desk.run(), kind, prompt=wordy(usage=usage))


def killed(desk: Desk, kind: Kind, at: object) -> None:
    """Calls are in flight when the process dies; then the run goes on."""
    run = desk.run()
    callers = [Caller(desk.gateway.ask(run, kind, wordy(gate="kill", gate_at=at))) for _ in range(5)]
    desk.await_upstream("at_gate", len(callers), lambda: all(caller.answered() for caller in callers))
    desk.gateway.kill()
    for caller in callers:
        caller.leave()
    desk.upstream.release("kill")
    desk.upstream.wait(idle=1)
    desk.spend(run, kind)


def retried(desk: Desk, kind: Kind) -> None:
    """An impatient client sends the very same body again, before the first one is answered."""
    ask = desk.gateway.ask(desk.run(), kind, greedy(first_ms=150))
    for number in range(1, CALLS + 1):
        caller = Caller(ask)
        desk.await_upstream("count", number, caller.answered)
        caller.leave()


def asleep(desk: Desk, kind: Kind) -> None:
    """Spend all, sleep until an idle run is forgotten, and come again."""
    run = desk.run()
    desk.spend(run, kind)
    time.sleep(ASLEEP_SECONDS)
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


def endless(desk: Desk, kind: Kind) -> None:
    """The upstream does not keep to max_tokens, and never ends."""
    desk.spend(desk.run(), kind, 3, wordy(fault="endless", pause_ms=1))


def overlong(desk: Desk, kind: Kind) -> None:
    """The upstream does not keep to max_tokens, and bills what it sends."""
    prompt = wordy(events=3000, ignore_max_tokens=True, pause_ms=1)
    desk.spend(desk.run(), kind, 3, prompt)


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
    """Calls that the upstream answers with an error status, and bills nothing for."""
    run = desk.run()
    for fault in sorted(REFUSALS):
        desk.spend(run, kind, 2, greedy(fault=fault))


def _by_kind(
    name: str, play: Callable[..., None], kinds: tuple[Kind, ...], *about: object, needs: str | None = None
) -> Iterator[Scenario]:
    for kind in kinds:
        yield Scenario(f"{name}, {kind}", partial(_play, play, kind, about), (kind,), needs)


def _play(play: Callable[..., None], kind: Kind, about: tuple[object, ...], desk: Desk) -> None:
    play(desk, kind, *about)
