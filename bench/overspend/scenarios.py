"""The scenarios: every way to make a run cost more than its budget, for each kind of call that permits it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING

from bench.overspend import nest_steps, nests, steps
from bench.overspend.outcome import ANSWER_NANOUSD, Minimum
from bench.overspend.requests import CallKind
from bench.overspend.trial import CALLS, FIVE_CALLS_NANOUSD, ONE_CALL_NANOUSD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.overspend.outcome import Outcome
    from bench.overspend.trial import Trial

CHATS = (CallKind.AGENTS, CallKind.WHOLE, CallKind.STREAM)
STREAMED = (CallKind.AGENTS, CallKind.STREAM)
"""Kinds for which the upstream streams."""

COMPLETIONS = (CallKind.WHOLE, CallKind.STREAM)
ALL_KINDS = tuple(CallKind)

STOP_POINTS: dict[str, tuple[object, tuple[CallKind, ...]]] = {
    "before headers": ("headers", ALL_KINDS),
    "first event": (1, STREAMED),
    "mid answer": (steps.LAST_EVENT // 2, STREAMED),
    "before usage": (steps.LAST_EVENT, STREAMED),
}
"""Where an answer stops, and the kinds of calls that have such a point."""

ONE_CALL = Minimum(1)
ONE_ANSWER = Minimum(1, ANSWER_NANOUSD)
FIVE_CALLS = Minimum(5)
FIVE_ANSWERS = Minimum(5, 5 * ANSWER_NANOUSD)
"""As many calls, and as much, as the larger budget pays for. The next call would overspend."""

THREE_ANSWERS = Minimum(3, 3 * ANSWER_NANOUSD)
"""Where the upstream reports no credible usage, a gateway may overestimate the cost."""

CUT_ANSWER = Minimum(1, ANSWER_NANOUSD // 2)
"""Of an answer that must be cut: at its tokens, or on a busy machine earlier, at the deadline."""

FIVE_TESTED = Minimum(5, tested_calls=5)

MIXED_STOP_POINTS: tuple[steps.StopPoint, ...] = (
    (CallKind.AGENTS, "headers"),
    (CallKind.WHOLE, "headers"),
    (CallKind.STREAM, 1),
    (CallKind.AGENTS, steps.LAST_EVENT),
    (CallKind.EMBEDDING, "headers"),
)
"""Where calls of all kinds are when one kill meets them."""

ACCEPTED_FIELDS: dict[str, tuple[dict[str, object], Minimum]] = {
    "null": ({"max_tokens": None}, ONE_CALL),
    "both names": ({"max_tokens": 1, "max_completion_tokens": 10**6}, Minimum(CALLS)),
    "n": ({"n": 5, "max_tokens": 4000}, ONE_ANSWER),
}
"""Fields that change the cost."""

REFUSED_FIELDS: dict[str, dict[str, object]] = {
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
"""Fields that must be refused."""

USAGES = {
    "none": THREE_ANSWERS,
    "null": THREE_ANSWERS,
    "each": FIVE_ANSWERS,
    "below": THREE_ANSWERS,
    "above": ONE_ANSWER,
}
"""What the upstream reports as usage. `above` is ten times the truth, so one call spends the budget."""


BELIEVED_USAGE = "below"
"""A tenth of the truth. A reported usage is the bill, unless the answer proves more tokens, so this proxy may
overspend here. docs/reference/overspend.md says how much."""

HIDDEN_TOKENS: dict[str, dict[str, object]] = {
    "silent": {},
    "kept alive": {"alive": "comments"},
    "reported in chunks": {"alive": "chunks", "usage": "chunks"},
    "option refused": {"refuses_chunk_usage": True},
}
"""What the upstream sends while it generates tokens that it does not send."""


@dataclass(frozen=True)
class Scenario:
    """One way to try to overspend."""

    name: str
    run: Callable[[Trial], None]
    kinds: tuple[CallKind, ...]
    """The kinds of calls that the gateway must have."""
    minimum: Minimum
    abilities: frozenset[str] = frozenset()
    """What else the gateway must be able to do."""

    @property
    def ends_workers(self) -> bool:
        return bool(self.abilities & {"kill", "reload", "restart"})

    @property
    def has_believed_usage(self) -> bool:
        """Whether the upstream bills more than it reports."""
        return self.name.startswith(f"usage: {BELIEVED_USAGE}")

    def faults(self, outcome: Outcome) -> dict[str, int | str]:
        """What is wrong with an outcome of this proxy."""
        faults = outcome.faults()
        known = {"overspend", "unrecorded"} if self.has_believed_usage else set()
        return {name: value for name, value in faults.items() if name not in known}


def scenarios() -> list[Scenario]:
    return [*_races(), *_leaving_clients(), *_usages_and_fields(), *_ends_of_workers(), *_others(), *_nests()]


def _races() -> Iterator[Scenario]:
    for count, budget, chats, embeddings in (
        ("1", ONE_CALL_NANOUSD, ONE_ANSWER, ONE_CALL),
        ("5", FIVE_CALLS_NANOUSD, FIVE_ANSWERS, FIVE_CALLS),
    ):
        name = f"100 at once, budget for {count}"
        run = partial(steps.race, budget_nanousd=budget)
        yield from _for_each_kind(name, run, CHATS, chats)
        yield from _for_each_kind(name, run, (CallKind.EMBEDDING,), embeddings)
    yield Scenario("100 at once, all kinds on one run", steps.race_all_kinds, (), FIVE_CALLS)


def _leaving_clients() -> Iterator[Scenario]:
    for point, (at, kinds) in STOP_POINTS.items():
        yield from _for_each_kind(f"leaves {point}", partial(steps.leave, at=at), kinds, FIVE_TESTED)
    for name, options in HIDDEN_TOKENS.items():
        run = partial(steps.leave_hidden_tokens, options=options)
        yield from _for_each_kind(f"leaves hidden tokens, {name}", run, (CallKind.STREAM,), ONE_CALL)
    name = "leaves after the answer"
    yield from _for_each_kind(name, steps.call, CHATS, FIVE_ANSWERS)
    yield from _for_each_kind(name, steps.call, (CallKind.EMBEDDING,), Minimum(CALLS))


def _usages_and_fields() -> Iterator[Scenario]:
    for usage, minimum in USAGES.items():
        run = partial(steps.report_usage, usage=usage)
        yield from _for_each_kind(f"usage: {usage}", run, CHATS, minimum)
    for name, (fields, minimum) in ACCEPTED_FIELDS.items():
        run = partial(steps.call, fields=fields)
        yield from _for_each_kind(f"max_tokens: {name}", run, COMPLETIONS, minimum)
    refused_then_spent = Minimum(1, 5 * ANSWER_NANOUSD, refused=CALLS)
    for name, fields in REFUSED_FIELDS.items():
        run = partial(steps.send_refused_fields, fields=fields)
        yield from _for_each_kind(f"max_tokens: {name}", run, COMPLETIONS, refused_then_spent)


def _ends_of_workers() -> Iterator[Scenario]:
    for point, (at, kinds) in STOP_POINTS.items():
        run = partial(steps.kill, at=at)
        yield from _for_each_kind(f"kill -9, {point}", run, kinds, FIVE_TESTED, "kill")
    for last_point, kinds in ((steps.LAST_EVENT, CHATS), ("headers", (CallKind.EMBEDDING,))):
        run = partial(steps.kill, at=last_point, answered=True)
        yield from _for_each_kind("kill -9, after the answer", run, kinds, FIVE_TESTED, "kill")
    kill_all_kinds = partial(steps.kill_at, stop_points=MIXED_STOP_POINTS)
    # On a busy machine the first call may be over before the last one arrives.
    three_tested = Minimum(3, tested_calls=3)
    yield Scenario(
        "kill -9, all kinds on one run", kill_all_kinds, ALL_KINDS, three_tested, frozenset({"kill"})
    )
    yield from _for_each_kind("reload", steps.reload, (CallKind.AGENTS,), FIVE_ANSWERS, "reload")


def _others() -> Iterator[Scenario]:
    yield from _for_each_kind("504 after work", steps.time_out_after_work, CHATS, FIVE_CALLS)
    yield from _for_each_kind("the same body again after a timeout", steps.retry, CHATS, FIVE_TESTED)
    yield from _for_each_kind("idle past the TTL", steps.idle, (CallKind.AGENTS,), FIVE_ANSWERS, "forget")
    yield from _for_each_kind("ignores max_tokens", steps.receive_long_answer, STREAMED, CUT_ANSWER)
    yield from _for_each_kind("endless answer", steps.receive_endless_answer, STREAMED, CUT_ANSWER, "cut")
    yield from _for_each_kind("duplicate keys", steps.send_duplicate_keys, CHATS, ONE_ANSWER)
    yield Scenario(
        "five runs, ids differ in case, form or space",
        steps.use_similar_run_ids,
        (CallKind.AGENTS,),
        Minimum(25, 25 * ANSWER_NANOUSD),
        frozenset({"run_ids"}),
    )
    each_refusal_twice = Minimum(5, 5 * ANSWER_NANOUSD, tested_calls=2 * len(steps.REFUSALS))
    yield from _for_each_kind("the upstream refuses", steps.meet_refusals, CHATS, each_refusal_twice)


def _nests() -> Iterator[Scenario]:
    """Budgets that several runs share."""
    one_period, two_periods = nest_steps.THREE_STOPPED, nest_steps.TWO_PERIODS
    kill, reload, restart = (
        partial(nest_steps.end_gateway, end=methodcaller(name)) for name in ("kill", "reload", "restart")
    )
    killed_before_end = partial(nest_steps.end_period, end=methodcaller("kill"))
    for name, run, minimum, *abilities in (
        ("100 at once", nest_steps.race, nest_steps.ONE_PERIOD),
        ("kill -9", kill, one_period, "kill"),
        ("reload", reload, one_period, "reload"),
        ("restart", restart, one_period, "restart"),
        ("lost replies of the ledger", nest_steps.lose_replies, nest_steps.LOST_REPLIES, "losing_replies"),
        ("the period ends", nest_steps.end_period, two_periods),
        ("kill -9, then the period ends", killed_before_end, two_periods, "kill"),
    ):
        needed = frozenset({"set_budgets", *abilities})
        yield Scenario(f"nests, {name}", run, nests.KINDS, minimum, needed)


def _for_each_kind(
    name: str,
    run: Callable[..., None],
    kinds: tuple[CallKind, ...],
    minimum: Minimum,
    *abilities: str,
) -> Iterator[Scenario]:
    for kind in kinds:
        yield Scenario(f"{name}, {kind}", partial(run, kind=kind), (kind,), minimum, frozenset(abilities))
