"""Generated requests on all routes of chats: the hold covers each byte of the prompt that is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.fake_chutes.chat_request import LEAST_GREEDY_TOKENS_PER_IMAGE
from ridges_proxy.web.schemas.field_table import REQUEST
from tests.contract_http.openai_api import WHOLE
from tests.contract_http.service import CHAT_URL, DONE, HEADERS, MODEL, RUN, app_of, delta, sse, usage_in
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from requests import PreparedRequest

    Body = dict[str, Any]
    Bodies = st.SearchStrategy[Body]

NANOUSD_PER_TOKEN = 1_000
EXAMPLES = max(10, settings().max_examples // 4)

HARMLESS = REQUEST.passed | {"model", "stream", "stream_options", "n", "max_tokens"}
"""Fields that no template writes into a prompt."""

LONG = ["é" * 400, "<|im_start|>" * 60, '"\\' * 300, "𒀀" * 200]
"""Texts above what a bound adds to the bytes, so that one that is not counted shows."""

texts = st.text(max_size=9) | st.sampled_from(LONG)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=3)
names = st.sampled_from(["f", "read_file", "x" * 64])
urls = st.sampled_from(["https://a.test/b", "data:image/png;base64," + "A" * 17_000])


def typed(kind: str, **fields: st.SearchStrategy[Any]) -> Bodies:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


def message(content: st.SearchStrategy[Any], **fields: st.SearchStrategy[Any]) -> Bodies:
    """A message of any role. Only one of the assistant has fields that are refused in others."""
    other = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": content})
    thoughts = {"thinking": texts, "audio": objects, "function_call": objects}
    echoed = {"role": st.just("assistant"), "content": content}
    return other | st.fixed_dictionaries(echoed, optional={**thoughts, **fields})


parts = typed("text", text=texts) | typed("image_url", image_url=st.fixed_dictionaries({"url": urls}))
calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": names, "arguments": texts})}, optional={"extra": values}
)
tools = typed("function", function=st.fixed_dictionaries({"name": names, "parameters": objects}))
OPTIONS = {
    "tools": st.lists(tools, max_size=2),
    "n": st.integers(1, 3),
    "stream": st.booleans(),
    "response_format": objects,
    "structured_outputs": objects,
    "guided_json": objects,
    "guided_regex": texts,
    "guided_choice": st.lists(texts, max_size=2),
    "reasoning_effort": st.text(max_size=9),
    "chat_template_kwargs": st.fixed_dictionaries({"thinking": texts.map(lambda text: text[:200])}),
    "stop": st.lists(texts, max_size=2),
    "metadata": objects,
}
chat_messages = message(
    texts | st.lists(parts, max_size=2), tool_calls=st.lists(calls, max_size=2), reasoning_content=texts
)
chat_lists = st.fixed_dictionaries({"messages": st.lists(chat_messages, min_size=1, max_size=3)})
chats = st.builds(
    lambda chat, options: {**chat, **options},
    chat_lists,
    st.one_of([st.fixed_dictionaries({name: each}) for name, each in OPTIONS.items()])
    | st.fixed_dictionaries({}, optional=OPTIONS),
)
"""With one option or several: what others add to the bound could hide one that is not counted."""

inputs = message(st.lists(typed("input_text", text=texts), max_size=2) | texts) | typed(
    "function_call", call_id=st.just("c"), name=names, arguments=texts
)
responses_bodies = st.fixed_dictionaries(
    {"input": texts | st.lists(inputs, min_size=1, max_size=3)},
    optional={
        "instructions": texts,
        "tools": st.lists(typed("function", name=names, parameters=objects), max_size=2),
        "text": st.fixed_dictionaries({"format": st.just({"type": "json_object"})}),
        "stream": st.booleans(),
    },
)

agents_messages = st.lists(
    st.fixed_dictionaries({"role": texts, "content": texts}, optional={"tool_calls": values}),
    min_size=1,
    max_size=3,
)
parameters = st.fixed_dictionaries(
    {"name": texts, "type": st.just("string")}, optional={"description": texts}
)
later_tools = st.fixed_dictionaries(
    {"name": names}, optional={"description": texts, "parameters": st.lists(parameters, max_size=2)}
)
agents = st.fixed_dictionaries({"messages": agents_messages}, optional={"tools": values})
later = st.fixed_dictionaries(
    {
        "evaluation_run_id": st.just(RUN),
        "messages": agents_messages,
        "tools": st.lists(later_tools, max_size=2),
        "tool_mode": st.just("auto"),
    }
)

ROUTES: list[tuple[str, Bodies]] = [
    ("/v1/chat/completions", chats),
    ("/api/v1/chat/completions", chats),
    ("/v1/responses", responses_bodies),
    ("/agents/inference", agents),
    ("/api/inference", agents),
    ("/api/inference", later),
]


def test_a_hold_covers_each_byte_of_the_prompt_that_is_sent(upstream: responses.RequestsMock) -> None:
    """The output is free, so a hold is the bound of the prompt. No report of tokens makes it smaller."""
    prices = {MODEL: {"input": NANOUSD_PER_TOKEN / 1000, "output": 0}}
    app = app_of(
        MODEL_PRICES=orjson.dumps(prices).decode(),
        MAX_COST_PER_RUN="1000000",
        RATE_LIMIT_PER_RUN="off",
        RATE_LIMIT_PER_IP="off",
        CIRCUIT_FAILURES="0",
        LOG_LEVEL="ERROR",
    )
    seen: list[tuple[float, int]] = []

    def answer(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        body = orjson.loads(request.body or b"")
        held_nanousd = sum(held for _, held, _ in usage_in(app).values())
        seen.append((held_nanousd / NANOUSD_PER_TOKEN, body.get("n", 1) * prompt_bytes(body)))
        return (
            200,
            {},
            sse(delta("Hi", finish_reason="stop"), DONE)
            if body["stream"]
            else orjson.dumps({**WHOLE, "usage": None}),
        )

    upstream.add_callback("POST", CHAT_URL, answer)

    def check(row: tuple[str, Bodies]) -> None:
        path, bodies = row
        seen.clear()

        @settings(max_examples=EXAMPLES)
        @given(body=bodies)
        def send(body: Body) -> None:
            before = len(seen)
            reply = app.test_client().post(path, json={"run_id": RUN, **body}, headers=HEADERS)
            assert reply.status_code < 500, reply.text
            for held_tokens, size_bytes in seen[before:]:
                assert held_tokens >= size_bytes

        send()
        assert len(seen) >= EXAMPLES // 3, "nearly all requests were refused"

    check_rows(ROUTES, check)


def prompt_bytes(body: Body) -> int:
    """The bytes that a template may write, with the names of their fields.

    An image counts as its bytes, or as the most tokens that a model makes of one.
    """
    written = {name: value for name, value in body.items() if name not in HARMLESS}
    contents = [each["content"] for each in body["messages"] if isinstance(each["content"], list)]
    images = [part["image_url"]["url"] for parts in contents for part in parts if part["type"] == "image_url"]
    more = sum(max(0, LEAST_GREEDY_TOKENS_PER_IMAGE - len(url)) for url in images)
    return len(orjson.dumps(written)) + more
