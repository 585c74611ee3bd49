"""BUDGETS in all its forms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from ridges_proxy.billing.budgets import Budget
from ridges_proxy.config import DEFAULT_MODEL, SettingsError
from ridges_proxy.config.budget_entries import MAX_BUDGETS
from ridges_proxy.config.dotenv_file import MAX_PROBLEMS
from tests.support.app import settings_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

NAME_RULE = "name must be 1 to 64 of the characters A-Z a-z 0-9 _ . -"
AMOUNT_RULE = "usd must be an amount in USD, above 0 and at most 1,000,000"
TYPE_RULE = "usd must be an amount in USD, as a number or as text"
DECIMALS_RULE = "usd must have at most 9 decimals"
GROUP_RULE = "group must be 1 to 100 visible ASCII characters, without spaces"
MODEL_RULE = "model must be 1 to 256 printable characters"
ZONE_RULE = "zone must be the name of a time zone that this machine knows, such as Europe/Berlin"
WINDOW_RULE = "window must be one of lifetime, hour, day, week, month"
KIND_RULE = "kind must be one of inference, embedding"
KNOWN = "known are name, usd, window, zone, group, model, kind"

ALL = Budget("all", 50_000_000_000, "day")
EACH = Budget("each", 500_000_000, "week", "Asia/Kolkata", "miner:*", DEFAULT_MODEL, "inference")
ENTRIES = [
    {"name": "all", "usd": 50, "window": "day"},
    {
        "name": "each",
        "usd": "0.50",
        "window": "week",
        "zone": "Asia/Kolkata",
        "group": "miner:*",
        "model": DEFAULT_MODEL,
        "kind": "inference",
    },
]
TOML = f"""
[[budgets]]
name = "all"
usd = 50
window = "day"

