"""JSON, logprobs, reasoning and cached tokens of the fake Chutes, and the prompt tokens that it counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.process.fake_chutes_client import ask, cost, estimated_prompt_tokens, look, post
from tests.process.fake_chutes_control import directive
from tests.process.row_fixtures import reset
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

SHORT_URL = "https://example.org/x.png"
LONG_URL = "data:image/png;base64," + "A" * 20_000
TOOLS = [{"type": "function", "function": {"name": "é"}}]


def first_choices(chutes: Upstream, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["choices"][0] for each in look(chutes, body).events() if each["choices"]]


# --- JSON ---------------------------------------------------------------------------------------------------


@each_row("kind", ["json_object", "json_schema"], before={"chutes": reset})
@each_row("events", [1, 3], before={"chutes": reset})
def test_a_json_answer_is_an_object_split_into_events(chutes: Upstream, kind: str, events: int) -> None:
    body = ask(response_format={"type": kind}, content=directive(events=events))
    words = look(chutes, body).words()
    assert len(words) == events
    assert json.loads("".join(words)) == {"text": "".join(f"word{n + 1} " for n in range(events))}
    whole = post(chutes, {**body, "stream": False}).json()
    assert whole["choices"][0]["message"]["content"] == "".join(words)


def test_a_given_answer_is_not_changed(chutes: Upstream) -> None:
    body = ask(response_format={"type": "json_object"}, content=directive(answer='{"a": 1}'))
    assert look(chutes, body).words() == ['{"a": ', "1}"]


@each_row("response_format", [{"type": "text"}, {"type": {}}, None, "json_object"], before={"chutes": reset})
def test_any_other_response_format_is_text(chutes: Upstream, response_format: object) -> None:
    answer = look(chutes, ask(response_format=response_format, content=directive(events=1)))
    assert answer.words() == ["word1 "]


# --- logprobs -----------------------------------------------------------------------------------------------


def test_each_content_event_has_the_logprobs_of_its_token(chutes: Upstream) -> None:
    body = ask(logprobs=True, top_logprobs=2, content=directive(answer="é b"))
    role, first, second, finish = (each["logprobs"] for each in first_choices(chutes, body))
    assert (role, finish) == (None, None)
    (token,) = first["content"]
    assert (token["token"], bytes(token["bytes"]).decode()) == ("é ", "é ")
    assert [each["token"] for each in token["top_logprobs"]] == ["é ", "é ?"]
    assert token["logprob"] == token["top_logprobs"][0]["logprob"] > token["top_logprobs"][1]["logprob"]
    assert [each["token"] for each in second["content"]] == ["b"]


def test_a_json_answer_has_the_logprobs_of_all_tokens(chutes: Upstream) -> None:
    (choice,) = post(chutes, ask(stream=False, logprobs=True)).json()["choices"]
    tokens = choice["logprobs"]["content"]
    assert "".join(each["token"] for each in tokens) == choice["message"]["content"]
    assert [each["top_logprobs"] for each in tokens] == [[]] * 5


def test_logprobs_are_sent_only_on_request(chutes: Upstream) -> None:
    assert all("logprobs" not in each for each in first_choices(chutes, ask(logprobs=False)))
    assert post(chutes, ask(logprobs=True, top_logprobs=21)).status_code == 400


# --- reasoning and cached tokens ----------------------------------------------------------------------------


def test_reasoning_comes_before_the_content_and_counts(chutes: Upstream) -> None:
    body = ask(content=directive(reasoning=2, events=1))
    deltas = [each["delta"] for each in first_choices(chutes, body)]
    assert deltas[1:-1] == [
        {"reasoning_content": "thought1 "},
        {"reasoning_content": "thought2 "},
        {"content": "word1 "},
    ]
    whole = post(chutes, {**body, "stream": False}).json()
    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": "word1 ",
        "reasoning_content": "thought1 thought2 ",
    }
    assert whole["usage"]["completion_tokens"] == 3


def test_max_tokens_can_end_the_reasoning(chutes: Upstream) -> None:
    (choice,) = post(chutes, ask(stream=False, max_tokens=1, content=directive(reasoning=2))).json()[
        "choices"
    ]
    assert choice["finish_reason"] == "length"
    assert choice["message"] == {"role": "assistant", "content": None, "reasoning_content": "thought1 "}


def test_cached_tokens_are_reported_and_do_not_change_the_bill(chutes: Upstream) -> None:
    content = directive(cached_tokens=3)
    usage = look(chutes, ask(content=content)).usage()
    assert usage["prompt_tokens_details"] == {"cached_tokens": 3}
    assert chutes.books()["billed_nanousd"] == cost(estimated_prompt_tokens(content) + 5)


# --- tokens that greedy counts ------------------------------------------------------------------------------


def greedy_prompt(chutes: Upstream, **fields: object) -> int:
    chutes.default(greedy=True)
    post(chutes, ask(**fields))
    tokens: int = chutes.calls()[-1]["prompt_tokens"]
    return tokens


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_greedy_counts_an_image_by_the_length_of_its_url_or_a_minimum(chutes: Upstream) -> None:
    content = [image(SHORT_URL), image(LONG_URL), image(SHORT_URL)]
    assert greedy_prompt(chutes, content=content) == len("user") + 8 + 2 * 16_384 + len(LONG_URL)


def test_greedy_counts_other_parts_by_their_json(chutes: Upstream) -> None:
    text = {"type": "text", "text": "hello"}
    size = len(json.dumps([text], separators=(",", ":")))
    assert greedy_prompt(chutes, content=[text]) == len("user") + 8 + size
    assert greedy_prompt(chutes, content=[text, image("x")]) == len("user") + 8 + size + 16_384


def test_greedy_counts_tools_and_earlier_tool_calls(chutes: Upstream) -> None:
    size = len(json.dumps(TOOLS, separators=(",", ":"), ensure_ascii=False).encode())
    messages = [{"role": "assistant", "tool_calls": TOOLS}]
    assert greedy_prompt(chutes, tools=TOOLS, content="x") == len("userx") + 8 + size
    assert greedy_prompt(chutes, messages=messages) == len("assistant") + 8 + size


def test_honest_counts_a_quarter_of_the_tools(chutes: Upstream) -> None:
    size = len(json.dumps(TOOLS, separators=(",", ":"), ensure_ascii=False).encode())
    post(chutes, ask(tools=TOOLS))
    assert chutes.calls()[0]["prompt_tokens"] == estimated_prompt_tokens("hello") + -(-size // 4)
