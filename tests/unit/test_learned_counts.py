"""Bounds that follow from reported counts are true for every habit of a template, and tight."""

from __future__ import annotations

import itertools
import random
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing import learned_counts
from ridges_proxy.billing.learned_counts import (
    SEAM_TOKENS,
    LearnedCounts,
    PromptCounts,
    rendered_fields,
)
from ridges_proxy.billing.prompt import Prompt
from ridges_proxy.runtime.shared_table import BUCKET_ENTRIES, Record, SharedTable
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    Message = dict[str, Any]
    Template = Callable[[list[Message]], int]

MODEL, RUN = b"https://chutes.test/v1 a-model", "run-1"


def tokens_of(text: object) -> int:
    """The tokenizer for which the bounds are tightest: each byte is a token."""
    return len(str(text).encode()) if text else 0


def counts_of(learned: LearnedCounts, messages: list[Message], run: str = RUN, **fields: Any) -> PromptCounts:  # noqa: ANN401 - fields of a request
    return learned.of(Prompt.of(messages, fields), MODEL, rendered_fields(fields), run)


def new_counts() -> LearnedCounts:
    return LearnedCounts(SharedTable(None, 1 << 20), b"a secret")


# --- templates, one for each habit


def body_tokens(message: Message) -> int:
    calls = message.get("tool_calls") or []
    return 4 + tokens_of(message.get("content")) + sum(tokens_of(call["function"]) for call in calls)


def last_user(messages: list[Message]) -> int:
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    return users[-1] if users else -1


def plain(messages: list[Message]) -> int:
    return 2 + sum(map(body_tokens, messages)) + 3


def drops_earlier_reasoning(messages: list[Message]) -> int:
    kept = messages[last_user(messages) + 1 :]
    return plain(messages) + sum(tokens_of(message.get("reasoning_content")) for message in kept)


def marks_assistants_after_the_last_user(messages: list[Message]) -> int:
    later = messages[last_user(messages) + 1 :]
    return plain(messages) + 2 * len([each for each in later if each["role"] == "assistant"])


def opens_reasoning_after_the_last_user(messages: list[Message]) -> int:
    return 2 * marks_assistants_after_the_last_user(messages) - plain(messages)


def marks_assistants_before_the_last_user(messages: list[Message]) -> int:
    earlier = messages[: last_user(messages) + 1]
    return plain(messages) + len([each for each in earlier if each["role"] == "assistant"])


def repeats_the_called_name(messages: list[Message]) -> int:
    total, name = plain(messages), ""
    for message in messages:
        for call in message.get("tool_calls") or []:
            name = call["function"]["name"]
        total += tokens_of(name) if message["role"] == "tool" else 0
    return total


def joins_results(messages: list[Message]) -> int:
    are_results = [False, *[message["role"] == "tool" for message in messages], False]
    ends = sum(one is not other for one, other in itertools.pairwise(are_results))
    return plain(messages) + 3 * ends


def marks_the_last_assistant(messages: list[Message]) -> int:
    return plain(messages) + (4 if messages[-1]["role"] == "assistant" else 0)


def marks_answered_users(messages: list[Message]) -> int:
    roles = [*[message["role"] for message in messages], "assistant"]
    return plain(messages) + 4 * sum(pair == ("user", "assistant") for pair in itertools.pairwise(roles))


def adds_a_default_system_text(messages: list[Message]) -> int:
    return plain(messages) + (0 if messages[0]["role"] == "system" else 40)


TEMPLATES: list[Template] = [
    plain,
    drops_earlier_reasoning,
    marks_assistants_after_the_last_user,
    opens_reasoning_after_the_last_user,
    marks_assistants_before_the_last_user,
    repeats_the_called_name,
    joins_results,
    marks_the_last_assistant,
    marks_answered_users,
    adds_a_default_system_text,
]


# --- any conversations


TEXTS = st.sampled_from(["", "yes", "a" * 40, "def value(self): return 1; " * 8, "é" * 30, "b" * 800])
NAMES = st.sampled_from(["f", "a_long_name_of_a_function_that_is_called"])


