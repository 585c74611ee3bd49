"""Every table of the command line at 80, 60 and 40 columns: lines fit, and no amount is broken."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from werkzeug import Request, Response

from ridges_proxy.cli.main import main
from ridges_proxy.config import DEFAULT_MODEL
from ridges_proxy.ledger import Kind, Run, SqliteLedger
from tests.support.app import ADMIN_KEY, environ_of
from tests.support.booked_calls import Books
from tests.support.table import check_rows, each_row
from tests.unit.test_cli import serving
from tests.unit.test_cli_help import TREE
from tests.unit.test_cli_reconcile import CALLS, SAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

WIDTHS = (80, 60, 40)
UNCOLOURED = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
PIPE_COLUMNS = 4_000

LONG_ID = "".join(f"{number:04}" for number in range(64))
WIDE_ID = "走" * 100
HOSTILE_ID = "[bold]\x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}evil" * 10
SMALL, LARGE = 0.0000007, 1_234.567891234
AT = "2026-11-30T10:00:00+00:00"


def run_of(run_id: str, spent_usd: float, **changed: object) -> dict[str, object]:
    return {
        "run_id": run_id,
        "max_cost_usd": 2 * LARGE,
        "used_cost_usd": spent_usd,
        "held_cost_usd": LARGE / 3,
        "remaining_cost_usd": LARGE,
        "inference_cost_usd": spent_usd,
        "embedding_cost_usd": 0.0,
        "calls": 123_456,
        "in_flight": 12,
        "idle_seconds": 100_000.0,
        "closed": False,
        "finished": False,
        "forgotten_at": AT,
        "last_active_at": AT,
        "groups": ["miner:1", WIDE_ID],
        "first_call_at": AT,
        "last_call_at": AT,
        "prompt_tokens": 10**9,
        "completion_tokens": 10**9,
        "refused": {"budget_exhausted": 1_200},
        "costs": [
            {
                "model": LONG_ID,
                "kind": "inference",
                "calls": 1,
                "prompt_tokens": 1,
                "completion_tokens": 1,
                "cost_usd": spent_usd,
            }
        ],
        "budgets": [
            {"budget": "all", "scope": LONG_ID, "period": "day 2026-11-30", **USED},
        ],
        **changed,
    }


USED = {
    "max_cost_usd": LARGE,
    "used_cost_usd": SMALL,
    "held_cost_usd": SMALL,
    "remaining_cost_usd": LARGE - 2 * SMALL,
}

RUNS = [
    run_of(LONG_ID, LARGE),
    run_of(WIDE_ID, SMALL, closed=True, finished=True),
    run_of(HOSTILE_ID, 2 * LARGE, finished=True),
    run_of("short", 0.0),
]

PAGE = {"offset": 0, "limit": 100}
LEVEL = {"period": "day 2026-11-30", "resets_at": AT, "calls": 123_456, "in_flight": 3, **USED}
BUDGET = {
    "name": "a-budget-with-a-long-name",
    "usd": LARGE,
    "usd_in_force": LARGE,
    "set_amounts": [{"scope": LONG_ID, "usd": LARGE}],
    "window": "day",
    "zone": "America/Argentina/ComodRivadavia",
    "match": f"group:{LONG_ID}",
    "period": "day 2026-11-30",
    "resets_at": AT,
}
LEVELS = {
    **PAGE,
    "levels": [{"budget": BUDGET["name"], "scope": each, **LEVEL} for each in (LONG_ID, WIDE_ID)],
    "total": 2,
}
SESSION = {"id": "0123456789abcdef", "address": "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"}

CALLS_IN_FLIGHT = [
    {
        "run_id": run_id,
        "model": model,
        "kind": "embedding",
        "held_cost_usd": held_usd,
        "started_at": AT,
        "age_seconds": 100_000.0,
        "expires_at": AT,
        "expired": held_usd == SMALL,
    }
    for run_id, model, held_usd in ((LONG_ID, WIDE_ID, SMALL), (HOSTILE_ID, "short", LARGE))
]

ACTIONS = [
    {
        "id": "1",
        "at": AT,
        "actor": "session 0123456789abcdef",
        "address": SESSION["address"],
        "action": "token_issued",
        "subject": subject,
        "detail": {"budget_usd": LARGE, "models": [LONG_ID]},
        "valid_until": AT,
        "request_id": "0" * 32,
    }
    for subject in (LONG_ID, WIDE_ID, HOSTILE_ID)
]

ANSWERS: dict[str, Any] = {
    "/admin/audit": {"entries": ACTIONS, "next": None},
    "/admin/runs": {**PAGE, "runs": RUNS, "total": len(RUNS)},
    "/admin/runs/x": RUNS[0],
    "/admin/runs/x/reset": RUNS[0],
    "/admin/runs/x/close": RUNS[0],
    "/admin/receipts": {"receipts": RUNS, "next": None},
    "/admin/budgets": {**LEVELS, "budgets": [BUDGET]},
    "/admin/budgets/b": {**LEVELS, **BUDGET},
    "/admin/budgets/b/reset": {"budget": "b", **LEVELS},
    "/admin/budgets/b/amount": BUDGET,
    "/admin/sessions": {"sessions": [{**SESSION, "signed_in_at": AT, "expires_at": AT}]},
    "/admin/calls": {"calls": CALLS_IN_FLIGHT, "total": 1_000},
    "/admin/sweep": {"forgotten_runs": 10**6, "overdue_holds": 10**6, "seconds": 1_000},
    "/v1/models": {"object": "list", "data": [{"id": DEFAULT_MODEL, "pricing": {"prompt": 0.27}}]},
}

COMMANDS = [
    "audit",
    "spend list",
    "spend top",
    "spend watch --times 1",
    "spend calls",
    "spend show x",
    "spend reset x --yes",
    "spend history",
    "spend history --by model",
    "spend history --by day",
    "spend history --by group",
    "spend history --by run",
    "spend sweep",
    "runs close x --yes",
    "budgets list",
    "budgets show b",
    f"budgets set b 1 --scope {LONG_ID}",
    "budgets reset b --yes",
    "budgets check",
    "sessions list",
    "prices show",
    "prices check",
    f"ledger reconcile {SAMPLE}",
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands open a ledger that has the calls of a bill."""
    monkeypatch.setattr("ridges_proxy.cli.ledger_store.open_store", lambda _settings: Books(list(CALLS)))
    monkeypatch.setattr("ridges_proxy.cli.ledger_store.disconnecting", nullcontext)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    @Request.application
    def app(request: Request) -> Response:
        return Response(json.dumps(ANSWERS.get(request.path, {})), mimetype="application/json")

    with serving(app) as url:
        yield url


