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
        ({"logit_bias": {}}, False),
        ({"logit_bias": {"1": 100}}, True),
    ]

    def check(row: tuple[dict[str, object], bool]) -> None:
        fields, hides_tokens = row
        assert may_hide_tokens(fields) is hides_tokens

    check_rows(rows, check)