def call(name: str) -> list[Message]:
    return [{"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}]


MESSAGES = st.one_of(
    st.builds(lambda text: {"role": "system", "content": text}, TEXTS),
    st.builds(lambda text: {"role": "user", "content": text}, TEXTS),
    st.builds(lambda text: {"role": "assistant", "content": text}, TEXTS),
    st.builds(lambda text: {"role": "assistant", "content": "", "reasoning_content": text}, TEXTS),
    st.builds(lambda name: {"role": "assistant", "content": None, "tool_calls": call(name)}, NAMES),
    st.builds(lambda text: {"role": "tool", "tool_call_id": "1", "content": text}, TEXTS),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[str, list[Message]]]:
    """Lists of messages in the order of their calls: they grow, lose their middle, branch and repeat.

    A new message is often one of the first lists again, so that sequences meet in other lists.
    """
    calls: list[tuple[str, list[Message]]] = []
    messages = draw(st.lists(MESSAGES, min_size=1, max_size=3))
    for _ in range(draw(st.integers(2, 12))):
        calls.append((draw(st.sampled_from(["run-1", "run-2"])), list(messages)))
        step = draw(st.integers(0, 3))
        if step == 0 and len(messages) > 2:
            start = draw(st.integers(1, len(messages)))
            del messages[draw(st.integers(0, start)) : start]
        elif step == 1:
            messages = list(draw(st.sampled_from(calls))[1])
        known = st.sampled_from([message for _, each in calls for message in each])
        messages = [*messages, *draw(st.lists(st.one_of(MESSAGES, known), min_size=1, max_size=3))]
    return calls


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.__name__)
@given(calls=conversations())
def test_no_prompt_has_more_tokens_than_its_bound(
    template: Template, calls: list[tuple[str, list[Message]]]
) -> None:
    learned = new_counts()
    for run, messages in calls:
        counts, true = counts_of(learned, messages, run), template(messages)
        assert true <= counts.bound_tokens() <= Prompt.of(messages, {}).tokens
        counts.learn(true)


# --- each rule, where the habit costs more than all allowances


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, **fields: object) -> Message:
    return {"role": "assistant", "content": text, **fields}


def tool(text: str) -> Message:
    return {"role": "tool", "tool_call_id": "1", "content": text}


def assert_bounded(template: Template, *calls: list[Message]) -> None:
    """Learn from each call but the last, and check the bound of each."""
    learned = new_counts()
    for messages in calls:
        counts, true = counts_of(learned, messages), template(messages)
        assert true <= counts.bound_tokens()
        counts.learn(true)


def test_a_mark_for_each_earlier_assistant_message_is_bounded() -> None:
    loop = [user("go"), *[message for _ in range(400) for message in (assistant("a"), tool("t"))]]

    assert_bounded(marks_assistants_before_the_last_user, loop, [*loop, user("more")])


def test_an_empty_block_of_reasoning_behind_the_last_user_message_is_bounded() -> None:
    loop = [user("go"), *[assistant(f"{number}") for number in range(400)]]

    assert_bounded(opens_reasoning_after_the_last_user, [*loop, user("more")], [*loop, tool("t")])


def test_messages_behind_an_unknown_beginning_count_at_what_they_were() -> None:
    """Rows: the messages that were new in one call, and are known in another list."""

    def check(new: list[Message]) -> None:
        learned = new_counts()
        start, other = [user("start")], [user("x" * 50)]
        for messages in (start, start + new):
            counts_of(learned, messages).learn(plain(messages))
        prompt = Prompt.of(other + new, {})

        bound = counts_of(learned, other + new).bound_tokens()

        known = plain(start + new) - plain(start)
        assert bound == prompt.call_bound + prompt.bounds[0] + SEAM_TOKENS + known + SEAM_TOKENS
        assert bound < prompt.tokens

    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    two = [assistant("a" * 90, tool_calls=[call]), tool("b" * 90)]
    check_rows([two, [user("u" * 30)], 4 * two, [assistant("a"), user("u")]], check)


def test_known_sequences_of_several_lengths_may_begin_with_the_same_message() -> None:
    """The longest one is used, with any number of messages behind it."""
    learned, start, other = new_counts(), user("start"), user("x" * 50)
    results = [tool(letter * 90) for letter in "bcd"]
    sequences = [[assistant("a" * 90, tool_calls=call("f")), *results[:count]] for count in (1, 2, 3)]
    for messages in ([start], *[[start, *each] for each in reversed(sequences)]):
        counts_of(learned, messages).learn(plain(messages))

    def check(row: tuple[list[Message], int]) -> None:
        sequence, more = row
        messages = [other, *sequence, *[assistant("new")] * more]
        prompt = Prompt.of(messages, {})
        known = sum(map(body_tokens, sequence))
        new = [prompt.bounds[0], *prompt.bounds[1 + len(sequence) :]]
        seams = (2 + more) * SEAM_TOKENS
        assert counts_of(learned, messages).bound_tokens() == prompt.call_bound + known + sum(new) + seams

    check_rows(itertools.product(sequences, range(4)), check)