def run(url: str, command: str, **terminal: str) -> Result:
    prices = {
        DEFAULT_MODEL: 0.27,
        LONG_ID: LARGE,
        WIDE_ID: {"input": 1e-9, "output": LARGE, "upstream": LONG_ID},
    }
    budget = {"name": "all", "usd": str(LARGE), "window": "day", "zone": "Asia/Kolkata", "group": "miner:*"}
    settings = environ_of(
        PROXY_URL=url,
        ADMIN_API_KEY=ADMIN_KEY,
        MODEL_PRICES=json.dumps(prices),
        BUDGETS=json.dumps([budget]),
        CHUTES_BASE_URL=f"{url}/v1",
        CHUTES_EMBEDDING_URL=f"{url}/embed",
        LEDGER_URL="sqlite:///ledger.db",
    )
    result = CliRunner().invoke(main, command.split(), env={**settings, **terminal})
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.stdout, result.stderr
    return result


def on_a_terminal(url: str, command: str, columns: int) -> str:
    """Return the output for a terminal of a width, without its colours."""
    text = run(url, command, FORCE_COLOR="1", COLUMNS=str(columns)).stdout
    return UNCOLOURED.sub("", text)


def amounts_in(text: str) -> set[str]:
    return set(re.findall(r"\$[^\s,()]*(?:,\d+)*[^\s,()]*", text))


@pytest.mark.usefixtures("books")
@each_row(("command", "columns"), [(command, width) for command in COMMANDS for width in WIDTHS])
def test_no_line_is_wider_than_the_terminal_and_no_amount_is_broken(
    url: str, command: str, columns: int
) -> None:
    whole = run(url, command).stdout
    narrow = on_a_terminal(url, command, columns)

    assert [line for line in narrow.splitlines() if cell_len(line) > columns] == []
    amounts = amounts_in(narrow)
    assert amounts <= amounts_in(whole)
    if command != "audit":  # its amounts are details, which are left out first
        assert bool(amounts) == bool(amounts_in(whole))


