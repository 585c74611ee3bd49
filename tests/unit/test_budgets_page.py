"""docs/operating/budgets.md: its examples are valid, and its tables say what happens."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.billing.budgets import Budgets
from ridges_proxy.billing.windows import WINDOWS, period_at
from ridges_proxy.cli.budgets import budgets as command
from ridges_proxy.config.budget_entries import FIELDS, MAX_BUDGETS, read_budgets
from ridges_proxy.config.dotenv_file import read
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.support.app import ADMIN_KEY, settings_of
from tests.unit.test_cli import serving

if TYPE_CHECKING:
    from ridges_proxy.config import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operating" / "budgets.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 30, 14, 20, tzinfo=UTC).timestamp()
EMBEDDING = "an embedding"


def example(language: str) -> str:
    """The first block of code in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the example, in a folder with both of its files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "budgets.json").write_text(example("json"))
    (tmp_path / "budgets.toml").write_text(example("toml"))
    (tmp_path / ".env").write_text(example("ini"))
    values, problems = read(tmp_path / ".env", ".env", may_be_missing=False)
    assert problems == []
    return settings_of(**values)


def test_the_example_is_the_same_in_json_and_toml(settings: Settings) -> None:
    assert read_budgets("budgets.json") == settings.budgets
    amounts = [(budget.name, budget.amount_nanousd // 10**9, budget.window) for budget in settings.budgets]
    assert amounts == [("all", 50, "day"), ("miner", 5, "day"), ("dear", 20, "week")]
    assert settings.max_cost_nanousd == 2 * 10**9


def test_the_table_of_the_example_says_on_what_calls_draw(settings: Settings) -> None:
    budgets = Budgets(settings.budgets)
    table = rows("An example")

    assert len(table) == 4
    for groups, model, levels in table:
        is_embedding = model == EMBEDDING
        found = budgets.levels_of(
            tuple(re.findall("`(.+?)`", groups)),
            settings.embedding_model if is_embedding else model.strip("`"),
            "embedding" if is_embedding else "inference",
            NOW,
        )
        shown = [
            f"`{level.budget}`" + ("" if level.scope == "all" else f" for `{level.scope}`") for level in found
        ]
        assert "; ".join(shown) == levels


def test_the_commands_of_the_page_watch_and_change_budgets(settings: Settings) -> None:
    section = PAGE.partition("\n## Watching and changing budgets\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith(".venv/bin/ridges-proxy budgets ")]
    ledger = MemoryLedger(60.0)
    levels = Budgets(settings.budgets).levels_of(("miner:ann",), None, "inference", time.time())
    ledger.settle(ledger.reserve(Run("run", 10, levels=levels), Kind.INFERENCE, 7, 7, 60.0), 7)

    with serving(create_app(settings, ledger)) as url:
        env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
        results = [CliRunner().invoke(command, line.split()[2:], env=env) for line in lines]

    assert [result.exit_code for result in results] == [0] * 5
    assert all("group:miner:ann" in result.stdout for result in results[:2])
    assert [result.stdout for result in results[2:]] == [
        "The amount of miner for miner:ann is $7.50 now, as set.\n",
        "The amount of miner for miner:ann is $5.00 now, as in BUDGETS.\n",
        "Reset miner: $0.000000007 spent in 1 level is set to zero.\n",
    ]


@pytest.mark.usefixtures("settings")
def test_the_command_of_the_page_checks_the_example(tmp_path: Path) -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith(".venv/bin/ridges-proxy budgets check"))

    result = CliRunner().invoke(command, line.split()[2:], env={"SETTINGS_FILE": str(tmp_path / ".env")})

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("\n3 budgets\n")


def test_the_tables_have_every_field_and_window() -> None:
    assert [cells[0] for cells in rows("Fields")] == [f"`{field}`" for field in FIELDS]
    assert f"at most {MAX_BUDGETS} budgets" in PAGE
    windows = [(cells[0], cells[2].partition(" (")[0]) for cells in rows("Windows")]
    assert windows == [(f"`{window}`", f"`{period_at(window, UTC, NOW).text}`") for window in WINDOWS]