def learns_a_sequence(earlier: str, later: str, *, is_exact: bool, tokens: int = 900) -> bool:
    """Whether a sequence of later messages is learned. The messages are given by the letters of their roles.

    The earlier ones are a complete list that was counted, or only the beginning of one.
    """
    names = {"s": "system", "d": "developer", "u": "user", "a": "assistant", "t": "tool"}
    roles = [names[letter] for letter in earlier + later]
    messages: list[Message] = [{"role": role, "content": f"{index}"} for index, role in enumerate(roles)]
    table, start, known_tokens = SharedTable(None, 1 << 20), messages[: len(earlier)], 1_000
    learned = LearnedCounts(table, b"a secret")
    if start:
        counts_of(learned, start if is_exact else [*start, user("another")]).learn(known_tokens)
    else:
        known_tokens = Prompt.of(messages, {}).call_bound
    counts = counts_of(learned, messages)
    counts.learn(known_tokens + tokens)
    return table.get(counts._keys.message(len(start))) is not None


def test_a_sequence_is_learned_only_where_the_beginning_is_written_as_in_other_lists() -> None:
    rows = [
        # behind a complete list
        ("u", "at", True, True),
        ("u", "s", True, False),
        ("u", "su", True, False),
        ("u", "us", True, False),
        ("u", "du", True, False),
        ("u", "ua", True, False),
        ("s", "u", True, True),
        ("ut", "u", True, True),
        ("ua", "u", True, False),
        ("ua", "t", True, True),
        ("uat", "u", True, False),
        ("uau", "u", True, True),
        # behind the beginning of another list
        ("u", "t", False, True),
        ("su", "t", False, True),
        ("uu", "t", False, False),
        ("ua", "t", False, False),
        ("sua", "t", False, False),
        # without a beginning
        ("", "u", False, True),
        ("", "su", False, True),
        ("", "ssu", False, False),
        ("", "du", False, False),
    ]

    def check(row: tuple[str, str, bool, bool]) -> None:
        earlier, later, is_exact, is_learned = row
        assert learns_a_sequence(earlier, later, is_exact=is_exact) is is_learned

    check_rows(rows, check)


def test_a_sequence_has_at_least_one_token() -> None:
    """Without a token more than the beginning, the count of one of both is of another template."""
    found = [learns_a_sequence("u", "t", is_exact=True, tokens=tokens) for tokens in (-1, 0, 1)]
    assert found == [False, False, True]


def test_every_mark_of_reasoning_is_found() -> None:
    """The short texts that are searched first must be in every mark."""

    def check(mark: bytes) -> None:
        assert learned_counts._has_reasoning(b'{"role":"assistant","content":"' + mark + b'"}')

    check_rows(learned_counts.REASONING_MARKS, check)


def test_all_leading_system_texts_are_known_together() -> None:
    """Their limit is the count of the list that begins with them, also of one with reasoning."""

    def check(roles: tuple[str, ...]) -> None:
        learned = new_counts()
        head = [{"role": role, "content": "rules " * 50} for role in roles]
        counts_of(learned, [*head, user("a"), assistant("b", reasoning_content="c")]).learn(400)
        others = [*head, user("another")]
        prompt = Prompt.of(others, {})

        bound = counts_of(learned, others).bound_tokens()

        assert bound == 400 + prompt.bounds[-1] + SEAM_TOKENS
        assert bound < prompt.tokens

    check_rows([("system",), ("developer",), ("system", "system"), ("system", "developer", "system")], check)


def test_a_user_message_that_shortens_its_beginning_is_not_learned() -> None:
    loop = [user("go"), *[message for _ in range(100) for message in (assistant("a"), tool("t"))]]
    last = user("x" * 300)

    assert_bounded(
        marks_assistants_after_the_last_user,
        loop,
        [*loop, last],
        [user("other")],
        [user("other"), last],
        [user("other"), assistant("b"), last, user("c")],
    )


def test_a_message_beside_reasoning_that_was_dropped_is_not_learned() -> None:
    step = [assistant("", reasoning_content="r" * 500), tool("t")]
    last = user("x" * 900)

    assert_bounded(
        drops_earlier_reasoning,
        [user("one")],
        [user("one"), *step],
        [user("two")],
        [user("two"), *step, last],
        [user("three")],
        [user("three"), last],
    )


