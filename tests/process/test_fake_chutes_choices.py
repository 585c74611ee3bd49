"""Several choices (`n`) in the answers of the fake Chutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.process.fake_chutes_client import ask, cost, estimated_prompt_tokens, look, post, with_fault
from tests.process.fake_chutes_control import directive
from tests.process.row_fixtures import reset
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

WORDS = ["word1 ", "word2 ", "word3 "]
THREE = directive(events=3)


def test_a_stream_sends_each_word_for_each_choice(chutes: Upstream) -> None:
    choices = [
        each["choices"][0] for each in look(chutes, ask(n=2, content=THREE)).events() if each["choices"]
    ]
    assert [(each["index"], each["delta"].get("content")) for each in choices[2:-2]] == [
        (index, word) for word in WORDS for index in (0, 1)
    ]
    roles, ends = choices[:2], choices[-2:]
    assert [(each["index"], each["delta"]["role"]) for each in roles] == [(0, "assistant"), (1, "assistant")]
    assert [(each["index"], each["finish_reason"]) for each in ends] == [(0, "stop"), (1, "stop")]


def test_a_json_answer_has_all_choices(chutes: Upstream) -> None:
    answer = post(chutes, ask(n=3, stream=False, content=THREE)).json()
    message = {"role": "assistant", "content": "".join(WORDS)}
    assert answer["choices"] == [
        {"index": index, "message": message, "finish_reason": "stop"} for index in range(3)
    ]


@each_row("stream", [True, False], before={"chutes": reset})
def test_the_prompt_is_billed_once_and_every_completion_is_billed(chutes: Upstream, *, stream: bool) -> None:
    body = ask(n=4, content=THREE, stream=stream)
    usage = look(chutes, body).usage() if stream else post(chutes, body).json()["usage"]
    prompt = estimated_prompt_tokens(THREE)
    assert usage == {"prompt_tokens": prompt, "completion_tokens": 12, "total_tokens": prompt + 12}
    assert chutes.books()["billed_nanousd"] == cost(prompt + 12)


@each_row("stream", [True, False], before={"chutes": reset})
def test_greedy_bills_the_prompt_and_max_tokens_for_each_choice(chutes: Upstream, *, stream: bool) -> None:
    content = directive(greedy=True)
    post(chutes, ask(n=3, max_tokens=20, content=content, stream=stream))
    assert chutes.books()["billed_nanousd"] == cost(3 * (len(f"user{content}") + 8 + 20))


def test_a_lost_answer_is_billed_for_each_choice(chutes: Upstream) -> None:
    content = with_fault("close", billed=True)
    look(chutes, ask(n=3, content=content))
    chutes.wait(finished=1)
    assert chutes.books()["billed_nanousd"] == cost(3 * (len(f"user{content}") + 8 + 100))


def test_max_tokens_limits_each_choice(chutes: Upstream) -> None:
    answer = post(chutes, ask(n=2, max_tokens=2, stream=False, content=THREE)).json()
    assert [each["message"]["content"] for each in answer["choices"]] == ["word1 word2 "] * 2
    assert [each["finish_reason"] for each in answer["choices"]] == ["length"] * 2
    assert answer["usage"]["completion_tokens"] == 4


def test_a_fault_counts_the_events_of_all_choices(chutes: Upstream) -> None:
    seen = look(chutes, ask(n=2, content=with_fault("cut", after=3)))
    assert (seen.words(), seen.end) == (["word1 ", "word1 ", "word2 "], "cut")


@each_row("n", [0, -1, 129, 1.5, True, "2"], before={"chutes": reset})
def test_an_invalid_number_of_choices_is_400(chutes: Upstream, n: object) -> None:
    assert post(chutes, ask(n=n)).status_code == 400


def test_the_default_number_of_choices_is_one(chutes: Upstream) -> None:
    answer = post(chutes, {**ask(stream=False), "n": None}).json()
    assert len(answer["choices"]) == 1
