"""`ridges-proxy spend history --by …`, against a server that answers with scripted receipts."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ridges_proxy.cli.spend import spend
from ridges_proxy.cli.tables import NO_RECEIPTS
from tests.support.app import ADMIN_KEY
from tests.support.table import check_rows
from tests.unit.test_cli import answering, assert_fails

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


def cost(
    model: str, calls: int, tokens: tuple[int, int], usd: float, kind: str = "inference"
) -> dict[str, Any]:
    prompt, completion = tokens
    return {
        "model": model,
        "kind": kind,
        "calls": calls,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cost_usd": usd,
    }


def receipt(
    run_id: str, *costs: dict[str, Any], groups: tuple[str, ...] = (), **fields: object
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "forgotten_at": "2026-11-26T00:20:00.000+00:00",
        "last_active_at": "2026-11-26T00:00:01.000+00:00",
        "used_cost_usd": sum(each["cost_usd"] for each in costs),
        "inference_cost_usd": 0.0,
        "embedding_cost_usd": 0.0,
        "max_cost_usd": 2.0,
        "calls": sum(each["calls"] for each in costs),
        "closed": False,
        "finished": False,
        "groups": list(groups),
        "ended_by": "idle",
        "first_call_at": "2026-11-25T10:00:00.000+00:00",
        "last_call_at": "2026-11-25T23:59:59.000+00:00",
        "refused": {"budget_exhausted": 2, "run_busy": 1},
        "prompt_tokens": sum(each["prompt_tokens"] for each in costs),
        "completion_tokens": sum(each["completion_tokens"] for each in costs),
        "costs": list(costs),
        **fields,
    }


OUTCOME = {"groups", "ended_by", "first_call_at", "last_call_at", "refused", "costs"}
TOKENS = {"prompt_tokens", "completion_tokens"}
OLD = {
    name: value
    for name, value in receipt("old", used_cost_usd=0.25, calls=5).items()
    if name not in OUTCOME | TOKENS
}

RECEIPTS = [
    receipt(
        "a",
        cost("big", 2, (100, 20), 0.3),
        cost("e", 1, (0, 0), 0.1, "embedding"),
        groups=("miner:1", "eval"),
    ),
    receipt(
        "b",
        cost("big", 1, (50, 5), 0.000000001),
        groups=("eval",),
        last_call_at="2026-11-26T00:00:00.000+00:00",
    ),
    receipt("a", cost("", 1, (1, 1), 0.05), calls=2, used_cost_usd=0.06, last_call_at=None),
    OLD,
]
"""`a` was forgotten twice. A part of its second receipt belongs to no model. `old` is from version 0.2.0."""

ROWS = {
    "model": [
        (None, 2, 7, 1, 1, 0.31),
        ("big", 2, 3, 150, 25, 0.300000001),
        ("e", 1, 1, 0, 0, 0.1),
    ],
    "day": [
        ("2026-11-25", 1, 3, 100, 20, 0.4),
        ("2026-11-26", 3, 8, 51, 6, 0.310000001),
    ],
    "group": [
        ("eval", 2, 4, 150, 25, 0.400000001),
        ("miner:1", 1, 3, 100, 20, 0.4),
        (None, 2, 7, 1, 1, 0.31),
    ],
    "run": [
        ("a", 1, 5, 101, 21, 0.46),
        ("old", 1, 5, 0, 0, 0.25),
        ("b", 1, 1, 50, 5, 0.000000001),
    ],
}
"""Name, runs, calls, tokens of prompt and completion, and cost. In the order of the rows."""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    with answering(json.dumps({"receipts": RECEIPTS, "next": None})) as url:
        yield url


def history(url: str, *options: str) -> Result:
    env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
    return CliRunner().invoke(spend, ["history", *options], env=env)


def test_receipts_are_summed_by_model_day_group_and_run(url: str) -> None:
    def check(by: str) -> None:
        rows = json.loads(history(url, "--by", by, "--json").stdout)
        assert [tuple(row.values()) for row in rows] == ROWS[by]
        names = ["runs", "calls", "prompt_tokens", "completion_tokens", "used_cost_usd"]
        assert all(list(row) == [by, *names] for row in rows)

    check_rows(ROWS, check)


def test_csv_has_the_same_rows_with_amounts_as_decimals(url: str) -> None:
    rows = list(csv.DictReader(io.StringIO(history(url, "--by", "model", "--csv").stdout)))
    assert [(row["model"], row["runs"], row["used_cost_usd"]) for row in rows] == [
        ("", "2", "0.310000000"),
        ("big", "2", "0.300000001"),
        ("e", "1", "0.100000000"),
    ]


def test_the_table_ends_with_the_sum_in_which_each_receipt_counts_once(url: str) -> None:
    lines = history(url, "--by", "group").stdout.splitlines()
    assert [line.split() for line in lines[2:-1]] == [
        ["eval", "2", "4", "150", "25", "$0.400000001"],
        ["miner:1", "1", "3", "100", "20", "$0.40"],
        ["(none)", "2", "7", "1", "1", "$0.31"],
    ]
    assert lines[-1] == "4 receipts, $0.710000001 spent"


def test_csv_of_the_receipts_has_their_outcome(url: str) -> None:
    first, *_, old = csv.DictReader(io.StringIO(history(url, "--csv").stdout))
    names = ("ended_by", "groups", "first_call_at", "prompt_tokens", "completion_tokens", "refused")
    values = ("idle", "miner:1 eval", "2026-11-25T10:00:00.000+00:00", "100", "20", "3")
    assert tuple(first[name] for name in names) == values
    assert {old[name] for name in names} == {""}


def test_without_receipts_there_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with answering(json.dumps({"receipts": [], "next": None})) as url:
        assert history(url, "--by", "model").stdout == NO_RECEIPTS + "\n"
        assert history(url, "--by", "model", "--json").stdout == "[]\n"


def test_an_unknown_sum_is_wrong_usage(url: str) -> None:
    assert_fails(history(url, "--by", "moon"), 2, "Invalid value for '--by'")


def test_an_answer_whose_outcome_has_another_form_is_not_from_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong: list[dict[str, object]] = [
        {"costs": [{"model": "m"}]},
        {"costs": [cost("m", 1, (0, 0), -1.0)]},
        {"groups": [1]},
        {"refused": {"x": "y"}},
        {"last_call_at": 5},
        {"prompt_tokens": 1.5},
    ]

    def check(fields: dict[str, object]) -> None:
        document = {"receipts": [{**RECEIPTS[0], **fields}], "next": None}
        with answering(json.dumps(document)) as url:
            assert_fails(history(url, "--by", "model"), 6)

    check_rows(wrong, check)