@pytest.mark.usefixtures("books")
@each_row("command", COMMANDS)
def test_a_pipe_and_wide_show_everything_whole(url: str, command: str) -> None:
    whole = run(url, command, COLUMNS="40").stdout

    assert "…" not in whole
    assert "not shown" not in whole
    if "--wide" in run(url, f"{' '.join(command.split()[:2])} --help").stdout:
        assert on_a_terminal(url, f"{command} --wide", 40) == whole


def test_reports_on_this_machine_break_no_line_and_no_amount(url: str, tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", 1200.0)
    amount_nanousd = round(LARGE * 10**9)
    for run_id in (LONG_ID, WIDE_ID):
        call = Run(run_id, amount_nanousd)
        ledger.settle(
            ledger.reserve(call, Kind.INFERENCE, amount_nanousd, amount_nanousd, 60.0), amount_nanousd
        )
    ledger.disconnect()

    def check(row: tuple[str, int]) -> None:
        command, columns = row
        lines = on_a_terminal(url, command, columns).splitlines()
        assert [line for line in lines if cell_len(line) > columns] == []
        if command == "ledger verify":
            assert "$2,469.135782468" in {word for line in lines for word in line.split()}

    check_rows(
        [(command, width) for command in ("ledger check", "ledger verify", "doctor") for width in WIDTHS],
        check,
    )


def test_each_command_with_a_table_is_tested_here() -> None:
    names = {path for path, command in TREE if any(each.name == "console" for each in command.params)}
    assert len(names) > 8
    assert names <= {tuple(command.split()[:2]) for command in COMMANDS}


def test_a_real_terminal_of_80_columns_gets_lines_that_fit(url: str) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = subprocess.run(
        [sys.executable, "-m", "ridges_proxy", "spend", "list"],
        env={"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY, "PYTHONUTF8": "1", "TERM": "xterm"},
        stdout=theirs,
        check=False,
        timeout=60,
    )
    lines = UNCOLOURED.sub("", os.read(ours, 65_536).decode()).splitlines()
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0
    assert lines == on_a_terminal(url, "spend list", 80).splitlines()


def test_columns_are_left_out_in_this_order(url: str) -> None:
    rows = [
        ("spend list", 80, "idle, calls"),
        ("spend list", 60, "idle, calls, held, in flight"),
        ("spend list", 40, "idle, calls, held, in flight, remaining, budget"),
        ("spend watch --times 1", 80, "idle, calls"),
        ("spend top", 80, ""),
        ("spend top", 40, "budget, bar, share"),
        ("budgets list", 80, "calls, held, resets in, remaining"),
        ("spend history", 80, "embedding, inference"),
        ("spend history --by model", 40, "completion tokens, prompt tokens, runs"),
        ("sessions list", 60, "signed in"),
        ("spend calls", 80, ""),
        ("spend calls", 60, "kind"),
        ("spend calls", 40, "kind, model"),
    ]

    def check(row: tuple[str, int, str]) -> None:
        command, columns, expected = row
        text = " ".join(on_a_terminal(url, command, columns).split())
        found = re.search(r"not shown: (.*?)(?= \(--wide\)| showing)", text)
        assert (found[1] if found else "") == expected

    check_rows(rows, check)


def test_an_id_is_shortened_in_the_middle(url: str) -> None:
    lines = on_a_terminal(url, "spend list", 80).splitlines()
    starts = [line.split()[0] for line in lines]
    assert any(re.fullmatch(r"0000\d+…\d+0063", start) for start in starts)
    assert any(re.fullmatch(r"走+…走+", start) for start in starts)
    assert "short" in starts


def test_runs_that_get_no_further_calls_are_marked(url: str) -> None:
    for command in ("list", "top", "watch --times 1"):
        for columns in (PIPE_COLUMNS, *WIDTHS):
            lines = on_a_terminal(url, f"spend {command}", columns).splitlines()
            marks = {line.split()[0][0]: line.split()[-1] for line in lines[1:]}
            assert (marks["走"], marks["["]) == ("closed", "exhausted"), lines
            assert {marks["0"], marks["s"]}.isdisjoint({"closed", "exhausted"}), lines


def test_a_terminal_of_ascii_gets_a_table_in_ascii(url: str) -> None:
    terminal = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY, "FORCE_COLOR": "1", "COLUMNS": "80"}
    result = CliRunner(charset="ascii").invoke(main, ["spend", "top"], env=terminal)
    text = UNCOLOURED.sub("", result.stdout)

    assert result.exit_code == 0
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "\\u8d70..." in text.replace("\\u8d70\\u", "\\u")
    assert "######" in text
    assert "\\u2588" not in text
