"""The outcome of a run: what ended it, and its form in the JSON for operators."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ridges_proxy.ledger import Kind, ModelCost, Receipt, RunDetail, RunUsage
from ridges_proxy.ledger.outcome import ended_by
from ridges_proxy.web.run_json import receipt_json, run_json
from tests.support.table import check_rows

USAGE = RunUsage("r", 1_000)
WITH_TOKEN = {"detail": RunDetail(had_token=True)}


def test_what_ended_a_run_is_its_first_final_state_and_else_how_it_was_forgotten() -> None:
    rows: list[tuple[dict[str, Any], str | None, str]] = [
        ({}, None, "idle"),
        (WITH_TOKEN, None, "expired"),
        ({"own_budget": True}, None, "expired"),
        ({"finished": True}, "budget", "budget"),
        ({"finished": True, **WITH_TOKEN}, "budget", "budget"),
        ({"finished": True, "closed": True}, "closed", "closed"),
        ({"finished": True, "closed": True, **WITH_TOKEN}, "closed", "closed"),
    ]

    def check(row: tuple[dict[str, Any], str | None, str]) -> None:
        fields, known, forgotten = row
        usage = replace(USAGE, **fields)
        assert (ended_by(usage, forgotten=False), ended_by(usage, forgotten=True)) == (known, forgotten)

    check_rows(rows, check)


def test_the_detail_of_a_run_and_of_a_receipt_is_plain_json() -> None:
    costs = (
        ModelCost("a", Kind.INFERENCE, 3, 1_200, 340, 900_000_000),
        ModelCost("e", Kind.EMBEDDING, 1, 7, 0, 100_000_001),
    )
    detail = RunDetail(1_795_608_000.0, 1_795_608_060.25, {"budget_exhausted": 2}, costs)
    usage = replace(USAGE, groups=("miner:7", "eval"), detail=detail, closed=True, finished=True)
    expected = {
        "groups": ["miner:7", "eval"],
        "ended_by": "closed",
        "first_call_at": "2026-11-25T12:00:00.000+00:00",
        "last_call_at": "2026-11-25T12:01:00.250+00:00",
        "refused": {"budget_exhausted": 2},
        "prompt_tokens": 1_207,
        "completion_tokens": 340,
        "costs": [
            {
                "model": "a",
                "kind": "inference",
                "calls": 3,
                "prompt_tokens": 1_200,
                "completion_tokens": 340,
                "cost_usd": 0.9,
            },
            {
                "model": "e",
                "kind": "embedding",
                "calls": 1,
                "prompt_tokens": 7,
                "completion_tokens": 0,
                "cost_usd": 0.100000001,
            },
        ],
    }
    for document in (run_json(usage), receipt_json(Receipt(usage, 1_795_608_100.0))):
        parsed = json.loads(json.dumps(document))
        assert {name: parsed[name] for name in expected} == expected


def test_a_run_without_a_detail_has_no_times_and_no_tokens() -> None:
    document = run_json(USAGE)
    assert [document[name] for name in ("first_call_at", "last_call_at", "prompt_tokens")] == [None] * 3
    assert (document["refused"], document["costs"]) == ({}, [])
    without_calls = run_json(replace(USAGE, detail=RunDetail()))
    assert (without_calls["first_call_at"], without_calls["prompt_tokens"]) == (None, 0)