def test_a_tool_message_is_known_only_behind_the_call_that_it_answers() -> None:
    short, long = (assistant("", tool_calls=call(name)) for name in ("f", "f" * 64))
    answers = [tool(f"{number}" * 40) for number in range(8)]
    growing = [[user("u"), short, *answers[:count]] for count in range(1, 9)]

    assert_bounded(repeats_the_called_name, *growing, [user("u"), long], [user("u"), long, *answers])


def test_tools_that_are_written_again_at_an_equal_user_message_are_bounded() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 2_000}}]
    tools_tokens = tokens_of(tools)

    def writes_tools_at_equal_users(messages: list[Message]) -> int:
        users = [message["content"] for message in messages if message["role"] == "user"]
        return plain(messages) + tools_tokens * users.count(users[-1])

    learned = new_counts()
    steps = [
        [user("one")],
        [user("one"), user("go")],
        [user("two")],
        [user("two"), assistant("x"), user("go")],
        [user("two"), assistant("x"), user("go"), assistant("y"), user("go")],
        [user("two"), user("go"), user("go"), user("go")],
    ]
    for messages in steps:
        counts, true = counts_of(learned, messages, tools=tools), writes_tools_at_equal_users(messages)
        assert true <= counts.bound_tokens()
        counts.learn(true)


def test_tools_that_a_later_user_message_has_moved_are_bounded() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 2_000}}]
    start = [user("go"), assistant("x"), user("go")]

    def writes_tools_at_equal_users(messages: list[Message]) -> int:
        users = [message["content"] for message in messages if message["role"] == "user"]
        return plain(messages) + tokens_of(tools) * users.count(users[-1])

    learned = new_counts()
    for messages in ([*start, user("other")], [*start, assistant("y")]):
        counts, true = counts_of(learned, messages, tools=tools), writes_tools_at_equal_users(messages)
        assert true <= counts.bound_tokens()
        counts.learn(true)


def test_with_tools_a_limit_holds_if_the_last_user_message_is_behind_it() -> None:
    learned, start = new_counts(), user("x" * 4_000)
    tools = [{"type": "function", "function": {"name": "f"}}]
    counts_of(learned, [start, assistant("y")], tools=tools).learn(1_010)

    messages = [start, user("z")]
    bound = counts_of(learned, messages, tools=tools).bound_tokens()
    assert bound == 1_010 + Prompt.of(messages, {"tools": tools}).bounds[1] + SEAM_TOKENS


def test_tools_that_are_written_at_the_first_user_message_are_bounded() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 2_000}}]

    def writes_tools_at_users(messages: list[Message]) -> int:
        return plain(messages) + tokens_of(tools) * (last_user(messages) >= 0)

    learned, rules = new_counts(), system("rules")
    for messages in ([rules], [rules, assistant("x")], [rules, user("u")]):
        counts, true = counts_of(learned, messages, tools=tools), writes_tools_at_users(messages)
        assert true <= counts.bound_tokens()
        counts.learn(true)


def test_a_tool_message_that_answers_an_earlier_call_is_known_only_in_its_place() -> None:
    def repeats_the_name_of_the_id(messages: list[Message]) -> int:
        names = {
            each["id"]: each["function"]["name"]
            for message in messages
            for each in message.get("tool_calls") or []
        }
        return plain(messages) + sum(
            tokens_of(names.get(message["tool_call_id"], ""))
            for message in messages
            if message["role"] == "tool"
        )

    def calls(call_id: str, name: str) -> Message:
        return assistant("", tool_calls=[{"id": call_id, "function": {"name": name, "arguments": "{}"}}])

    def check(early_id: str) -> None:
        late = [{**tool(f"{number}" * 40), "tool_call_id": early_id} for number in range(8)]
        short, long = ([user("u"), calls(early_id, name), calls("2", "g")] for name in ("f", "f" * 64))
        assert_bounded(
            repeats_the_name_of_the_id,
            *[[*short, *late[:count]] for count in range(9)],
            long,
            [*long, *late],
        )

    # The other texts are in the JSON of the last call too.
    check_rows(["1", "content", "assistant", "g"], check)


def test_a_result_inside_a_sequence_is_known_only_behind_the_same_messages() -> None:
    short, long = ([user("u"), assistant("", tool_calls=call(name)), user("v")] for name in ("f", "f" * 64))
    tail = [user("go"), *[tool(f"{number}" * 3) for number in range(15)]]

    assert_bounded(repeats_the_called_name, short, [*short, *tail], long, [*long, *tail])


