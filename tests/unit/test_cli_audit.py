from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.cli import audit as audit_module
from ridges_proxy.cli.audit import audit
from ridges_proxy.ledger import Action, AuditEntry
from ridges_proxy.server.service import EXTENSION
from tests.support.app import ADMIN_KEY, settings_of
from tests.support.table import check_rows
from tests.unit.test_cli import assert_fails, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    Run = Callable[..., Result]

NOON = 1_795_608_000.0
"""2026-11-25 12:00 UTC."""

ENTRIES: list[dict[str, Any]] = [
    {"action": Action.SIGN_IN, "subject": "0f", "valid_until": NOON + 43_200},
    {"action": Action.RUN_RESET, "subject": "run-1", "detail": {"spent_usd": 0.25, "calls": 3}},
    {
        "action": Action.TOKEN_ISSUED,
        "subject": "=run\x1b[2J",
        "detail": {"budget_usd": None, "models": ["a", "b"], "groups": []},
        "valid_until": NOON + 3_600,
    },
    {"action": "of a later version"},
]


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs the command for a server with four entries, one a minute."""
    app = create_app(settings_of())
    for number, fields in enumerate(ENTRIES):
        entry = AuditEntry(f"{number:032x}", NOON + 60 * number, "admin key", "203.0.113.9", **fields)
        app.extensions[EXTENSION].ledger.record_action(entry)
    with serving(app) as url:
        env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
        yield lambda *arguments: CliRunner().invoke(audit, arguments, env=env)


def test_the_table_has_the_newest_action_first(run: Run) -> None:
    head, *rows, summary = run().stdout.splitlines()
    assert head.split() == ["when", "action", "about", "operator", "address", "detail"]
    assert [row[:16] for row in rows] == [f"2026-11-25 12:0{minute}" for minute in (3, 2, 1, 0)]
    assert r"=run\x1b[2J" in rows[1], "nothing that the terminal interprets"
    assert rows[1].endswith(" admin key 203.0.113.9 models a, b; until 2026-11-25 13:00")
    assert rows[2].endswith(" run-1       admin key 203.0.113.9 spent $0.25; calls 3")
    assert summary == "4 actions"


def test_no_line_is_wider_than_a_terminal_of_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    lines = run().stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("run-1" in line for line in lines)


def test_actions_are_filtered_and_read_page_by_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "PAGE_ENTRIES", 1)

    def check(row: tuple[list[str], list[int]]) -> None:
        options, numbers = row
        found = json.loads(run("--json", *options).stdout)
        assert [int(entry["id"], 16) for entry in found] == numbers

    rows: list[tuple[list[str], list[int]]] = [
        ([], [3, 2, 1, 0]),
        (["--action", "run_reset"], [1]),
        (["--subject", "run"], [2, 1]),
        (["--since", "2026-11-25T12:02"], [3, 2]),
        (["--limit", "3"], [3, 2, 1]),
    ]
    check_rows(rows, check)
    assert run("--limit", "2").stdout.splitlines()[-1] == "2 actions; there are more (--limit)"
    assert run("--subject", "none").stdout == "no actions\n"


def test_csv_has_no_formula(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("--csv").stdout, newline="")))
    assert [row["subject"] for row in rows] == ["", "'=run\x1b[2J", "run-1", "0f"]
    assert json.loads(rows[2]["detail"]) == {"spent_usd": 0.25, "calls": 3}
    assert rows[2]["valid_until"] == ""


def test_wrong_usage(run: Run) -> None:
    rows = [
        (("--csv", "--json"), "not both"),
        (("--action", "x"), "Invalid value for '--action'"),
        (("--since", "x"), "Invalid value for '--since'"),
        (("--limit", "0"), "Invalid value for '--limit'"),
    ]
    check_rows(rows, lambda row: assert_fails(run(*row[0]), 2, row[1]))