[[budgets]]
name = "each"
usd = 0.5
window = "week"
zone = "Asia/Kolkata"
group = "miner:*"
model = "{DEFAULT_MODEL}"
kind = "inference"
"""


def entry(**fields: object) -> dict[str, Any]:
    """A valid budget with some other fields."""
    return {"name": "a", "usd": 1, "window": "day", **fields}


def amount(usd: str) -> bytes:
    """A TOML file with one budget of this amount."""
    return f"[[budgets]]\nname = 'a'\nusd = {usd}\nwindow = 'day'\n".encode()


def problems_of(raw: object) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        settings_of(BUDGETS=raw if isinstance(raw, str) else json.dumps(raw))
    return raised.value.problems


def test_budgets_are_read_from_json_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps(ENTRIES))
    (tmp_path / "object.json").write_text(json.dumps({"budgets": ENTRIES}))
    (tmp_path / "budgets.toml").write_text(TOML)
    texts = [json.dumps(ENTRIES), json.dumps({"budgets": ENTRIES}), *map(str, tmp_path.iterdir())]

    assert len(texts) == 5
    assert [raw for raw in texts if settings_of(BUDGETS=raw).budgets != (ALL, EACH)] == []


def test_there_may_be_no_budgets() -> None:
    texts = ["", " ", "[]", '{"budgets": []}']

    assert [raw for raw in texts if settings_of(BUDGETS=raw).budgets != ()] == []


def test_an_amount_is_exact() -> None:
    rows = [
        ("0.1", 100_000_000),
        ("1e-9", 1),
        ("0.000000001", 1),
        ("0.1000000000000", 100_000_000),
        ("1000000", 10**15),
        ("999999.999999999", 10**15 - 1),
        ('"0.3"', 300_000_000),
        ('" 2.50 "', 2_500_000_000),
    ]

    def check(row: tuple[str, int]) -> None:
        text, amount_nanousd = row
        (budget,) = settings_of(BUDGETS=f'[{{"name": "a", "usd": {text}, "window": "day"}}]').budgets
        assert budget.amount_nanousd == amount_nanousd

    check_rows(rows, check)


def test_an_invalid_field_is_one_problem_with_its_place() -> None:
    rows: list[tuple[str, list[object], str]] = [
        ("name", ["", "a b", "a:b", "x" * 65, "é", 1, None, [], "a\n"], NAME_RULE),
        ("name", ["run"], "name must not be 'run': each run's own budget has this name"),
        ("usd", [0, -1, "-0.1", 0.0, 1_000_000.01, 1e30, "x", "", "$1", "NaN", "1_0", "٢"], AMOUNT_RULE),
        (
            "usd",
            [True, None, [], {}, float("nan"), float("inf")],
            "usd must be an amount in USD, as a number",
        ),
        (
            "usd",
            [0.1 + 0.2, "0.0000000001", "0.1234567891", f"1.{'9' * 40}"],
            "usd must have at most 9 decimals",
        ),
        ("window", ["", "Day", "year", "days", 1, None, ["day"]], WINDOW_RULE),
        ("zone", ["", "Mars/Olympus", "+01:00", "../UTC", "x" * 5000, 1, None, []], ZONE_RULE),
        ("group", ["", "a b", "é", "x" * 101, "a\tb", 1, None, []], GROUP_RULE),
        ("group", ["**", "a*b*c"], "group must have at most one *"),
        ("model", ["", "x" * 257, "a\nb", "\ud800", 1, None, []], MODEL_RULE),
        ("kind", ["", "chat", "Inference", 1, None], KIND_RULE),
        ("usd ", [1], f"'usd ' is not a field; {KNOWN}"),
        ("\x1b[2J", [1], r"'\x1b[2J' is not a field"),
        ("x" * 5000, [1], "'xxxxxxxxxxxx...xxxxxxxxxxxxx' is not a field"),
    ]

    def check(row: tuple[str, object, str]) -> None:
        field, value, problem = row
        (found,) = problems_of([entry(name="first"), entry(**{field: value})])
        place, _, text = found.partition(": ")
        assert place.startswith("BUDGETS entry 2")
        assert text.startswith(problem)
        assert found.isprintable()
        assert len(found) < 250

    check_rows([(field, value, problem) for field, values, problem in rows for value in values], check)


def test_all_problems_are_reported_at_once_with_their_places() -> None:
    assert problems_of(
        [
            entry(usd=0, window="year", colour="red"),
            5,
            {"group": "a b"},
            entry(name="b"),
            entry(name="b", zone="Nowhere"),
            entry(name="b"),
        ]
    ) == [
        f"BUDGETS entry 1 ('a'): {AMOUNT_RULE}",
        f"BUDGETS entry 1 ('a'): {WINDOW_RULE}",
        f"BUDGETS entry 1 ('a'): 'colour' is not a field; {KNOWN}",
        "BUDGETS entry 2: must be an object with the fields of a budget",
        "BUDGETS entry 3: name is missing",
        "BUDGETS entry 3: usd is missing",
        "BUDGETS entry 3: window is missing",
        f"BUDGETS entry 3: {GROUP_RULE}",
        f"BUDGETS entry 5 ('b'): {ZONE_RULE}",
        "BUDGETS entry 5 ('b'): name is that of entry 4, too",
        "BUDGETS entry 6 ('b'): name is that of entry 4, too",
    ]


def test_problems_of_budgets_and_of_other_settings_are_reported_together() -> None:
    with pytest.raises(SettingsError) as raised:
        settings_of(BUDGETS='[{"name": "a", "window": "day"}]', PORT="x")

    assert sorted(problem.split()[0] for problem in raised.value.problems) == ["BUDGETS", "PORT"]


def test_only_the_first_problems_are_reported() -> None:
    problems = problems_of([{} for _ in range(MAX_BUDGETS)])

    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == f"BUDGETS has {3 * MAX_BUDGETS - MAX_PROBLEMS} more problems"


def test_the_number_of_budgets_has_a_limit() -> None:
    names = [entry(name=f"b{number}") for number in range(MAX_BUDGETS + 1)]

    assert len(settings_of(BUDGETS=json.dumps(names[:-1])).budgets) == MAX_BUDGETS == 64
    assert problems_of(names) == ["BUDGETS has 65 budgets: at most 64 are possible"]


def test_a_text_or_file_of_another_form_is_one_problem_with_its_reason(tmp_path: Path) -> None:
    Row: TypeAlias = tuple[str, bytes, str]
    rows: list[Row] = [
        ("b.json", b"{}", "must be a list of budgets, or an object with such a list in 'budgets'"),
        ("b.json", b"null", "must be a list of budgets"),
        ("b.json", b'{"budgets": {}}', "must be a list of budgets"),
        ("b.json", b'{"budgets": [], "x": []}', "has the unknown key 'x': the list is in 'budgets'"),
        ("b.json", b'[{"name": "a", "name": "b"}]', "names the key 'name' twice"),
        ("b.json", b'[{"usd": 1e99999999999999999999}]', "has a number with too large an exponent"),
        ("b.json", b"[" * 100_000, "is nested too deeply"),
        ("b.json", b"[", "is neither JSON nor the path"),
        ("b.json", b"\xff", "is neither JSON nor the path"),
        ("b.json", b" " * (1 << 20) + b"[]", "names a file of more than 1,048,576 characters"),
        ("b.toml", b"", "must be a list of budgets"),
        ("b.toml", b"[]", "is neither JSON nor the path"),
        ("b.toml", b"[budgets]\nname = 'a'", "must be a list of budgets"),
        ("b.toml", b"[[budget]]\nname = 'a'", "has the unknown key 'budget'"),
        ("b.toml", amount("inf"), f"entry 1 ('a'): {AMOUNT_RULE}"),
        ("b.toml", amount("2026-01-01"), f"entry 1 ('a'): {TYPE_RULE}"),
        ("b.toml", amount("9" * 4000), f"entry 1 ('a'): {AMOUNT_RULE}"),
        ("b.toml", amount("0.30000000000000004"), f"entry 1 ('a'): {DECIMALS_RULE}"),
    ]

    def check(row: Row) -> None:
        name, content, reason = row
        (tmp_path / name).write_bytes(content)
        (problem,) = problems_of(str(tmp_path / name))
        assert problem.startswith(f"BUDGETS {reason}")

    check_rows(rows, check)
    assert problems_of(str(tmp_path / "none.json")) == [
        "BUDGETS names a file that cannot be read: No such file or directory"
    ]
