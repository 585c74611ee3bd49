"""Six kinds of agents. Each is a generator: it yields calls that it makes at once, and gets their answers.

An agent never ends. The trial ends it when a call is refused for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.utilisation.model import Call, Message, order

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from bench.utilisation.texts import Writer

    Agent = Generator[list[Call], list[str], None]

MAX_TOKENS = 4_096
AT_ONCE_MILLISECONDS = 30
"""The time of an answer among several at once, so that their holds overlap."""

WINDOW_MESSAGES = 20
COMPACT_AT_BYTES = 60_000
SUB_AGENTS = 6
SUB_AGENT_STEPS = 5
BURST_CALLS = 60
REASONING_MAX_TOKENS = 32_000


def growing(writer: Writer) -> Agent:
    """A conversation that grows by 1 to 6 kB a step."""
    messages = _opening(writer, 3_000)
    while True:
        messages.append(_user(_result(writer)))
        messages.append(_assistant((yield [Call(tuple(messages), MAX_TOKENS)])[0]))


def window(writer: Writer) -> Agent:
    """A conversation of which the last 20 messages are sent, behind a system text and the task."""
    opening, messages = _opening(writer, 4_000), list[Message]()
    while True:
        messages.append(_user(order(writer.mixed(writer.size(500, 3_000)), writer.size(40, 250))))
        call = Call((*opening, *messages[-WINDOW_MESSAGES:]), MAX_TOKENS)
        messages.append(_assistant((yield [call])[0]))


def compacting(writer: Writer) -> Agent:
    """A conversation that is replaced by a summary of it at 60 kB."""
    opening = _opening(writer, 3_000)
    messages = list(opening)
    while True:
        messages.append(_user(_result(writer)))
        messages.append(_assistant((yield [Call(tuple(messages), MAX_TOKENS)])[0]))
        if sum(len(each["content"]) for each in messages) > COMPACT_AT_BYTES:
            messages.append(_user(order("Summarise all of this.", writer.size(400, 800))))
            summary = (yield [Call(tuple(messages), MAX_TOKENS)])[0]
            messages = [*opening, _user(f"Summary of the work so far:\n{summary}")]


def parallel(writer: Writer) -> Agent:
    """Six sub-agents that share a prefix and run at once; then six more, on a longer prefix."""
    prefix = _opening(writer, 10_000)
    while True:
        branches = [[*prefix, _user(writer.english(400))] for _ in range(SUB_AGENTS)]
        for _ in range(SUB_AGENT_STEPS):
            for branch in branches:
                text = writer.mixed(writer.size(1_000, 3_000))
                branch.append(_user(order(text, writer.size(50, 250), milliseconds=AT_ONCE_MILLISECONDS)))
            answers = yield [Call(tuple(branch), MAX_TOKENS) for branch in branches]
            for branch, answer in zip(branches, answers, strict=True):
                branch.append(_assistant(answer))
        prefix.append(_user(writer.english(1_000)))


def bursts(writer: Writer) -> Agent:
    """Sixty small calls at once, in one piece and without max_tokens; then sixty more."""
    opening = _opening(writer, 3_000)
    while True:
        texts = [writer.mixed(writer.size(1_000, 3_000)) for _ in range(BURST_CALLS)]
        yield [
            Call(
                (
                    *opening,
                    _user(order(text, writer.size(20, 150), milliseconds=AT_ONCE_MILLISECONDS)),
                ),
                is_streamed=False,
            )
            for text in texts
        ]


def reasoning(writer: Writer) -> Agent:
    """Two attempts at once at each step; they may reason for 32,000 tokens, and use a few thousand."""
    messages = _opening(writer, 6_000)
    while True:
        messages.append(_user(writer.mixed(writer.size(1_000, 4_000))))
        attempts = [_user(_attempt(number, writer.size(1_200, 4_000))) for number in (1, 2)]
        answers = yield [Call((*messages, attempt), REASONING_MAX_TOKENS) for attempt in attempts]
        messages.append(_assistant(answers[0]))


AGENTS: dict[str, Callable[[Writer], Agent]] = {
    "growing": growing,
    "window": window,
    "compacting": compacting,
    "parallel": parallel,
    "bursts": bursts,
    "reasoning": reasoning,
}


def _opening(writer: Writer, size_bytes: int) -> list[Message]:
    """A system text, and a task."""
    system = {"role": "system", "content": writer.english(size_bytes // 2)}
    return [system, _user(writer.mixed(size_bytes // 2))]


def _result(writer: Writer) -> str:
    """The result of a tool, and the size of the next answer."""
    return order(writer.mixed(writer.size(1_000, 6_000)), writer.size(40, 300))


def _attempt(number: int, tokens: int) -> str:
    """An order for an answer that is reasoning but for its last 200 tokens."""
    text = f"Attempt {number}."
    return order(text, tokens, reasoning_tokens=tokens - 200, milliseconds=AT_ONCE_MILLISECONDS)


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}
