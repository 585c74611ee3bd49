"""Fields of a request by which tokens may be generated that are not sent."""

from __future__ import annotations

from ridges_proxy.billing.hidden_tokens import may_hide_tokens
from tests.support.table import check_rows


def test_the_fields_of_a_request_tell_whether_tokens_may_be_hidden() -> None:
    rows: list[tuple[dict[str, object], bool]] = [
        ({}, False),
        ({"temperature": 0.7, "reasoning": None, "logit_bias": None}, False),
        ({"include_reasoning": True}, False),
        ({"include_reasoning": False}, True),
        ({"separate_reasoning": False}, False),
        ({"separate_reasoning": True}, True),
        ({"reasoning": {"effort": "high"}}, False),
        ({"reasoning": {"exclude": False}}, False),
        ({"reasoning": {"exclude": True}}, True),
        ({"reasoning": {"summary": "auto"}}, True),
        ({"ignore_eos": False}, False),
        ({"ignore_eos": True}, True),
        ({"ignore_eos": True, "skip_special_tokens": True}, True),
        ({"ignore_eos": True, "skip_special_tokens": False}, False),
        ({"skip_special_tokens": True}, False),
        ({"skip_special_tokens": False, "logit_bias": {"1": 1}}, True),
        ({"stream_reasoning": True}, False),
        ({"stream_reasoning": False}, True),
        ({"min_tokens": 0}, False),
        ({"min_tokens": 5}, True),
        ({"min_tokens": 5, "skip_special_tokens": False}, False),
        ({"bad_words": ["<end>"]}, True),
        ({"add_generation_prompt": True}, False),
        ({"add_generation_prompt": False}, True),
        ({"continue_final_message": True}, False),
        ({"allowed_token_ids": [5]}, True),
        ({"structured_outputs": {"json": {}}}, True),
        ({"structural_tag": "{}"}, True),
        ({"ebnf": "root ::= x"}, True),
        ({"guided_grammar": "root ::= x"}, True),
        ({"guided_json": {"type": "object"}, "guided_regex": "a+", "regex": "a+"}, False),
        ({"response_format": {"type": "json_schema"}}, False),
        ({"response_format": {"type": "structural_tag"}}, True),
        ({"logit_bias": {}, "ebnf": ""}, False),
        ({"logit_bias": {"1": 100}}, True),
    ]

    def check(row: tuple[dict[str, object], bool]) -> None:
        fields, hides_tokens = row
        assert may_hide_tokens(fields) is hides_tokens

    check_rows(rows, check)
