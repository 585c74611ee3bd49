"""The messages as they go upstream, and the bound of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing import call_arguments, rendered_bounds
from ridges_proxy.billing.call_arguments import parsed_arguments
from ridges_proxy.billing.prompt import Prompt
from ridges_proxy.billing.rendered_bounds import (
    CALL_BOUND_TOKENS,
    TOKENS_FOR_TOOLS,
    rendered_bound_tokens,
)
from tests.support.chat import chat_of, tool_call_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(contents=st.lists(texts, min_size=1, max_size=6))
def test_each_message_is_sent_as_it_was_counted(contents: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in contents]

    prompt = Prompt.of(messages, {})

    assert prompt.json == orjson.dumps(messages)
    assert list(map(orjson.loads, prompt.parts)) == messages
    assert prompt.roles == ("user",) * len(messages)
    for part, bound in zip(prompt.parts, prompt.bounds, strict=True):
        assert bound >= len(part) + 1 + 7, "7 tokens: the markers of a known template around one message"


def test_the_tokens_of_a_prompt_are_the_sum_of_its_bounds() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "x" * 1000}, *tool_call_messages("{}")]
    tools = [{"type": "function"}]

    prompt = Prompt.of(messages, {"tools": tools, "temperature": 0.5})

    assert prompt.call_bound == CALL_BOUND_TOKENS + rendered_bound_tokens(tools) + TOKENS_FOR_TOOLS
    assert prompt.tokens == prompt.call_bound + sum(prompt.bounds)
    assert prompt.bounds[0] == len(prompt.parts[0]) + 1 + 16


class WordCounter:
    """A tokenizer that counts words."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def test_a_tokenizer_counts_the_messages_and_the_fields_but_never_above_their_bytes() -> None:
    long, short = "word" * 500, "a b c d e f g h i"
    messages = [{"role": "user", "content": text} for text in (long, short)]
    tools = [{"type": "function", "function": {"name": "f", "description": long}}]

    by_bytes = Prompt.of(messages, {"tools": tools})
    counted = Prompt.of(messages, {"tools": tools}, WordCounter())

    assert counted.bounds[0] < 100 < len(long) < by_bytes.bounds[0]
    assert counted.bounds[1] <= by_bytes.bounds[1]
    assert counted.call_bound < by_bytes.call_bound - len(long)
    assert counted.call_bound > CALL_BOUND_TOKENS + TOKENS_FOR_TOOLS
    assert (counted.parts, counted.roles) == (by_bytes.parts, by_bytes.roles)


def test_arguments_with_too_many_values_are_parsed_for_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing all arguments of a long history takes long, and no other thread runs meanwhile."""
    asked = []

    def parsed(text: str, *, parse: bool = True) -> tuple[Any, int]:
        asked.append(parse)
        return parsed_arguments(text, parse=parse)

    monkeypatch.setattr(rendered_bounds, "parsed_arguments", parsed)
    for max_marks in (0, 9):
        monkeypatch.setattr(call_arguments, "MAX_MARKS", max_marks)
        Prompt.of(tool_call_messages('{"a":1}'), {}, WordCounter())

    assert asked == [False, False, True, True], "by bytes, and with a tokenizer"


def test_a_role_that_is_no_string_is_empty() -> None:
    assert Prompt.of([{"role": 5}, {}, {"role": "user"}], {}).roles == ("", "", "user")


def test_the_tokens_of_a_request_can_be_lowered() -> None:
    chat = chat_of()

    assert chat.prompt_tokens == chat.prompt.tokens
    assert replace(chat, prompt_tokens=7).prompt_tokens == 7