def test_small_errors_of_many_sequences_are_not_missing_from_the_next_one() -> None:
    caller = assistant("", tool_calls=call("f"))
    parts = [f"{number:03}" for number in range(64)]

    def check(row: tuple[Template, list[Message], list[Message], list[Message]]) -> None:
        template, start, messages, last = row
        assert_bounded(
            template,
            [user("one"), *start],
            *[[user("one"), *start, message] for message in messages],
            [user("two"), *start],
            [user("two"), *start, *messages, *last],
            [user("three")],
            [user("three"), *last],
        )

    step = [assistant("y" * 900, tool_calls=call("f")), tool("t")]
    assistants, users, results = ([each(part) for part in parts] for each in (assistant, user, tool))
    check_rows(
        [
            (joins_results, [caller], results, step),
            (marks_assistants_after_the_last_user, [], assistants, [user("y" * 900)]),
            (marks_the_last_assistant, [], assistants, step),
            (marks_answered_users, [tool("t")], users, step),
        ],
        check,
    )


def test_a_message_behind_a_limit_is_not_known_behind_a_lower_limit() -> None:
    opening, long = system("rules"), user("x" * 900)

    assert_bounded(
        plain,
        [opening, user("y" * 600)],
        [opening, long],
        [opening, user("short")],
        [opening, user("other"), long],
        [opening, assistant("other"), long],
        [opening, assistant("other"), long, user("more")],
    )


def test_a_message_behind_a_limit_is_not_known_behind_another_beginning_with_this_limit() -> None:
    opening, other, long = system("rules"), system("r" * 500), user("x" * 900)
    high, low = [opening, user("y" * 604)], [other, user("y" * 109)]
    assert plain(high) == plain(low)

    assert_bounded(plain, high, low, [opening, long], [other, long])


def test_two_steps_behind_the_same_limit_are_not_both_known_by_it() -> None:
    """Rows: what is before the two steps. Only the limit that both were measured from is known of it."""
    opening = system("rules")
    first, second = ([assistant(text * 900, tool_calls=call("f")), tool("t")] for text in "ab")

    def check(new: list[Message]) -> None:
        assert_bounded(
            plain,
            [opening, user("y" * 600)],
            [opening, *first],
            [opening, *second],
            [opening, *new, *first, *second],
        )

    check_rows([[], [user("new")]], check)


def test_a_beginning_whose_reasoning_was_dropped_has_no_limit() -> None:
    start = [user("one"), assistant("", reasoning_content="r" * 900)]

    assert_bounded(drops_earlier_reasoning, [*start, user("two")], [*start, tool("t")])


def test_a_message_behind_a_count_that_may_shrink_is_not_learned() -> None:
    """Whether it may is kept beside the count, of which both parities are tried."""
    start = [user("one"), assistant("", reasoning_content="r" * 900)]
    other, step = [user("two"), assistant("z")], [assistant("x" * 500, tool_calls=call("f")), tool("t")]

    def check(reported_tokens: int) -> None:
        learned = new_counts()
        counts_of(learned, other).learn(9)
        counts_of(learned, start).learn(reported_tokens)
        counts_of(learned, [*start, *step]).learn(reported_tokens + 1)
        assert counts_of(learned, [*other, *step]).bound_tokens() > 500

    check_rows([910, 911], check)


def test_a_message_beside_an_image_that_got_fewer_tokens_is_not_learned() -> None:
    def shares_tokens_among_images(messages: list[Message]) -> int:
        images = sum(isinstance(each["content"], list) for each in messages)
        texts = [each for each in messages if isinstance(each["content"], str)]
        return plain(texts) + images * (2_000 if images == 1 else 1_000)

    url = {"url": "data:image/png;base64,AAAA"}
    views = [
        [
            assistant("", tool_calls=call("view")),
            {**tool(""), "content": [{"type": "image_url", "image_url": {**url, "detail": detail}}]},
        ]
        for detail in ("low", "high")
    ]
    step = [assistant("x" * 4_500, tool_calls=call("f")), tool("t")]

    assert_bounded(
        shares_tokens_among_images,
        [user("one")],
        *[[user("one"), *view] for view in views],
        [user("two")],
        [user("two"), *views[0], *views[1], *step],
        [user("three")],
        [user("three"), *step],
    )


