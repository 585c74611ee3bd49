"""Hugging Face's client, which shares no code with the client of OpenAI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.process.fake_chutes_control import directive
from tests.process.row_fixtures import reset
from tests.process.server import CANARY, Proxy
from tests.process.wire import PATIENCE_SECONDS
from tests.support.app import PROXY_KEY
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

MODEL = "deepseek-ai/DeepSeek-V3-0324"
WORDS = "word1 word2 word3 word4 word5 "
FUNCTION = {"name": "look", "parameters": {"type": "object", "properties": {}}}
TOOL: Any = {"type": "function", "function": FUNCTION}


@pytest.fixture
def client(shared_proxy: Proxy, chutes: Upstream, run: str) -> InferenceClient:  # noqa: ARG001 - resets the fake Chutes
    url = f"http://127.0.0.1:{shared_proxy.port}/v1"
    return InferenceClient(
        base_url=url, api_key=PROXY_KEY, headers={"X-Run-Id": run}, timeout=PATIENCE_SECONDS
    )


def user_message(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{CANARY} {text}"}]


def test_a_completion_is_answered_and_charged(
    client: InferenceClient, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    answer = client.chat_completion(user_message("hi"), model=MODEL, max_tokens=50)
    assert answer.choices[0].message.content == WORDS
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"] > 0


def test_a_stream_is_answered_and_charged(
    client: InferenceClient, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    options: Any = {"include_usage": True}
    stream = client.chat_completion(user_message("hi"), model=MODEL, stream=True, stream_options=options)
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == WORDS
    assert last.usage
    assert last.usage.completion_tokens == 5
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"] > 0


def test_a_tool_call_is_parsed(client: InferenceClient) -> None:
    answer = client.chat_completion(user_message(directive(tool_calls=1)), model=MODEL, tools=[TOOL])
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.name == "look"


@each_row(
    ("fault", "status"),
    [("at_capacity", 429), ("no_instances", 503), ("invalid_request", 400), ("close", 502)],
    before={"chutes": reset},
)
def test_an_error_is_raised_with_its_status(
    client: InferenceClient, chutes: Upstream, fault: str, status: int
) -> None:
    with pytest.raises(HfHubHTTPError) as raised:
        client.chat_completion(user_message(directive(fault=fault)), model=MODEL)
    assert raised.value.response is not None
    assert raised.value.response.status_code == status
    assert len(chutes.calls()) == 1
