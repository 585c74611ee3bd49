"""`ridges-proxy budgets list|show|set|reset`, on a served app."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.billing.budgets import Budget, Budgets
from ridges_proxy.cli.budgets import budgets
from ridges_proxy.ledger import Kind, LevelQuery, MemoryLedger, Run
from ridges_proxy.server.service import EXTENSION
from tests.support.app import ADMIN_KEY, settings_of
from tests.support.table import check_rows
from tests.unit.test_cli import answering, assert_fails, closed_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result
    from flask import Flask

BUDGETS = [
    {"name": "all", "usd": "0.001", "window": "day"},
    {"name": "miner", "usd": 5, "window": "lifetime", "group": "miner:*", "kind": "inference"},
    {"name": "red", "usd": 1, "window": "lifetime", "group": "team:red"},
]
MINER_1 = "group:miner:1 kind:inference"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, without the settings of a developer."""
    monkeypatch.chdir(tmp_path)
    for name in ("PROXY_URL", "ADMIN_API_KEY", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger in which two miners have spent, and one of them has a call in flight."""
    ledger = MemoryLedger(1200.0)
    known = Budgets(settings_of(BUDGETS=json.dumps(BUDGETS)).budgets)
    for group, nanousd in (("miner:1", 700_000), ("miner:2", 200)):
        run = Run("run", 10**9, levels=known.levels_of((group,), None, "inference", time.time()))
        ledger.settle(ledger.reserve(run, Kind.INFERENCE, nanousd, nanousd, 60.0), nanousd)
        if group == "miner:1":
            ledger.reserve(run, Kind.INFERENCE, 90_000, 90_000, 60.0)
    return ledger


@pytest.fixture
def app(ledger: MemoryLedger) -> Flask:
    return create_app(settings_of(BUDGETS=json.dumps(BUDGETS)), ledger)


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with serving(app) as url:
        yield url


def run(url: str, *command: str, answer: str = "", **environ: str) -> Result:
    env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY, **environ}
    return CliRunner().invoke(budgets, command, env=env, input=answer)


def printed(url: str, *command: str) -> list[str]:
    """The lines of a command that succeeds, with single spaces."""
    result = run(url, *command)
    assert (result.exit_code, result.stderr) == (0, "")
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def spent_nanousd(ledger: MemoryLedger) -> dict[str, int]:
    levels = ledger.list_levels(LevelQuery()).levels
    return {usage.level.scope: usage.spent_nanousd for usage in levels}


# --- list and show


def test_list_shows_each_level_and_the_budgets_without_calls(url: str) -> None:
    head, all_, first, second, red, position = printed(url, "list")
    assert head == "budget scope used spent held remaining amount calls resets in"
    assert all_.startswith("all all 70% ████████▍▒░░ ")
    assert " $0.000700 $0.0000900 $0.000210 $0.00100 2 " in all_
    assert first == f"miner {MINER_1} <1% ▏▒{'░' * 10} $0.000700 $0.0000900 $4.9992 $5.0000 1 never"
    assert second.startswith("miner group:miner:2 kind:inference <1% ▏░░")
    assert red == f"red group:team:red 0% {'░' * 12} $0.0000 $0.0000 $1.0000 $1.0000 0 never"
    assert position == "showing levels 1-3 of 3"


def test_list_selects_and_pages(url: str) -> None:
    rows: list[tuple[tuple[str, ...], list[str], str]] = [
        (("--scope", "miner:1"), ["miner"], "showing levels 1-1 of 1"),
        (("--budget", "red"), ["red"], "no levels: no call has drawn on them"),
        (("--limit", "1"), ["all"], "showing levels 1-1 of 3 (next: --offset 1)"),
        (("--limit", "1", "--offset", "2"), ["miner"], "showing levels 3-3 of 3"),
        (("--offset", "7", "--ended"), [], "no levels from 8 on; 3 in total"),
    ]

    def check(row: tuple[tuple[str, ...], list[str], str]) -> None:
        options, names, position = row
        *lines, last = printed(url, "list", *options)
        assert ([line.split()[0] for line in lines[1:]], last) == (names, position)

    check_rows(rows, check)


def test_show_has_the_set_amounts_and_marks_them_in_the_table(url: str) -> None:
    run(url, "set", "miner", "7.5", "--group", "miner:1")
    lines = printed(url, "show", "miner")
    assert lines[:7] == [
        "budget miner",
        "match group:miner:* kind:inference",
        "amount $5.00 in BUDGETS",
        "window lifetime, zone UTC",
        "period lifetime",
        "resets in never",
        f"set $7.50 for {MINER_1}",
    ]
    assert lines[9].endswith("$7.5000 (set) 1 never")
    assert lines[10].endswith("$5.0000 1 never")


def test_a_budget_that_is_gone_is_named_until_its_amounts_are_removed(url: str, app: Flask) -> None:
    run(url, "set", "red", "3")
    app.extensions[EXTENSION].budgets.replace([Budget("all", 10**6, "day")])
    assert printed(url, "list")[-1] == (
        "red is not in BUDGETS any more, but amounts are set for it: ridges-proxy budgets show red"
    )
    assert printed(url, "show", "red")[:2] == [
        "budget red: not in BUDGETS any more",
        "set $3.00 for all its calls",
    ]
    assert printed(url, "set", "red", "--default") == ["The amount of red for all its calls is removed."]
    assert_fails(run(url, "show", "red"), 5, "does not know the budget 'red'")


# --- set and reset


def test_set_says_which_amount_is_in_force(url: str) -> None:
    rows: list[tuple[tuple[str, ...], str]] = [
        (("7.5", "--group", "miner:1"), "miner:1 is $7.50 now, as set."),
        (("3",), "all its calls is $3.00 now, as set."),
        (("0", "--scope", MINER_1), f"{MINER_1} is $0.00 now, as set."),
        (("--default", "--group", "miner:1"), "miner:1 is $3.00 now, as set."),
        (("--default",), "all its calls is $5.00 now, as in BUDGETS."),
    ]
    for options, text in rows:
        assert printed(url, "set", "miner", *options) == [f"The amount of miner for {text}"]


def test_reset_asks_first_and_says_what_is_still_held(url: str, ledger: MemoryLedger) -> None:
    before = spent_nanousd(ledger)
    for answer in ("n\n", ""):
        refused = run(url, "reset", "miner", answer=answer)
        assert_fails(refused, 1, "Nothing was reset", "$0.0007002 spent in 2 levels")
    assert spent_nanousd(ledger) == before

    result = run(url, "reset", "miner", answer="y\n")

    assert result.exit_code == 0
    assert result.stdout == (
        "Reset miner: $0.0007002 spent in 2 levels is set to zero."
        " Still held: $0.00009 for 1 call in flight.\n"
    )
    assert spent_nanousd(ledger) == {**before, MINER_1: 0, "group:miner:2 kind:inference": 0}
    (line,) = printed(url, "reset", "miner", "--yes", "--group", "miner:3")
    assert line == "Nothing to reset: no call has drawn on it in the present period."


def test_json_is_that_of_the_server(url: str, app: Flask) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    for command, path in ((("list", "--scope", "1"), "?scope=1"), (("show", "miner"), "/miner")):
        found = json.loads(run(url, *command, "--json").stdout)
        assert found == app.test_client().get(f"/admin/budgets{path}", headers=headers).get_json()
    after = json.loads(run(url, "set", "red", "2", "--json").stdout)
    assert (after["name"], after["set_amounts"]) == ("red", [{"scope": None, "usd": 2.0}])
    before = json.loads(run(url, "reset", "all", "--json", answer="y\n").stdout)
    assert [level["used_cost_usd"] for level in before["levels"]] == [0.0007002]


# --- failures


def test_each_failure_has_its_exit_status(url: str, ledger: MemoryLedger) -> None:
    rows: list[tuple[tuple[str, ...], int, str]] = [
        (("set", "all"), 2, "--default"),
        (("set", "all", "1", "--default"), 2, "--default"),
        (("set", "all", "x"), 2, "USD"),
        (("set", "all", "1", "--group", "a", "--scope", "b"), 2, "not both"),
        (("show", "a/b"), 2, "the name of a budget"),
        (("show", "nothing"), 5, "does not know the budget 'nothing'"),
        (("set", "nothing", "1"), 5, "does not know the budget 'nothing'"),
        (("reset", "nothing"), 5, "does not know the budget 'nothing'"),
        (("set", "all", "1", "--group", "miner:1"), 6, "invalid_request: group"),
        (("reset", "miner", "--yes", "--scope", "x"), 6, "invalid_request: scope"),
    ]

    def check(row: tuple[tuple[str, ...], int, str]) -> None:
        command, status, message = row
        assert_fails(run(url, *command), status, message)

    check_rows(rows, check)
    for command in (("list",), ("show", "all"), ("set", "all", "1"), ("reset", "all", "--yes")):
        assert_fails(run(url, *command, ADMIN_API_KEY="wrong"), 4, "ADMIN_API_KEY")
        assert_fails(run(url, *command, ADMIN_API_KEY=""), 2, "ADMIN_API_KEY is not set")
        assert_fails(run(f"http://127.0.0.1:{closed_port()}", *command), 3, "PROXY_URL")
        with answering('{"budgets": 5}') as other_server:
            assert_fails(run(other_server, *command), 6, "the answer is not from Ridges AI Proxy")
    assert list(ledger.set_amounts()) == []
