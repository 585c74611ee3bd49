"""What can make a run cost more than its cap: every way to try it, for every kind of call that has it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.overspend import plays
from bench.overspend.asks import Kind
from bench.overspend.desk import CALLS, FIVE_CALLS_NANOUSD, ONE_CALL_NANOUSD
from bench.overspend.outcome import ANSWER_NANOUSD, Least

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.overspend.desk import Desk

CHATS = (Kind.AGENTS, Kind.WHOLE, Kind.STREAM)
STREAMS = (Kind.AGENTS, Kind.STREAM)
OPENAI = (Kind.WHOLE, Kind.STREAM)
EVERY = tuple(Kind)

PHASES: dict[str, tuple[object, tuple[Kind, ...]]] = {
    "before headers": ("headers", EVERY),
    "first event": (1, STREAMS),
    "mid answer": (plays.LAST_WORD // 2, STREAMS),
    "before usage": (plays.LAST_WORD, STREAMS),
}
"""Where an answer is stopped, and for which kinds there is such a moment."""

ONE = Least(1)
ONE_LONG = Least(1, ANSWER_NANOUSD)
FIVE = Least(5)
FIVE_LONG = Least(5, 5 * ANSWER_NANOUSD)
"""As many, and as much, as the larger cap pays for: overspend begins with the next one."""

THREE_LONG = Least(3, 3 * ANSWER_NANOUSD)
"""Where a gateway must find out by itself what it pays for, it may take it for more than it is."""

CUT = Least(1, ANSWER_NANOUSD // 2)
"""Of an answer that has to be cut: by its tokens, or on a busy machine before them by the deadline."""

IN_PHASE = Least(5, in_phase=5)

EVERYWHERE: tuple[plays.Moment, ...] = (
    (Kind.AGENTS, "headers"),
    (Kind.WHOLE, "headers"),
    (Kind.STREAM, 1),
    (Kind.AGENTS, plays.LAST_WORD),
    (Kind.EMBEDDING, "headers"),
)
"""Where one kill meets calls of all kinds."""

GAMES: dict[str, tuple[dict[str, object], Least]] = {
    "null": ({"max_tokens": None}, ONE),
    "both names": ({"max_tokens": 1, "max_completion_tokens": 10**6}, Least(CALLS)),
    "n": ({"n": 5, "max_tokens": 4000}, ONE_LONG),
}
"""Fields that count, and what must at least come of them."""

WRONG: dict[str, dict[str, object]] = {
    "huge": {"max_tokens": 10**9},
    "beyond 64 bits": {"max_tokens": 10**30},
    "negative": {"max_tokens": -5},
    "zero": {"max_tokens": 0},
    "float": {"max_tokens": 1e6},
    "text": {"max_tokens": "1000000"},
    "true": {"max_tokens": True},
    "huge n": {"n": 10**6},
    "best_of": {"best_of": 20},
}
"""Fields that are to be refused."""

USAGES = {"none": THREE_LONG, "null": THREE_LONG, "each": FIVE_LONG, "below": THREE_LONG, "above": ONE_LONG}
"""What the upstream may say of its usage, and what must come of it: ten times the truth ends the run."""


@dataclass(frozen=True)
class Scenario:
    """One way to try it."""

    name: str
    play: Callable[[Desk], None]
    kinds: tuple[Kind, ...]
    """What the gateway must be able to be asked."""
    least: Least
    needs: str | None = None
    """What else it must be able to do."""


def scenarios() -> list[Scenario]:
    """All of them."""
    return [*_races(), *_leaving(), *_games(), *_ends_of_processes(), *_others()]


def _races() -> Iterator[Scenario]:
    for name, cap, chats, embeddings in (
        ("1", ONE_CALL_NANOUSD, ONE_LONG, ONE),
        ("5", FIVE_CALLS_NANOUSD, FIVE_LONG, FIVE),
    ):
        about = f"100 at once, budget for {name}"
        yield from _by_kind(about, partial(plays.race, budget_nanousd=cap), CHATS, chats)
        yield from _by_kind(about, partial(plays.race, budget_nanousd=cap), (Kind.EMBEDDING,), embeddings)
    yield Scenario("100 at once, all kinds on one run", plays.mixed, (), FIVE)


def _leaving() -> Iterator[Scenario]:
    for phase, (at, kinds) in PHASES.items():
        yield from _by_kind(f"leaves {phase}", partial(plays.leaving, at=at), kinds, IN_PHASE)
    yield from _by_kind("leaves after the answer", plays.called, CHATS, FIVE_LONG)
    yield from _by_kind("leaves after the answer", plays.called, (Kind.EMBEDDING,), Least(CALLS))


def _games() -> Iterator[Scenario]:
    for usage, least in USAGES.items():
        yield from _by_kind(f"usage: {usage}", partial(plays.usage_of, usage=usage), CHATS, least)
    for game, (fields, least) in GAMES.items():
        yield from _by_kind(f"max_tokens: {game}", partial(plays.called, fields=fields), OPENAI, least)
    refused_then_spent = Least(1, 5 * ANSWER_NANOUSD, refused=CALLS)
    for game, fields in WRONG.items():
        play = partial(plays.wrong, fields=fields)
        yield from _by_kind(f"max_tokens: {game}", play, OPENAI, refused_then_spent)


def _ends_of_processes() -> Iterator[Scenario]:
    for phase, (at, kinds) in PHASES.items():
        play = partial(plays.killed, at=at)
        yield from _by_kind(f"kill -9, {phase}", play, kinds, IN_PHASE, "kill")
    for at, kinds in ((plays.LAST_WORD, CHATS), ("headers", (Kind.EMBEDDING,))):
        play = partial(plays.killed, at=at, ended=True)
        yield from _by_kind("kill -9, after the answer", play, kinds, IN_PHASE, "kill")
    everywhere = partial(plays.killed_at, moments=EVERYWHERE)
    some_in_phase = Least(3, in_phase=3)  # on a busy machine the first may be over before the last is there
    yield Scenario("kill -9, all kinds on one run", everywhere, EVERY, some_in_phase, "kill")
    yield from _by_kind("reload", plays.reloaded, CHATS[:1], FIVE_LONG, "reload")


def _others() -> Iterator[Scenario]:
    yield from _by_kind("the same body again after a timeout", plays.retried, CHATS, IN_PHASE)
    yield from _by_kind("sleeps past the TTL", plays.asleep, CHATS[:1], FIVE_LONG, "sleep")
    yield from _by_kind("ignores max_tokens", plays.overlong, STREAMS, CUT)
    yield from _by_kind("goes on for ever", plays.endless, STREAMS, CUT, "cut")
    yield from _by_kind("duplicate keys", plays.duplicates, CHATS, ONE_LONG)
    of_five_runs = Least(25, 25 * ANSWER_NANOUSD)
    yield Scenario(
        "five runs, alike but for case, form or space", plays.alike, (Kind.AGENTS,), of_five_runs, "names"
    )
    twice_each = Least(5, 5 * ANSWER_NANOUSD, in_phase=2 * len(plays.REFUSALS))
    yield from _by_kind("the upstream refuses", plays.refused, CHATS, twice_each)


def _by_kind(
    name: str, play: Callable[..., None], kinds: tuple[Kind, ...], least: Least, needs: str | None = None
) -> Iterator[Scenario]:
    for kind in kinds:
        yield Scenario(f"{name}, {kind}", partial(play, kind=kind), (kind,), least, needs)
