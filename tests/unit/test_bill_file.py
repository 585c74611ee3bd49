"""The rows of a bill that is exported as CSV, and its faults by line and column."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest

from ridges_proxy.billing.bill_columns import (
    MAX_DECIMALS,
    MAX_TEXT_CHARACTERS,
    MIN_EPOCH_MILLISECONDS,
    MIN_EPOCH_SECONDS,
    NAMES,
)
from ridges_proxy.billing.bill_file import MAX_FAULTS, BilledCall, UnreadableBillError, read_bill
from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS
from tests.support.table import check_rows

AT = 1_795_989_600.0
"""2026-11-29 22:00 UTC."""


def rows(text: str) -> list[BilledCall]:
    bill = read_bill(io.StringIO(text, newline=""))
    return [bill[position] for position in range(len(bill))]


def faults(text: str) -> list[str]:
    with pytest.raises(UnreadableBillError) as raised:
        read_bill(io.StringIO(text, newline=""))
    return str(raised.value).splitlines()


def test_a_row_has_its_values_exactly() -> None:
    text = (
        "id,time,model,prompt_tokens,completion_tokens,amount\n"
        "a,2026-11-29T22:00:00Z,m,12,3,0.00001234567890123\n"
    )
    assert rows(text) == [BilledCall(2, "a", AT, "m", 12, 3, Decimal("0.00001234567890123"))]


def test_bills_that_are_written_differently_have_the_same_rows() -> None:
    expected = [BilledCall(2, "a", AT, "m, 1", 12, 3, Decimal("0.5"))]
    header = "id,time,model,prompt_tokens,completion_tokens,amount"
    many = 'usd,"x;y",model,x,completion_tokens,prompt_tokens,total_tokens,id,time'
    texts = [
        f'\ufeff{header}\r\na,2026-11-29T22:00:00Z,"m, 1",12,3,0.5\r\n',
        "ID;Created At;Model-Name;Tokens.Prompt;output tokens;USD\na;2026-11-29 22:00:00;m, 1;12;3;0.5",
        "id\ttime\tmodel\tinput_tokens\toutput_tokens\tusd\na\t1795989600\tm, 1\t12\t3\t5e-1\n\n",
        f'{many}\n0.5,"a ""b""\n","m, 1",,3,12,99,a,1795989600000\n,,,,,,,,\n',
        f'{header}\n a , 2026-11-29T23:00:00+01:00,"m, 1", 12, 3, .5\n',
        f'{header}\na,2026-11-29 22:00:00 UTC,"m, 1",12,3,0.5\n',
    ]

    def check(text: str) -> None:
        assert [row._replace(line=2) for row in rows(text)] == expected

    check_rows(texts, check)


def test_a_bill_may_have_only_an_id_or_a_time_and_only_the_sum_of_the_tokens() -> None:
    assert rows("id,model,tokens,amount\na,m,15,0\n") == [BilledCall(2, "a", None, "m", 15, None, Decimal(0))]
    found = rows("time,model,prompt_tokens,tokens,amount\n1795989600,m,12,,0.1\n")
    assert found == [BilledCall(2, "", AT, "m", 0, None, Decimal("0.1"))]


def test_a_sum_of_the_tokens_counts_if_only_one_of_its_parts_is_there() -> None:
    for part in ("prompt_tokens", "completion_tokens"):
        (row,) = rows(f"id,model,{part},tokens,amount\na,m,12,15,0\n")
        assert row == BilledCall(2, "a", None, "m", 15, None, Decimal(0)), part


def test_a_value_at_its_limit_is_read() -> None:
    row = (MAX_COUNTED_TOKENS, MAX_COUNTED_TOKENS, Decimal(f"1e-{MAX_DECIMALS}"))
    name = "i" * MAX_TEXT_CHARACTERS
    text = ",".join(map(str, (name, MIN_EPOCH_SECONDS, name, *row)))
    header = "id,time,model,prompt_tokens,completion_tokens,amount"
    assert rows(f"{header}\n{text}\n") == [BilledCall(2, name, MIN_EPOCH_SECONDS, name, *row)]
    for cell, at in (
        (MIN_EPOCH_MILLISECONDS - 1, MIN_EPOCH_MILLISECONDS - 1.0),
        (MIN_EPOCH_MILLISECONDS, 1e8),
    ):
        assert [each.at for each in rows(f"time,model,tokens,amount\n{cell},m,1,0\n")] == [at], cell


def test_the_header_names_all_that_is_missing_or_twice() -> None:
    def either(*kinds: str) -> str:
        names = [name for kind in kinds for name in NAMES[kind]]
        return f"{', '.join(names[:-1])} or {names[-1]}"

    assert faults("") == faults("\n") == faults("x,y\n")
    assert faults("x,y\n") == [
        f"line 1: needs an id or a time: a column {either('id', 'time')}",
        f"line 1: needs a column {either('model')}",
        f"line 1: needs a column {either('amount')}",
        f"line 1: needs a column {either('prompt_tokens', 'tokens')}",
        f"line 1: needs a column {either('completion_tokens', 'tokens')}",
    ]
    twice = faults("id,request_id,model,tokens,amount,cost\n")
    assert twice == [
        "line 1, column request_id: means the same as column id: rename one of them",
        "line 1, column cost: means the same as column amount: rename one of them",
    ]


def test_every_fault_is_named_by_its_line_and_column() -> None:
    text = (
        "id,When,time,model,in,prompt_tokens,completion_tokens,Cost\n"
        "a,,yesterday,m,,12,3,0.1\n"
        "b,,2026-11-30,,,-1,1.5,$1\n"
        '"c\nd",,20261130,m,,1000000001,9999999999999999999999,-1\n'
        ",,,m,,1,1,1000001\n"
        ",,,m,,1,1,1\n"
        "f,,,m,,1,1,1e99999999999999999999\n"
        "g,,,m,,1,1,1e-31\n"
        "short,row\n"
        f"{'x' * 257},,,m,,\u0661,1,nan\n"
    )
    when = "must be a time, such as 2026-11-30T14:05:00Z, or seconds since 1970"
    usd = "must be an amount in USD, such as 0.0123"
    assert faults(text) == [
        f"line 2, column time: {when}",
        f"line 3, column time: {when}",
        "line 3, column model: is empty",
        "line 3, column prompt_tokens: must be a whole number of tokens",
        "line 3, column completion_tokens: must be a whole number of tokens",
        f"line 3, column Cost: {usd}",
        f"line 5, column time: {when}",
        "line 5, column prompt_tokens: must be at most 1000000000 tokens",
        "line 5, column completion_tokens: must be a whole number of tokens",
        "line 5, column Cost: must be an amount in USD from 0 to 1000000",
        "line 6, column Cost: must be an amount in USD from 0 to 1000000",
        "line 7: has neither an id nor a time",
        f"line 8, column Cost: {usd}",
        "line 9, column Cost: must have at most 30 decimals",
        "line 10: has 2 cells, but the header has 8",
        "line 11, column id: has more than 256 characters",
        "line 11, column prompt_tokens: must be a whole number of tokens",
        f"line 11, column Cost: {usd}",
    ]


def test_faults_above_the_limit_are_counted() -> None:
    found = faults("id,model,tokens,amount\n" + "a,m,1,x\n" * (MAX_FAULTS + 1_234))
    assert (len(found), found[-1]) == (MAX_FAULTS + 1, "and 1,234 more")


def test_a_broken_quote_is_a_fault_of_its_line_and_the_next_lines_are_read() -> None:
    text = 'id,model,tokens,amount\n"a"b,m,1,1\nc,m,x,1\n"d,m,1,1\n'
    assert faults(text) == [
        "line 2: is no CSV: ',' expected after '\"'",
        "line 3, column tokens: must be a whole number of tokens",
        "line 4: is no CSV: unexpected end of data",
    ]