def test_a_prompt_without_a_known_beginning_includes_the_templates_own_text() -> None:
    def long_default(messages: list[Message]) -> int:
        return plain(messages) + 250

    step = [assistant("a" * 90), tool("t" * 90)]
    assert_bounded(long_default, [user("u")], [user("u"), *step], step)


def test_the_largest_count_of_a_list_counts_for_longer_lists() -> None:
    learned, start = new_counts(), [user("x" * 400)]
    for reported in (410, 700, 420):
        counts_of(learned, start).learn(reported)

    assert counts_of(learned, [*start, user("y")]).bound_tokens() > 700


# --- fast


def test_a_long_prompt_takes_little_time() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    caller = assistant("a" * 3_000_000, tool_calls=call("f"))

    def check(row: tuple[list[Message], dict[str, Any]]) -> None:
        messages, fields = row
        counts = counts_of(new_counts(), messages, **fields)
        started = time.process_time()
        counts.bound_tokens()
        assert time.process_time() - started < 0.8  # 0.2 s; quadratic time was 1.4, 2.9 and 26 s

    many = 9_999
    check_rows(
        [
            ([assistant("x")] * many, {"tools": tools}),
            ([assistant("", tool_calls=call("f")), *[tool("x")] * many], {}),
            ([caller, *[tool("x")] * many], {}),
        ],
        check,
    )


# --- tight


def code(random_: random.Random, words: int) -> str:
    return " ".join(random_.choice(["self", "return", "value", "index", "(x)", "= 1"]) for _ in range(words))


