"""The decisions of a reload. tests/process/test_reload.py tests it in a running server."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from typing import TYPE_CHECKING, TypeAlias

import pytest

from ridges_proxy.billing.budgets import Budgets
from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.prices import Price
from ridges_proxy.config import DEFAULT_MODEL as M
from ridges_proxy.config import Settings, load_settings
from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from ridges_proxy.server.accepted_settings import AcceptedSettings
from ridges_proxy.server.reload import ANOTHER_ADDRESS, Reload, changed_models, reload_in_place
from tests.support.app import environ_of
from tests.support.small_tokenizer import small_tokenizer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

    from ridges_proxy.ledger import LevelUsage

BUDGET = '[{"name": "all", "usd": "5", "window": "day"}]'
OLD, NEW = Price(270_000_000, 270_000_000), Price(1_000_000_000, 1_000_000_000)


class ServerFiles:
    """A `.env` and a price file, with a master and a worker that read them. Records the master's actions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "prices.json"
        self.restart()

    def restart(self) -> None:
        """Write the first version of both files, and start a master and a worker with it."""
        self.write()
        self.actions: list[str] = []
        running = load_settings(Settings, self._environ())
        self.accepted = AcceptedSettings(running)
        self.worker = self.fork()
        self.prices, self.budgets = PriceList(running.model_prices), Budgets(running.budgets)
        self.hup = Reload(
            self.accepted, lambda: self.actions.append("restart"), lambda: self.actions.append("signal")
        )

    def write(self, prices: object = None, **settings: str) -> None:
        """Write a new version of both files."""
        self._path.write_text(json.dumps(prices or {M: 0.27, "gone": 1, "kept": 2}))
        self._settings = settings
        lines = [f"{name}={value}\n" for name, value in self._environ().items()]
        (self._folder / ".env").write_text("".join(lines))

    def fork(self) -> AcceptedSettings:
        """Return what a worker has that the master forks now: its own copy, and the same shared memory."""
        return copy.copy(self.accepted)

    def take_over(self) -> None:
        reload_in_place(self.worker, self.prices, self.budgets)

    def _environ(self) -> dict[str, str]:
        return environ_of(MODEL_PRICES=str(self._path), **self._settings)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerFiles:
    for field in dataclasses.fields(Settings):
        monkeypatch.delenv(field.metadata["name"], raising=False)
    monkeypatch.chdir(tmp_path)
    return ServerFiles(tmp_path)


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logging.getLogger("ridges_proxy").propagate = True
    caplog.set_level(logging.INFO)
    return caplog


def events(lines: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in lines.records]


# --- the master


def test_the_workers_are_signalled_if_only_prices_have_changed(
    files: ServerFiles, lines: pytest.LogCaptureFixture
) -> None:
    files.write({M: 1, "kept": 2, "added": 3})

    files.hup()

    assert files.actions == ["signal"]
    (line,) = lines.records
    assert line.message == "prices reloaded"
    assert line.__dict__["models"] == 3
    assert line.__dict__["changed"] == [M, "gone", "added"]


def test_other_changes_and_no_change_replace_the_workers(files: ServerFiles) -> None:
    Row: TypeAlias = tuple[str, object, dict[str, str]]
    rows: list[Row] = [
        ("nothing", None, {}),
        ("another setting", None, {"MAX_TOKENS": "77"}),
        ("both", {M: 1}, {"MAX_TOKENS": "77"}),
        ("only the order", {"kept": 2, "gone": 1, M: 0.27}, {}),
        ("the default model too", {M: 0.27, "kept": 1}, {"DEFAULT_MODEL": "kept"}),
    ]

    def check(row: Row) -> None:
        _, prices, settings = row
        files.restart()
        files.write(prices, **settings)

        files.hup()

        assert files.actions == ["restart"]

    check_rows(rows, check)


