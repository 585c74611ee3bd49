"""What SIGHUP decides; that it reaches a running server is shown in tests/process/test_reload.py."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.prices import Price
from ridges_proxy.config import DEFAULT_MODEL as M
from ridges_proxy.config import Settings, load_settings
from ridges_proxy.server.reload import Reload, changed_models, take_over_prices
from tests.support.app import environ_of

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = Price(270_000_000, 270_000_000), Price(1_000_000_000, 1_000_000_000)


class Host:
    """A folder's `.env` and a price file, read by a master and a worker that note what is asked of them."""

    def __init__(self, folder: Path) -> None:
        self.done: list[str] = []
        self._folder = folder
        self.write()
        running = load_settings(Settings, self._environ())
        self._started_with = running
        self.prices = PriceList(running.model_prices)
        self.hup = Reload(running, lambda: self.done.append("restart"), lambda: self.done.append("tell"))

    def write(self, prices: object = None, **settings: str) -> None:
        """Write both files anew."""
        self._path = self._folder / "prices.json"
        self._path.write_text(json.dumps(prices or {M: 0.27, "gone": 1, "kept": 2}))
        self._settings = settings
        lines = [f"{name}={value}\n" for name, value in self._environ().items()]
        (self._folder / ".env").write_text("".join(lines))

    def take_over(self) -> None:
        take_over_prices(self._started_with, self.prices)

    def _environ(self) -> dict[str, str]:
        return environ_of(MODEL_PRICES=str(self._path), **self._settings)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    for field in dataclasses.fields(Settings):
        monkeypatch.delenv(field.metadata["name"], raising=False)
    monkeypatch.chdir(tmp_path)
    return Host(tmp_path)


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logging.getLogger("ridges_proxy").propagate = True
    caplog.set_level(logging.INFO)
    return caplog


def events(lines: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in lines.records]


# --- the master


def test_changed_prices_alone_are_told_to_the_workers(host: Host, lines: pytest.LogCaptureFixture) -> None:
    host.write({M: 1, "kept": 2, "come": 3})

    host.hup()

    assert host.done == ["tell"]
    (line,) = lines.records
    assert line.message == "prices reloaded"
    assert line.__dict__["models"] == 3
    assert line.__dict__["changed"] == [M, "gone", "come"]


@pytest.mark.parametrize(
    ("prices", "settings"),
    [
        (None, {}),
        (None, {"MAX_TOKENS": "77"}),
        ({M: 1}, {"MAX_TOKENS": "77"}),
        ({"kept": 2, "gone": 1, M: 0.27}, {}),
        ({M: 0.27, "kept": 1}, {"DEFAULT_MODEL": "kept"}),
    ],
    ids=["nothing", "another setting", "both", "the order alone", "the default model too"],
)
def test_anything_else_or_nothing_replaces_the_workers(
    host: Host, prices: object, settings: dict[str, str]
) -> None:
    host.write(prices, **settings)

    host.hup()

    assert host.done == ["restart"]


@pytest.mark.parametrize(
    "prices", [{M: -1}, {M: {"input": 1, "output": 1, "cached_input": 2}}, {"other": 1}, [1]]
)
def test_bad_prices_are_refused_and_nobody_is_told(
    host: Host, prices: object, lines: pytest.LogCaptureFixture
) -> None:
    host.write(prices)

    host.hup()

    assert host.done == []
    assert events(lines) == ["reload refused, the old settings stay"]


def test_a_later_reload_compares_with_what_runs_now(host: Host) -> None:
    host.write({M: 1})
    host.hup()
    host.hup()
    assert host.done == ["tell", "restart"], "the second finds nothing changed"

    host.write({M: 1}, MAX_TOKENS="77")
    host.hup()
    host.write({M: 2}, MAX_TOKENS="77")
    host.hup()
    host.write({M: 2})
    host.hup()
    assert host.done[2:] == ["restart", "tell", "restart"]


def test_a_refused_reload_changes_nothing_of_what_is_compared_with(host: Host) -> None:
    host.write({M: -1}, MAX_TOKENS="77")
    host.hup()
    host.write({M: 1})
    host.hup()

    assert host.done == ["tell"]


def test_another_upstream_or_cached_rate_is_another_price() -> None:
    assert changed_models(
        {"a": Price(1, 1), "b": Price(1, 1), "c": Price(1, 1)},
        {"a": Price(1, 1, None, "x"), "b": Price(1, 1, 0), "c": Price(1, 1)},
    ) == ["a", "b"]


# --- a worker


def test_a_worker_takes_over_changed_prices(host: Host, lines: pytest.LogCaptureFixture) -> None:
    host.write({M: 1})

    host.take_over()

    assert host.prices.prices == {M: NEW}
    assert events(lines) == ["prices in force"]


def test_a_worker_takes_over_prices_time_after_time(host: Host) -> None:
    for rate in (1, 2, 0.27):
        host.write({M: rate})
        host.take_over()

    assert host.prices.prices == {M: OLD}


def test_a_worker_with_nothing_to_take_over_says_nothing(host: Host, lines: pytest.LogCaptureFixture) -> None:
    before = host.prices.prices

    host.take_over()

    assert host.prices.prices is before
    assert events(lines) == []


@pytest.mark.parametrize(
    ("prices", "settings"),
    [
        ({M: -1}, {}),
        ({"other": 1}, {}),
        ({M: 1}, {"MAX_TOKENS": "77"}),
        ({"other": 1}, {"DEFAULT_MODEL": "other"}),
    ],
)
def test_a_worker_keeps_its_prices_when_the_files_have_changed_once_more(
    host: Host, prices: object, settings: dict[str, str], lines: pytest.LogCaptureFixture
) -> None:
    before = host.prices.prices
    host.write(prices, **settings)

    host.take_over()

    assert host.prices.prices is before
    assert events(lines) == ["the old prices stay"]


def test_a_ledger_that_does_not_open_is_refused_and_the_workers_go_on(
    host: Host, lines: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    host.write(LEDGER_URL="sqlite:///nowhere/ledger.db")
    host.hup()
    assert host.done == []
    (refused,) = [record for record in lines.records if record.message.startswith("reload refused")]
    assert "there is no folder" in refused.problems[0]  # type: ignore[attr-defined] # of the line
    (tmp_path / "nowhere").mkdir()
    host.hup()
    assert host.done == ["restart"]
