"""`ridges-proxy budgets check`."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ridges_proxy.billing.budgets import Budget
from ridges_proxy.cli.budget_tables import budget_document, show_budgets
from ridges_proxy.cli.budgets import budgets
from ridges_proxy.cli.terminal import terminal_console
from ridges_proxy.config import DEFAULT_MODEL, BudgetSettings

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

NOW = datetime(2026, 11, 30, 14, 20, tzinfo=UTC).timestamp()
FOUND = [
    Budget("all", 50_000_000_000, "day"),
    Budget("miner", 5_000_000_001, "week", "Asia/Kolkata", group="miner:*", kind="inference"),
    Budget("dear", 1, "lifetime", model="a"),
]
ALL = {"name": "all", "usd": 50, "window": "day"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, without the settings of a developer."""
    monkeypatch.chdir(tmp_path)
    names = [field.metadata["name"] for field in dataclasses.fields(BudgetSettings)]
    for name in (*names, "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def check(*arguments: str, configured: object = (), **environ: str) -> Result:
    raw = json.dumps(configured)
    return CliRunner().invoke(budgets, ["check", *arguments], env={"BUDGETS": raw, **environ})


def test_the_table_shows_each_budget_with_its_present_period(capsys: pytest.CaptureFixture[str]) -> None:
    show_budgets(FOUND, NOW, terminal_console())

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "budget amount window zone match period resets at (UTC)",
        "all $50.00 day UTC all day 2026-11-30 2026-12-01 00:00",
        "miner $5.000000001 week Asia/Kolkata group:miner:* kind:inference week 2026-11-30 2026-12-06 18:30",
        "dear $0.000000001 lifetime UTC model:a lifetime never",
        "3 budgets",
    ]


def test_json_has_each_budget_with_its_present_period() -> None:
    assert budget_document(FOUND[1], NOW) == {
        "name": "miner",
        "usd": 5.000000001,
        "window": "week",
        "zone": "Asia/Kolkata",
        "match": "group:miner:* kind:inference",
        "period": "week 2026-11-30",
        "resets_at": "2026-12-06T18:30:00.000+00:00",
    }
    assert budget_document(FOUND[2], NOW)["resets_at"] is None


def test_the_setting_is_checked_without_a_key() -> None:
    result = check(configured=[ALL])

    assert (result.exit_code, result.stderr) == (0, "")
    assert "all" in result.stdout
    assert result.stdout.endswith("\n1 budget\n")
    assert [found["name"] for found in json.loads(check("--json", configured=[ALL]).stdout)] == ["all"]
    assert check().stdout == "no budgets\n"


def test_a_file_is_checked_instead_of_the_setting(folder: Path) -> None:
    (folder / "new.toml").write_text('[[budgets]]\nname = "new"\nusd = 1\nwindow = "hour"\n')
    (folder / "{new}.json").write_text(json.dumps({"budgets": [{**ALL, "name": "curly"}]}))

    for file, name in (("new.toml", "new"), ("{new}.json", "curly"), (str(folder / "new.toml"), "new")):
        result = check(file, "--json", configured="invalid")
        assert [found["name"] for found in json.loads(result.stdout)] == [name]
    missing = check("none.toml")
    assert (missing.exit_code, "File 'none.toml' does not exist" in missing.stderr) == (2, True)


def test_all_problems_are_printed_with_status_1() -> None:
    result = check(configured=[{**ALL, "usd": 0}, {**ALL, "model": "\x1b[2J", "kind": "chat"}])

    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "BUDGETS entry 1 ('all')",
        *["BUDGETS entry 2 ('all')"] * 3,
    ]


def test_a_model_must_have_a_price() -> None:
    result = check(configured=[{**ALL, "model": "gone"}])

    assert result.exit_code == 1
    assert result.stderr.startswith("BUDGETS entry 1 ('all'): model has no price in MODEL_PRICES")
    assert check(configured=[{**ALL, "model": DEFAULT_MODEL}]).exit_code == 0
    assert check(configured=[{**ALL, "model": "e"}], EMBEDDING_MODEL="e").exit_code == 0
