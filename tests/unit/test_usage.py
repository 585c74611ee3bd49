"""The usage that an upstream reports: which values are accepted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS, Usage
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.usage import parse_usage
from tests.support.table import check_rows


def test_only_a_valid_usage_is_accepted() -> None:
    rows: list[tuple[object, Usage | None]] = [
        (None, None),
        ({}, None),
        ([], None),
        ("10", None),
        (10, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": 7, "completion_tokens": 5}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": None}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached": 1}}, Usage(7, 5)),
        ({"prompt_tokens": 7}, None),
        ({"completion_tokens": 5}, None),
        ({"prompt_tokens": 0, "completion_tokens": 5}, None),
        ({"total_tokens": 12}, Usage(0, 12)),
        ({"prompt_tokens": 7, "total_tokens": 12}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 20}, Usage(7, 13)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 3}, Usage(7, 5)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": 7, "completion_tokens": 0}, Usage(7, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": -5}, None),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": -12}, None),
        ({"prompt_tokens": True, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": False}, None),
        ({"prompt_tokens": 7.0, "completion_tokens": 5.0, "total_tokens": 12.0}, Usage(7, 5)),
        ({"prompt_tokens": 7.5, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": float("inf")}, None),
        ({"input_tokens": 7, "output_tokens": 5}, Usage(7, 5)),
        ({"input_tokens": 7.0, "output_tokens": 5.0, "total_tokens": 12}, Usage(7, 5)),
        ({"input_tokens": 7, "output_tokens": 5, "total_tokens": 20}, Usage(7, 13)),
        ({"input_tokens": 7, "output_tokens": 5, "cache_creation_input_tokens": 2}, Usage(9, 5)),
        (
            {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 3}},
            Usage(7, 5, 3),
        ),
        ({"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 3}, Usage(10, 5, 3)),
        ({"input_tokens": 0, "output_tokens": 5, "cache_read_input_tokens": 3}, Usage(3, 5, 3)),
        (
            {
                "input_tokens": 7,
                "output_tokens": 5,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2,
            },
            Usage(12, 5, 3),
        ),
        # LiteLLM's: the prompt contains the cached tokens already.
        ({"prompt_tokens": 7, "completion_tokens": 5, "cache_read_input_tokens": 3}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "input_tokens": 9, "output_tokens": 9}, Usage(7, 5)),
        ({"prompt_tokens": 7, "total_tokens": 12, "input_tokens": 9, "output_tokens": 9}, Usage(7, 5)),
        ({"prompt_tokens": None, "input_tokens": 9, "output_tokens": 9}, Usage(9, 9)),
        ({"completion_tokens": 5, "total_tokens": 12, "input_tokens": 7, "output_tokens": 5}, Usage(7, 5)),
        ({"input_tokens": 7}, None),
        ({"output_tokens": 5}, None),
        ({"input_tokens": -7, "output_tokens": 5}, None),
        ({"input_tokens": "7", "output_tokens": "5"}, Usage(7, 5)),
        ({"prompt_tokens": "7", "completion_tokens": 5}, Usage(7, 5)),
        ({"prompt_tokens": "7.0", "completion_tokens": 5}, None),
        ({"prompt_tokens": "-7", "completion_tokens": 5}, None),
        ({"prompt_tokens": "\u0667", "completion_tokens": 5}, None),
        ({"prompt_tokens": "7" * 5000, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": float("nan")}, None),
        # Two forms: the first one that is valid.
        (
            {
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "total_tokens": 0,
                "input_tokens": 7,
                "output_tokens": 5,
            },
            Usage(7, 5),
        ),
        ({"prompt_tokens": -1, "completion_tokens": 5, "input_tokens": 7, "output_tokens": 5}, Usage(7, 5)),
        ({"prompt_tokens": -1, "completion_tokens": 5, "total_tokens": 12}, None),
        # Cached tokens under the names of DeepSeek and of Moonshot.
        ({"prompt_tokens": 7, "completion_tokens": 5, "prompt_cache_hit_tokens": 3}, Usage(7, 5, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "cached_tokens": 3}, Usage(7, 5, 3)),
        (
            {"prompt_tokens": 7, "completion_tokens": 5, "prompt_cache_hit_tokens": None, "cached_tokens": 3},
            Usage(7, 5, 3),
        ),
        ({"prompt_tokens": 7, "completion_tokens": 5, "cached_tokens": 8}, Usage(7, 5)),
        ({"prompt_tokens": [7], "completion_tokens": 5}, None),
        ({"prompt_tokens": MAX_COUNTED_TOKENS, "completion_tokens": 1}, Usage(MAX_COUNTED_TOKENS, 1)),
        ({"prompt_tokens": f"{MAX_COUNTED_TOKENS}", "completion_tokens": 1}, Usage(MAX_COUNTED_TOKENS, 1)),
        ({"prompt_tokens": MAX_COUNTED_TOKENS + 1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": 2**70}, None),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 10**12}, None),
    ]

    def check(row: tuple[object, Usage | None]) -> None:
        value, expected = row
        assert parse_usage(value) == expected

    check_rows(rows, check)


def test_cached_tokens_are_accepted_only_up_to_the_tokens_of_the_prompt() -> None:
    rows: list[tuple[object, int]] = [
        ({"cached_tokens": 3}, 3),
        ({"cached_tokens": 0}, 0),
        ({"cached_tokens": 7}, 7),
        ({"cached_tokens": 3, "audio_tokens": 1}, 3),
        (None, 0),
        ({}, 0),
        ([], 0),
        ("3", 0),
        (3, 0),
        ([{"cached_tokens": 3}], 0),
        ({"cached_tokens": None}, 0),
        ({"cached_tokens": True}, 0),
        ({"cached_tokens": 3.0}, 3),
        ({"cached_tokens": "3"}, 3),
        ({"cached_tokens": "-3"}, 0),
        ({"cached_tokens": [3]}, 0),
        ({"cached_tokens": -1}, 0),
        ({"cached_tokens": 8}, 0),
        ({"cached_tokens": 2**70}, 0),
    ]

    def check(row: tuple[object, int]) -> None:
        details, cached = row
        value = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": details}

        assert parse_usage(value) == Usage(7, 5, cached)

    check_rows(rows, check)


def test_no_tokens_are_cached_when_the_prompt_is_not_reported() -> None:
    assert parse_usage({"total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 3}}) == Usage(0, 12)


odd_values = st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.integers())


@given(prompt=st.integers(0, 100), cached=odd_values | st.integers(-10, 110))
def test_a_usage_never_has_more_cached_tokens_than_the_prompt(prompt: int, cached: object) -> None:
    value = {"prompt_tokens": prompt, "total_tokens": 200, "prompt_tokens_details": {"cached_tokens": cached}}

    usage = parse_usage(value)

    assert usage is not None
    assert 0 <= usage.cached_tokens <= usage.prompt_tokens


@given(deltas=st.integers(0, 10_000), text_bytes=st.integers(0, 10**7), reported=st.integers(0, 10_000))
def test_a_usage_is_doubted_exactly_where_the_response_proves_more_than_it_says(
    deltas: int, text_bytes: int, reported: int
) -> None:
    """The longest token has 128 bytes, and a token has at most two events."""
    attempt = Attempt(
        answering=True, complete=True, deltas=deltas, text_bytes=text_bytes, usage=Usage(7, reported, 3)
    )

    counted = attempt.counted_usage

    assert counted is not None
    assert attempt.usage_disproved == (text_bytes > 128 * reported or deltas > 2 * reported)
    assert (counted.prompt_tokens, counted.cached_tokens) == (7, 3)
    assert attempt.usage_disproved == (counted.completion_tokens > reported)
    assert text_bytes <= 128 * counted.completion_tokens
    assert deltas <= 2 * counted.completion_tokens
    if attempt.usage_disproved:
        fewer = counted.completion_tokens - 1
        assert text_bytes > 128 * fewer or deltas > 2 * fewer, "no more than is proven"