def four_bytes_a_token(messages: list[Message]) -> int:
    return 5 + sum(4 + (body_tokens(each) - 4) // 4 for each in messages)


def an_agents_bounds(shown: Callable[[list[Message]], list[Message]], **fields: Any) -> float:  # noqa: ANN401 - fields of a request
    """Let an agent work for 60 steps. Returns its bounds as a multiple of its counts in the last 30."""
    learned, random_ = new_counts(), random.Random(7)
    history = [system(code(random_, 800)), user(code(random_, 100)), user(code(random_, 100))]
    bounds, trues = 0, 0
    for step in range(60):
        messages = shown(history)
        counts, true = counts_of(learned, messages, **fields), four_bytes_a_token(messages)
        bound = counts.bound_tokens()
        counts.learn(true)
        assert true <= bound
        if step >= 30:
            bounds, trues = bounds + bound, trues + true
        arguments = code(random_, 20)
        tool_call = {"id": str(step), "function": {"name": "bash", "arguments": arguments}}
        result = tool(code(random_, random_.randint(40, 400)))
        result["tool_call_id"] = str(step)
        history += [assistant("", tool_calls=[tool_call]), result]
    return bounds / trues


def test_an_agents_bounds_are_close_to_its_counts() -> None:
    tools = [{"type": "function", "function": {"name": "bash", "description": "d" * 1_000}}]

    def window(messages: list[Message]) -> list[Message]:
        """The beginning that is always sent is never a complete list."""
        return messages[:2] + messages[2:][-40:]

    def window_without_beginning(messages: list[Message]) -> list[Message]:
        return messages[1:][-40:]

    def attempt(messages: list[Message]) -> list[Message]:
        return [*messages, user(f"Attempt {len(messages)}.")]

    def summarized(messages: list[Message]) -> list[Message]:
        count = (len(messages) - 3) // 20 * 20
        return [
            *messages[:2],
            *([user(f"Summary of {count} messages.")] if count else []),
            *messages[3 + count :],
        ]

    def check(row: tuple[Callable[[list[Message]], list[Message]], dict[str, Any], float]) -> None:
        shown, fields, most = row
        assert an_agents_bounds(shown, **fields) <= most

    rows = [
        (shown, fields, most)
        for fields in ({}, {"tools": tools})
        for shown, most in ((list, 1.1), (window, 1.2), (attempt, 1.12), (summarized, 1.5))
    ]
    rows.append((window_without_beginning, {}, 1.25))
    check_rows(rows, check)


def test_the_same_prompt_is_bounded_by_its_count() -> None:
    learned, messages = new_counts(), [{"role": "user", "content": "x" * 4_000}]
    counts_of(learned, messages).learn(1_001)

    assert counts_of(learned, messages).bound_tokens() == 1_001 + SEAM_TOKENS


def test_branches_of_one_beginning_know_it() -> None:
    learned, start = new_counts(), [{"role": "user", "content": "x" * 40_000}]
    counts_of(learned, start).learn(10_001)
    for branch in range(3):
        messages = [*start, {"role": "assistant", "content": str(branch)}]
        assert counts_of(learned, messages).bound_tokens() < 10_200


# --- what others may know


def test_others_know_a_count_only_after_three_runs_have_sent_it() -> None:
    learned, messages = new_counts(), [{"role": "user", "content": "x" * 4_000}]
    unknown = Prompt.of(messages, {}).tokens
    for number in range(1, 4):
        assert counts_of(learned, messages, "observer").bound_tokens() == unknown
        counts_of(learned, messages, f"run-{number}").learn(1_001)
    assert counts_of(learned, messages, "observer").bound_tokens() == 1_001 + SEAM_TOKENS


def test_a_count_of_one_other_run_does_not_change_an_estimate() -> None:
    rules, last = system("rules " * 400), [assistant("x"), tool("t" * 400)]

    def check(row: tuple[list[list[Message]], list[list[Message]], list[Message]]) -> None:
        own, others, messages = row
        learned = new_counts()
        for each in own:
            counts_of(learned, each, "observer").learn(plain(each))
        before = counts_of(learned, messages, "observer").bound_tokens()
        for each in others:
            counts_of(learned, each, "other").learn(plain(each) + len(each))
        assert counts_of(learned, messages, "observer").bound_tokens() == before
        assert plain(others[-1]) + len(others[-1]) <= counts_of(learned, others[-1], "other").bound_tokens()

    def behind(start: Message) -> list[list[Message]]:
        return [[start], [start, *last]]

    check_rows(
        [
            ([[rules, user("x" * 600)]], [[rules, user("hi")]], [rules, user("what")]),
            ([[rules]], [[rules]], [rules]),
            (behind(user("u")), behind(user("v")), [user("w"), *last]),
        ],
        check,
    )


def test_a_system_text_of_three_runs_is_known_to_all() -> None:
    learned, system = new_counts(), {"role": "system", "content": "rules " * 4_000}
    for number in range(3):
        task = {"role": "user", "content": f"task {number}"}
        counts_of(learned, [system, task], f"run-{number}").learn(4_010 + number)
    bound = counts_of(learned, [system, {"role": "user", "content": "another task"}], "new").bound_tokens()

    assert 4_010 <= bound < 4_200


def test_a_count_is_known_only_for_the_same_model_and_rendered_fields() -> None:
    learned, messages = new_counts(), [{"role": "user", "content": "x" * 4_000}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    counts_of(learned, messages, tools=tools, temperature=0.5).learn(1_001)

    def bound(model: bytes, **fields: Any) -> int:  # noqa: ANN401 - fields of a request
        return learned.of(Prompt.of(messages, fields), model, rendered_fields(fields), RUN).bound_tokens()

    assert bound(MODEL, tools=tools, temperature=1, seed=3) == 1_001 + SEAM_TOKENS
    unknown = Prompt.of(messages, {"tools": tools}).tokens
    assert bound(MODEL + b"2", tools=tools) == unknown
    with_effort = {"tools": tools, "reasoning_effort": "high"}
    assert bound(MODEL, **with_effort) == Prompt.of(messages, with_effort).tokens
    assert bound(MODEL) == Prompt.of(messages, {}).tokens


def test_the_order_of_keys_inside_a_field_is_rendered() -> None:
    def check(row: tuple[dict[str, Any], dict[str, Any], bool]) -> None:
        one, other, is_same = row
        assert (rendered_fields(one) == rendered_fields(other)) is is_same

    check_rows(
        [
            ({"tools": [{"a": {}, "b": 1}]}, {"tools": [{"b": 1, "a": {}}]}, False),
            ({"tools": [], "reasoning": {}}, {"reasoning": {}, "tools": []}, True),
        ],
        check,
    )


def test_the_order_of_the_rendered_fields_makes_no_difference() -> None:
    learned, messages = new_counts(), [user("x" * 4_000)]
    tools = [{"type": "function"}]
    counts_of(learned, messages, tools=tools, reasoning_effort="high").learn(1_001)

    reordered = counts_of(learned, messages, reasoning_effort="high", tools=tools)
    assert reordered.bound_tokens() == 1_001 + SEAM_TOKENS


def test_nothing_is_known_under_another_secret() -> None:
    """Otherwise a digest that is guessed from a message would find its count in the table."""
    table, messages = SharedTable(None, 1 << 20), [user("x" * 4_000)]
    for number in range(3):
        counts_of(LearnedCounts(table, b"a secret"), messages, f"run-{number}").learn(1_001)

    assert counts_of(LearnedCounts(table, b"a secret"), messages, "new").bound_tokens() == 1_001 + SEAM_TOKENS
    other = LearnedCounts(table, b"another secret")
    assert counts_of(other, messages, "new").bound_tokens() == Prompt.of(messages, {}).tokens


def test_models_and_secrets_are_apart_even_if_their_random_numbers_are_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secrets, "randbits", lambda _: 7)
    table, prompt = SharedTable(None, 1 << 20), Prompt.of([user("x" * 4_000)], {})

    def counts(model: bytes, secret: bytes, run: str = RUN) -> PromptCounts:
        return LearnedCounts(table, secret).of(prompt, model, b"", run)

    for number in range(3):
        counts(MODEL, b"a secret", f"run-{number}").learn(1_001)
    one = counts(MODEL, b"a secret")

    assert one.bound_tokens() == 1_001 + SEAM_TOKENS
    assert counts(MODEL + b"2", b"a secret").bound_tokens() == prompt.tokens
    other = counts(MODEL, b"another secret")
    assert other.bound_tokens() == prompt.tokens
    assert one._numbers._tag != other._numbers._tag, "a guessed run id would be found in the table"


# --- what is not learned


def test_the_largest_report_is_kept() -> None:
    learned, messages = new_counts(), [{"role": "user", "content": "x" * 4_000}]
    for reported in (1_001, 1_203, 900):
        counts = counts_of(learned, messages)
        counts.bound_tokens()
        counts.learn(reported)

    assert counts_of(learned, messages).bound_tokens() == 1_203 + SEAM_TOKENS


def test_a_model_that_is_forgotten_is_bounded_by_bytes_again() -> None:
    learned, messages = new_counts(), [{"role": "user", "content": "x" * 4_000}]
    counts_of(learned, messages).learn(1_001)
    counts_of(learned, messages).forget_model()
    assert counts_of(learned, messages).bound_tokens() == Prompt.of(messages, {}).tokens

    counts_of(learned, messages).learn(1_001)
    assert counts_of(learned, messages).bound_tokens() == 1_001 + SEAM_TOKENS


def test_other_models_and_servers_keep_what_one_model_forgets() -> None:
    table, prompt = SharedTable(None, 1 << 20), Prompt.of([user("x" * 4_000)], {})

    def counts(model: bytes, secret: bytes) -> PromptCounts:
        return LearnedCounts(table, secret).of(prompt, model, b"", RUN)

    others = [(MODEL + b"2", b"a secret"), (MODEL, b"another secret")]
    for each in others:
        counts(*each).learn(1_001)
    counts(MODEL, b"a secret").forget_model()
    assert [counts(*each).bound_tokens() for each in others] == [1_001 + SEAM_TOKENS] * 2


def test_what_was_forgotten_stays_so_when_the_table_is_full() -> None:
    now = 0.0
    table = SharedTable(None, 1 << 16, lambda: now)
    learned, messages = LearnedCounts(table, b"a secret"), [{"role": "user", "content": "x" * 4_000}]
    counts_of(learned, messages).learn(1_001)
    counts_of(learned, messages).forget_model()
    now, key = 10.0, counts_of(learned, messages)._generation_key
    for number in range(BUCKET_ENTRIES):  # other entries of the same bucket
        table.put(key[:8] + number.to_bytes(8, "big"), Record(1, ()))

    assert counts_of(learned, messages).bound_tokens() == Prompt.of(messages, {}).tokens


def test_a_list_with_an_image_at_a_url_is_never_learned() -> None:
    def check(row: tuple[str, bool]) -> None:
        url, is_learned = row
        learned = new_counts()
        messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        counts_of(learned, messages).learn(1_001)
        assert (counts_of(learned, messages).bound_tokens() == 1_001 + SEAM_TOKENS) is is_learned

    check_rows(
        [
            ("data:image/png;base64,AAAA", True),
            ("https://example.test/a.png", False),
            ("HTTP://example.test/a.png", False),
        ],
        check,
    )


def test_without_memory_every_bound_is_that_of_the_bytes() -> None:
    learned = LearnedCounts(SharedTable(None, 0), b"a secret")
    messages = [{"role": "user", "content": "x" * 4_000}]
    counts_of(learned, messages).learn(1_001)

    assert counts_of(learned, messages).bound_tokens() == Prompt.of(messages, {}).tokens