def test_budgets_are_signalled_too_alone_or_with_prices(
    files: ServerFiles, lines: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "budgets.toml"

    def reload(text: str, prices: object = None) -> list[tuple[str, object]]:
        lines.clear()
        path.write_text(text)
        files.write(prices, BUDGETS=str(path))
        files.hup()
        return [(record.message, record.__dict__.get("changed")) for record in lines.records]

    first = reload(budget_of("all", 50))
    assert first == [("budgets reloaded", ["all"])]
    both = reload(budget_of("all", 60) + budget_of("new", 1), {M: 1, "gone": 1, "kept": 2})
    assert both == [("prices reloaded", [M]), ("budgets reloaded", ["all", "new"])]
    assert files.actions == ["signal", "signal"]
    reload(budget_of("all", 0))
    assert files.actions == ["signal", "signal"]
    assert files.accepted.state().problems[0].startswith("BUDGETS entry 1 ('all'): usd must be")
    found = [(budget.name, budget.amount_nanousd) for budget in files.fork().settings.budgets]
    assert found == [("all", 60_000_000_000), ("new", 1_000_000_000)], "the accepted ones"


def budget_of(name: str, usd: int) -> str:
    return f'[[budgets]]\nname = "{name}"\nusd = {usd}\nwindow = "day"\ngroup = "a:*"\n'


def test_a_changed_setting_that_needs_new_workers_is_named(
    files: ServerFiles, lines: pytest.LogCaptureFixture
) -> None:
    files.write({M: 1}, BUDGETS=BUDGET, ALERT_PERCENTS="50", ALERT_WEBHOOK_KEY="k" * 32)

    files.hup()

    (line,) = lines.records
    assert line.message == "changed settings need new workers"
    assert line.__dict__["changed"] == ["ALERT_PERCENTS", "ALERT_WEBHOOK_KEY"]
    assert files.actions == ["restart"]


def test_bad_prices_are_refused_and_no_worker_is_signalled(
    files: ServerFiles, lines: pytest.LogCaptureFixture
) -> None:
    rows: list[object] = [{M: -1}, {M: {"input": 1, "output": 1, "cached_input": 2}}, {"other": 1}, [1]]

    def check(prices: object) -> None:
        files.restart()
        lines.clear()
        files.write(prices)

        files.hup()

        assert files.actions == []
        assert events(lines) == ["reload refused: the previous settings stay in force"]

    check_rows(rows, check)


def test_another_address_is_refused_and_the_workers_continue(files: ServerFiles) -> None:
    def check(settings: dict[str, str]) -> None:
        files.restart()
        files.write(**settings)
        files.hup()
        assert files.actions == []
        assert files.accepted.state().problems == (ANOTHER_ADDRESS,)

    check_rows([{"PORT": "8001"}, {"HOST": "127.0.0.2", "MAX_COST_PER_RUN": "3"}], check)


def test_a_later_reload_compares_with_the_settings_that_run_now(files: ServerFiles) -> None:
    files.write({M: 1})
    files.hup()
    files.hup()
    assert files.actions == ["signal", "restart"], "the second finds nothing changed"

    files.write({M: 1}, MAX_TOKENS="77")
    files.hup()
    files.write({M: 2}, MAX_TOKENS="77")
    files.hup()
    files.write({M: 2})
    files.hup()
    assert files.actions[2:] == ["restart", "signal", "restart"]


def test_a_later_reload_does_not_compare_with_refused_settings(files: ServerFiles) -> None:
    files.write({M: -1}, MAX_TOKENS="77")
    files.hup()
    files.write({M: 1})
    files.hup()

    assert files.actions == ["signal"]


def test_a_new_upstream_model_or_cached_price_is_a_changed_price() -> None:
    assert changed_models(
        {"a": Price(1, 1), "b": Price(1, 1), "c": Price(1, 1)},
        {"a": Price(1, 1, None, "x"), "b": Price(1, 1, 0), "c": Price(1, 1)},
    ) == ["a", "b"]


# --- a worker


def test_a_worker_loads_changed_prices(files: ServerFiles, lines: pytest.LogCaptureFixture) -> None:
    files.write({M: 1, "b": {"input": 1, "output": 2, "cached_input": 0.5, "upstream": "c/d"}})
    files.hup()
    lines.clear()

    files.take_over()

    assert files.prices.prices == files.accepted.settings.model_prices
    assert files.prices.prices[M] == NEW
    assert events(lines) == ["new prices are in force"]


def test_a_worker_loads_prices_again_and_again(files: ServerFiles) -> None:
    for rate in (1, 2, 0.27):
        files.write({M: rate})
        files.hup()
        files.take_over()

    assert files.prices.prices == {M: OLD}


def test_a_worker_takes_over_budgets_and_its_levels_stay_in_the_ledger(
    files: ServerFiles, lines: pytest.LogCaptureFixture
) -> None:
    ledger = MemoryLedger(60.0)

    def spend(nanousd: int) -> LevelUsage:
        run = Run("run", 100, levels=files.budgets.levels_of((), None, None, 0.0))
        usage = ledger.settle(ledger.reserve(run, Kind.INFERENCE, nanousd, nanousd, 60.0), nanousd)
        assert usage
        (level,) = usage.levels
        return level

    files.write(BUDGETS=BUDGET)
    files.hup()
    files.take_over()
    assert spend(7).amount_nanousd == 5_000_000_000
    files.write(BUDGETS=BUDGET.replace("5", "0.00000001"))
    files.hup()
    lines.clear()

    files.take_over()

    assert events(lines) == ["new budgets are in force"]
    level = spend(3)
    assert (level.spent_nanousd, level.amount_nanousd) == (10, 10)
    with pytest.raises(BudgetExhaustedError):
        spend(1)
    files.write()
    files.hup()
    files.take_over()
    assert files.budgets.all == ()


def test_a_worker_without_changed_prices_logs_nothing(
    files: ServerFiles, lines: pytest.LogCaptureFixture
) -> None:
    before = files.prices.prices

    files.take_over()

    assert files.prices.prices is before
    assert events(lines) == []


def test_a_worker_never_reads_the_files(files: ServerFiles) -> None:
    files.write({M: 1})
    files.hup()
    files.write({M: 5}, MAX_TOKENS="77")

    files.take_over()

    assert files.prices.prices == {M: NEW}


def test_a_worker_that_starts_after_an_edit_has_the_settings_that_were_accepted(files: ServerFiles) -> None:
    files.write({M: 1})
    files.hup()
    files.write({M: 5})
    files.write({M: -1})
    files.hup()

    assert files.fork().settings.model_prices == {M: NEW}
    files.take_over()
    assert files.prices.prices == {M: NEW}, "a refusal keeps the accepted prices"


def test_a_worker_that_will_be_replaced_takes_no_prices_of_other_settings(files: ServerFiles) -> None:
    before = files.prices.prices
    files.write({M: 1}, MAX_TOKENS="77")
    files.hup()
    files.write({M: 2}, MAX_TOKENS="77")
    files.hup()
    assert files.actions == ["restart", "signal"]

    files.take_over()

    assert files.prices.prices is before


def test_a_worker_shows_which_settings_it_has(files: ServerFiles) -> None:
    files.worker.enter(age=7)
    files.write({M: 1})
    files.hup()
    assert [each.number for each in files.accepted.serving()] == [0]
    files.take_over()
    assert [each.number for each in files.accepted.serving()] == [1] == [files.accepted.state().number]
    files.worker.leave()
    assert files.accepted.serving() == []


def test_the_state_has_the_problems_of_the_last_reload(files: ServerFiles) -> None:
    files.write(PORT="x")
    files.hup()
    state = files.worker.state()
    assert (state.reloads, state.number) == (1, 0)
    assert state.problems[0].startswith("PORT ")

    files.write()
    files.hup()
    state = files.worker.state()
    assert (state.reloads, state.number, state.problems) == (2, 1, ())


def test_a_tokenizer_that_has_changed_since_the_reload_is_refused(
    files: ServerFiles, lines: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = small_tokenizer(tmp_path)
    files.write({M: {"input": 1, "output": 1, "tokenizer": str(path)}})
    files.hup()
    path.write_text(path.read_text() + "\n")
    lines.clear()

    files.take_over()

    assert events(lines) == ["new prices refused, the previous ones stay"]
    files.hup()
    files.take_over()
    assert files.prices.prices == files.accepted.settings.model_prices


def test_a_ledger_that_cannot_be_opened_is_refused_and_the_workers_continue(
    files: ServerFiles, lines: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    files.write(LEDGER_URL="sqlite:///nowhere/ledger.db")
    files.hup()
    assert files.actions == []
    (refused,) = [record for record in lines.records if record.message.startswith("reload refused")]
    assert "there is no folder" in refused.problems[0]  # type: ignore[attr-defined] # of the line
    (tmp_path / "nowhere").mkdir()
    files.hup()
    assert files.actions == ["restart"]
