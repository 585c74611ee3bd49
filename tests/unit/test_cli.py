from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

from ridges_proxy import create_app
from ridges_proxy.cli import client as admin_client
from ridges_proxy.cli.errors import SpendError
from ridges_proxy.cli.spend import spend
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Hold, Kind, MemoryLedger, Run, RunPage, RunQuery
from tests.support.app import ADMIN_KEY, settings_of
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed.wsgi import WSGIApplication
    from click.testing import Result

BUDGET_NANOUSD = 2_000_000_000
TTL_SECONDS = 1200.0
HOLD_SECONDS = 300.0
ODD_ID = "org/50% [red]off[/red] läuft"
HOSTILE_ID = "\x1b[2J\x9b31m\u202eevil\r[bold]"

COMMANDS = [("list",), ("show", "alpha"), ("top",), ("reset", "alpha", "--yes"), ("sweep",)]


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - werkzeug's signature
        """Write nothing: standard error belongs to the command under test."""


@contextmanager
def serving(app: WSGIApplication) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(body: str, status: int = 200, **headers: str) -> Iterator[str]:
    """Serve the same answer to every request."""
    with serving(Response(body, status, headers)) as url:
        yield url


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, without the settings of a developer."""
    monkeypatch.chdir(tmp_path)
    for name in ("PROXY_URL", "ADMIN_API_KEY", "CHUTES_API_KEY", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> MemoryLedger:
    """A ledger in which alpha has spent, and beta has a call in flight."""
    ledger = MemoryLedger(TTL_SECONDS, clock)
    charge(ledger, "alpha", 1_500_000_000)
    charge(ledger, "alpha", 1, Kind.EMBEDDING)
    clock.advance(192)
    charge(ledger, "beta", 270)
    hold(ledger, "beta", 50_000_000)
    return ledger


@pytest.fixture
def url(ledger: MemoryLedger) -> Iterator[str]:
    with serving(create_app(settings_of(), ledger)) as url:
        yield url


def hold(ledger: MemoryLedger, run_id: str, amount_nanousd: int, kind: Kind = Kind.INFERENCE) -> Hold:
    return ledger.reserve(Run(run_id, BUDGET_NANOUSD), kind, amount_nanousd, amount_nanousd, HOLD_SECONDS)


def charge(ledger: MemoryLedger, run_id: str, cost_nanousd: int, kind: Kind = Kind.INFERENCE) -> None:
    ledger.settle(hold(ledger, run_id, cost_nanousd, kind), cost_nanousd)


def run(url: str, *command: str, answer: str = "", **environ: str) -> Result:
    env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY, **environ}
    return CliRunner().invoke(spend, command, env=env, input=answer)


def printed(url: str, *command: str, **environ: str) -> str:
    """Return the output of a command that succeeds."""
    result = run(url, *command, **environ)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def documented(url: str, *command: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON document of a command. It prints nothing else."""
    text = printed(url, *command, "--json")
    assert text.count("\n") == 1
    return json.loads(text)


def assert_fails(result: Result, status: int, *messages: str) -> None:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status
    assert result.stdout == ""
    for message in messages:
        assert message in result.stderr


def spent_nanousd(ledger: MemoryLedger, run_id: str) -> int:
    usage = ledger.usage(run_id)
    assert usage is not None
    return usage.spent_nanousd


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


# --- output as text


def test_list_shows_the_usage_of_every_run_and_the_position_of_the_page(url: str) -> None:
    lines = [line.split() for line in printed(url, "list").splitlines()]
    assert lines == [
        ["in"],
        ["run", "spent", "held", "remaining", "budget", "calls", "flight", "idle"],
        ["alpha", "$1.5000", "$0.0000", "$0.5000", "$2.0000", "2", "0", "3m12s"],
        ["beta", "$0.000000270", "$0.0500", "$1.9500", "$2.0000", "1", "1", "0s"],
        ["showing", "1-2", "of", "2"],
    ]


def test_list_prints_the_option_for_the_next_page(url: str) -> None:
    assert printed(url, "list", "--limit", "1").splitlines()[-1] == "showing 1-1 of 2 (next: --offset 1)"
    assert printed(url, "list", "--offset", "1").splitlines()[-1] == "showing 2-2 of 2"
    assert printed(url, "list", "--offset", "5") == "no runs from 6 on; 2 in total\n"
    assert printed(url, "list", "--search", "nobody") == "no runs match\n"


def test_numbers_of_runs_have_thousands_separators(url: str, ledger: MemoryLedger) -> None:
    for number in range(1_200):
        charge(ledger, f"run-{number}", 1)
    assert "showing 1-100 of 1,202 (next: --offset 100)" in printed(url, "list")
    assert "showing 1,001-1,100 of 1,202 (next: --offset 1100)" in printed(url, "list", "--offset", "1000")


def test_show_prints_amounts_to_the_nanodollar(url: str) -> None:
    assert [line.split(maxsplit=1) for line in printed(url, "show", "alpha").splitlines()] == [
        ["run", "alpha"],
        ["budget", "$2.00"],
        ["spent", "$1.500000001 (inference $1.50, embedding $0.000000001)"],
        ["held", "$0.00 for 0 calls in flight"],
        ["remaining", "$0.499999999"],
        ["finished", "no"],
        ["calls", "2"],
        ["active", "1970-01-01 00:16:40 to 1970-01-01 00:16:40"],
        ["costs", "$1.50 inference"],
        ["costs", "$0.000000001 embedding"],
        ["idle", "3m12s"],
    ]


def test_show_prints_what_the_run_has_done(url: str) -> None:
    alpha = documented(url, "show", "alpha")
    alpha["costs"][0] |= {"model": "m\x1b[2J", "prompt_tokens": 5_000, "completion_tokens": 70}
    done = {
        "groups": ["miner:1", "eval"],
        "refused": {"run_busy": 1, "budget_exhausted": 1_200},
        "prompt_tokens": 5_000,
        "completion_tokens": 70,
        "first_call_at": None,
        "last_call_at": None,
    }
    done["budgets"] = [
        {
            "budget": "all",
            "scope": "all",
            "period": "lifetime",
            "max_cost_usd": 50,
            "remaining_cost_usd": 0.5,
        },
        {
            "budget": "miner",
            "scope": "group:miner:1",
            "period": "day 2026-11-30",
            "max_cost_usd": 5,
            "remaining_cost_usd": 0,
        },
    ]
    with answering(json.dumps({**alpha, **done})) as other:
        lines = [line.split(maxsplit=1) for line in printed(other, "show", "alpha").splitlines()]
    assert lines[7:] == [
        ["groups", "miner:1 eval"],
        ["tokens", "5,000 in prompts, 70 in completions"],
        ["refused", "1,200 budget_exhausted, 1 run_busy"],
        ["costs", r"$1.50 m\x1b[2J: 5,000 in prompts, 70 in completions"],
        ["costs", "$0.000000001 embedding"],
        ["idle", "3m12s"],
        ["shares", "all, lifetime: $0.50 of $50.00 remaining"],
        ["shares", "miner for group:miner:1, day 2026-11-30: $0.00 of $5.00 remaining"],
    ]


def test_show_reads_a_server_that_does_not_say_whether_a_run_is_finished(url: str) -> None:
    """Version 0.2.0 does not. It may still run during an upgrade."""
    alpha = documented(url, "show", "alpha")
    del alpha["finished"]
    with answering(json.dumps(alpha)) as old:
        assert "finished" not in printed(old, "show", "alpha")
    with answering(json.dumps({**alpha, "finished": "yes"})) as other:
        assert_fails(run(other, "show", "alpha"), 6, "the answer is not from Ridges AI Proxy")


def test_show_says_whether_the_budget_is_used_up(url: str, ledger: MemoryLedger) -> None:
    charge(ledger, "used-up", BUDGET_NANOUSD)
    assert "finished   yes (budget)\n" in printed(url, "show", "used-up")


def test_top_shows_the_biggest_spender_first_with_its_share_as_a_bar(url: str) -> None:
    head, first, second, hint = printed(url, "top").splitlines()
    assert head.split() == ["run", "spent", "budget", "share"]
    assert first.split() == ["alpha", "$1.5000", "$2.0000", "75%", "█" * 9 + "░" * 3]
    assert second.split() == ["beta", "$0.000000270", "$2.0000", "<1%", "▏" + "░" * 11]
    assert hint == "showing 1-2 of 2"


def test_top_shows_the_given_number_of_runs(url: str) -> None:
    assert "beta" not in printed(url, "top", "-n", "1")


def test_a_run_above_its_budget_shows_more_than_100_percent(url: str, ledger: MemoryLedger) -> None:
    ledger.settle(hold(ledger, "over", 1), 3 * BUDGET_NANOUSD)
    assert "300%" in printed(url, "top", "-n", "1")


def test_a_run_without_a_budget_shows_100_percent(url: str, ledger: MemoryLedger) -> None:
    ledger.settle(ledger.reserve(Run("free", 0, own_budget=True), Kind.INFERENCE, 0, 0, HOLD_SECONDS), 0)
    assert "100%" in next(line for line in printed(url, "top").splitlines() if line.startswith("free"))


def test_reset_with_yes_sets_the_spent_amount_to_zero_and_prints_it(url: str, ledger: MemoryLedger) -> None:
    message = printed(url, "reset", "alpha", "--yes")
    assert message == "Reset alpha: $1.500000001 spent in 2 calls is set to zero.\n"
    assert spent_nanousd(ledger, "alpha") == 0


def test_reset_prints_the_amount_that_stays_held(url: str) -> None:
    message = printed(url, "reset", "beta", "--yes")
    assert message.endswith("Still held: $0.05 for 1 call in flight.\n")


def test_reset_says_that_a_closed_run_stays_closed(url: str, ledger: MemoryLedger) -> None:
    ledger.close(Run("alpha", BUDGET_NANOUSD))
    assert printed(url, "reset", "alpha", "--yes").endswith(" is set to zero. The run stays closed.\n")
    assert "finished   yes (closed)\n" in printed(url, "show", "alpha")


def test_reset_asks_for_a_confirmation(url: str, ledger: MemoryLedger) -> None:
    def check(answer: str) -> None:
        run_id = f"asked-{answer.strip()}"
        charge(ledger, run_id, 1_500_000_001)
        result = run(url, "reset", run_id, answer=answer)
        assert result.exit_code == 0
        assert f"Reset {run_id}? This sets $1.500000001 spent in 1 call to zero. [y/N]" in result.stderr
        assert spent_nanousd(ledger, run_id) == 0

    check_rows(["y\n", "yes\n"], check)


def test_reset_does_nothing_without_a_confirmation(url: str, ledger: MemoryLedger) -> None:
    def check(answer: str) -> None:
        result = run(url, "reset", "alpha", answer=answer)
        assert_fails(result, 1, " [y/N]: ", "\nError: Nothing was reset", "--yes")
        assert spent_nanousd(ledger, "alpha") == 1_500_000_001

    check_rows(["n\n", "\n", ""], check)


def test_reset_of_an_unknown_run_does_not_ask(url: str) -> None:
    result = run(url, "reset", "nobody", answer="y\n")
    assert_fails(result, 5, "'nobody'")
    assert "[y/N]" not in result.stderr


def test_sweep_prints_its_result(url: str, clock: Clock) -> None:
    clock.advance(TTL_SECONDS - 192)
    assert re.fullmatch(
        r"Swept in \d+ ms: 1 run forgotten, 1 expired hold charged\.\n", printed(url, "sweep")
    )
    assert re.fullmatch(
        r"Swept in \d+ ms: 0 runs forgotten, 0 expired holds charged\.\n", printed(url, "sweep")
    )


def test_idle_times_show_their_two_largest_units(url: str, clock: Clock) -> None:
    started = clock()

    def check(row: tuple[float, str]) -> None:
        idle_seconds, text = row
        clock.advance(started + idle_seconds - clock())
        assert printed(url, "show", "beta").split()[-1] == text

    check_rows([(59.9, "59s"), (60, "1m00s"), (3_599, "59m59s"), (7_500, "2h05m"), (97_200, "1d03h")], check)


# --- filters


def test_list_shows_the_runs_that_match(url: str) -> None:
    rows: list[tuple[list[str], list[str]]] = [
        ([], ["alpha", "beta"]),
        (["--search", "alp"], ["alpha"]),
        (["--search", "a&limit=1"], []),
        (["--min-spent", "1.500000001"], ["alpha"]),
        (["--in-flight"], ["beta"]),
        (["--idle"], ["alpha"]),
        (["--state", "in_flight"], ["beta"]),
        (["--state", "near"], []),
        (["--state", "closed", "--idle"], []),
        (["--sort", "held"], ["beta", "alpha"]),
        (["--sort", "calls"], ["alpha", "beta"]),
        (["--sort", "idle"], ["beta", "alpha"]),
        (["--sort", "run_id", "--offset", "1"], ["beta"]),
        (["--limit", "1"], ["alpha"]),
    ]

    def check(row: tuple[list[str], list[str]]) -> None:
        options, expected = row
        assert [run["run_id"] for run in documented(url, "list", *options)["runs"]] == expected

    check_rows(rows, check)


def test_list_top_and_watch_show_the_runs_in_a_state(url: str, ledger: MemoryLedger) -> None:
    charge(ledger, "alpha", 100_000_000)
    assert ledger.close(Run("gone", BUDGET_NANOUSD))
    once = {"watch": ("--times", "1")}

    def check(row: tuple[str, str, str]) -> None:
        command, state, expected = row
        page = documented(url, command, *once.get(command, ()), "--state", state)
        assert [run["run_id"] for run in page["runs"]] == [expected]

    found = [("in_flight", "beta"), ("near", "alpha"), ("closed", "gone")]
    check_rows([(command, *row) for command in ("list", "top", "watch") for row in found], check)


# --- output as JSON


def without_detail(run: dict[str, Any]) -> dict[str, Any]:
    """A run without the fields that only the answer for a single run has."""
    detail = {"first_call_at", "last_call_at", "prompt_tokens", "completion_tokens", "costs"}
    return {name: value for name, value in run.items() if name not in detail}


def test_json_is_the_servers_own_for_every_command(url: str) -> None:
    page = documented(url, "list")
    assert (page["total"], page["offset"], page["limit"]) == (2, 0, 100)
    (row, _) = page["runs"]
    alpha = documented(url, "show", "alpha")
    assert without_detail(alpha) == without_detail(row)
    assert (alpha["used_cost_usd"], alpha["idle_seconds"]) == (1.500000001, 192.0)
    assert documented(url, "top", "-n", "1") == {**page, "runs": [row], "limit": 1}
    assert without_detail(documented(url, "reset", "alpha", "--yes")) == without_detail(row)
    assert documented(url, "show", "alpha")["used_cost_usd"] == 0.0
    assert set(documented(url, "sweep")) == {"forgotten_runs", "overdue_holds", "seconds"}


def test_the_question_of_reset_does_not_mix_with_its_json(url: str) -> None:
    result = run(url, "reset", "alpha", "--json", answer="y\n")
    assert json.loads(result.stdout)["run_id"] == "alpha"


def test_a_failure_prints_its_message_on_standard_error_only() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    commands = [(*command, *option) for command in COMMANDS for option in ((), ("--json",))]
    check_rows(commands, lambda command: assert_fails(run(url, *command), 3, "PROXY_URL", url))


# --- unusual run ids


def test_a_run_id_with_slash_percent_and_markup_works_everywhere(url: str, ledger: MemoryLedger) -> None:
    charge(ledger, ODD_ID, 1_900_000_000)
    for command in (("list",), ("top",), ("show", ODD_ID), ("reset", ODD_ID, "--yes")):
        assert ODD_ID in printed(url, *command)
    assert spent_nanousd(ledger, ODD_ID) == 0
    assert documented(url, "show", ODD_ID)["run_id"] == ODD_ID


def test_a_run_id_is_sent_without_changes(url: str, ledger: MemoryLedger) -> None:
    def check(run_id: str) -> None:
        charge(ledger, run_id, 1)
        assert documented(url, "show", run_id)["run_id"] == run_id

    check_rows(["a//b", "a/", "reset", "a/reset", "..", "?a#b", " ", "a%2Fb"], check)


def test_a_run_id_cannot_control_the_terminal(url: str, ledger: MemoryLedger) -> None:
    harmless = r"\x1b[2J\x9b31m\u202eevil\r[bold]"

    def check(terminal: dict[str, str]) -> None:
        charge(ledger, HOSTILE_ID, 1_900_000_000)
        for command in (("list",), ("top",), ("show", HOSTILE_ID), ("reset", HOSTILE_ID, "--yes")):
            text = printed(url, *command, **terminal)
            assert harmless in text
            assert not {"\x9b", "\u202e", "\r"} & set(text)
            assert "\x1b[2J" not in text
        document = printed(url, "list", "--json", **terminal)
        assert document.strip().isprintable()
        assert document.isascii()

    check_rows([{}, {"FORCE_COLOR": "1", "COLUMNS": "200"}], check)


def test_the_question_and_the_errors_escape_a_hostile_run_id(url: str, ledger: MemoryLedger) -> None:
    assert run(url, "show", HOSTILE_ID).stderr.strip().isprintable()
    charge(ledger, HOSTILE_ID, 1)
    question = run(url, "reset", HOSTILE_ID).stderr
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(question)


def test_a_run_id_that_is_not_utf_8_is_sent_and_unknown(url: str) -> None:
    assert_fails(run(url, "show", os.fsdecode(b"a\xff")), 5, r"'a\udcff'")
    assert documented(url, "list", "--search", os.fsdecode(b"a\xff"))["total"] == 0


def test_a_long_run_id_is_whole_in_a_pipe(url: str, ledger: MemoryLedger) -> None:
    long_id = "".join(f"{number:04}" for number in range(64))
    charge(ledger, long_id, 1_900_000_000)
    for command in (("list",), ("top",)):
        assert any(line.startswith(f"{long_id} ") for line in printed(url, *command).splitlines())


def test_a_run_id_outside_the_terminals_encoding_is_escaped(url: str, ledger: MemoryLedger) -> None:
    charge(ledger, "走", 1_900_000_000)
    env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
    result = CliRunner(charset="ascii").invoke(spend, ["top"], env=env)
    assert result.exit_code == 0
    assert r"\u8d70" in result.stdout


# --- exit statuses


def test_the_groups_help_documents_every_exit_status() -> None:
    text = CliRunner().invoke(spend, ["--help"]).stdout
    kinds = SpendError.__subclasses__()
    assert {kind.exit_code for kind in kinds} == {1, 2, 3, 4, 5, 6}
    for status in range(7):
        assert re.search(rf"^ +{status}  \w", text, re.MULTILINE)


def test_a_missing_admin_key_is_status_2(url: str) -> None:
    check_rows(
        COMMANDS,
        lambda command: assert_fails(run(url, *command, ADMIN_API_KEY=""), 2, "ADMIN_API_KEY is not set"),
    )


def test_an_invalid_proxy_url_is_status_2_without_a_traceback() -> None:
    check_rows(
        ["localhost:8000", "ftp://127.0.0.1", "http://user@127.0.0.1"],
        lambda url: assert_fails(run(url, "list"), 2, "The settings have problems", "PROXY_URL must be"),
    )


def test_a_proxy_url_that_cannot_be_used_is_no_traceback() -> None:
    def check(url: str) -> None:
        result = run(url, "list")
        assert result.exit_code in {2, 3}
        assert_fails(result, result.exit_code, "PROXY_URL")

    check_rows(["http://127.0.0.1:port", "http://127.0.0.1:99999", "http://a..b", "http://a b"], check)


def test_wrong_usage_is_status_2_and_sends_nothing() -> None:
    rows = [
        ["list", "--sort", "cost"],
        ["list", "--state", "idle"],
        ["list", "--limit", "0"],
        ["list", "--limit", "1001"],
        ["list", "--offset", "-1"],
        ["list", "--offset", "10001"],
        ["list", "--min-spent", "much"],
        ["list", "--min-spent", "-1"],
        ["top", "-n", "0"],
        ["show"],
        ["show", ""],
        ["reset", ""],
        ["nothing"],
    ]
    url = f"http://127.0.0.1:{closed_port()}"
    check_rows(rows, lambda command: assert_fails(run(url, *command), 2, "Usage: "))


def test_a_wrong_key_is_status_4(url: str, ledger: MemoryLedger) -> None:
    def check(command: tuple[str, ...]) -> None:
        assert_fails(run(url, *command, ADMIN_API_KEY="wrong"), 4, "ADMIN_API_KEY", url)
        assert spent_nanousd(ledger, "alpha") == 1_500_000_001

    check_rows(COMMANDS, check)


def test_an_unknown_run_is_status_5(url: str) -> None:
    for command in (("show", "no/body"), ("reset", "no/body", "--yes")):
        assert_fails(run(url, *command), 5, "'no/body'")


def test_a_server_without_admin_routes_is_status_6_and_explained(ledger: MemoryLedger) -> None:
    messages = "no /admin routes", "ADMIN_API_KEY is not set on the server"
    with serving(create_app(settings_of(ADMIN_API_KEY=""), ledger)) as url:
        check_rows(COMMANDS, lambda command: assert_fails(run(url, *command), 6, *messages))


class _UnavailableLedger(MemoryLedger):
    """A ledger that does not answer."""

    def list(self, _query: RunQuery) -> RunPage:
        raise LedgerUnavailableError


def test_a_503_is_status_6_with_the_servers_message() -> None:
    with serving(create_app(settings_of(), _UnavailableLedger(TTL_SECONDS))) as url:
        assert_fails(run(url, "list"), 6, "503 ledger_unavailable: The ledger is unavailable")


def test_a_refused_query_is_status_6_and_names_the_field(url: str) -> None:
    result = run(url, "list", "--search", "x" * 257)
    assert_fails(result, 6, "422 invalid_request: search: String should have at most 256 characters")


def test_an_answer_from_another_server_is_status_6() -> None:
    rows = [
        ("<html>hello</html>", 200),
        ("", 200),
        ("{}", 200),
        ("[]", 200),
        ("null", 200),
        ("[" * 100_000, 200),
        ('{"runs": [{}], "total": 1, "offset": 0, "limit": 1}', 200),
        ('{"runs": [], "total": -1, "offset": 0, "limit": NaN}', 200),
        ('{"forgotten_runs": 1e999, "overdue_holds": 0, "seconds": 0}', 200),
        ("<html>Not Found</html>", 404),
        ("<html>Bad Gateway</html>", 502),
        ('{"error": "no"}', 500),
        ('{"code": 7}', 403),
    ]

    def check(row: tuple[str, int]) -> None:
        with answering(*row) as url:
            for command in COMMANDS:
                result = run(url, *command)
                assert_fails(result, 6, url, "the answer is not from Ridges AI Proxy")

    check_rows(rows, check)


def test_a_message_of_another_server_cannot_control_the_terminal() -> None:
    body = json.dumps({"code": "x\x1b[2J", "detail": "\x1b[31m\nError: forged"})
    with answering(body, 500) as url:
        assert run(url, "list").stderr.rstrip("\n").isprintable()


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accept one connection and call `serve` with it."""

    def take() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_server_without_http_is_status_6() -> None:
    with raw_server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")) as url:
        assert_fails(run(url, "list"), 6, "the answer is not from Ridges AI Proxy")


def test_a_server_that_hangs_up_is_status_3() -> None:
    with raw_server(lambda _connection: None) as url:
        assert_fails(run(url, "list"), 3, "PROXY_URL", url)


def test_a_server_that_does_not_answer_is_status_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "TIMEOUT_SECONDS", 0.05)
    gone = threading.Event()
    with raw_server(lambda _connection: (gone.wait(), None)[1]) as url:
        result = run(url, "list")
        gone.set()
        assert_fails(result, 3, "timed out")


def test_an_answer_cut_short_is_status_6() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    with raw_server(lambda connection: connection.sendall(head + b'{"runs": [')) as url:
        assert_fails(run(url, "list"), 6, "the answer is not from Ridges AI Proxy")


# --- the key


def test_a_redirect_is_not_followed_with_the_key(url: str) -> None:
    with answering("", 302, Location=f"{url}/admin/runs") as elsewhere:
        assert_fails(run(elsewhere, "list"), 6, "302")


def test_a_proxy_of_the_environment_is_not_used(url: str) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    environ = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), nowhere)
    assert "alpha" in printed(url, "list", **environ, no_proxy="")


def test_a_path_in_proxy_url_is_kept_and_the_key_is_a_bearer_token() -> None:
    requests: list[tuple[str, str, str]] = []

    @Request.application
    def app(request: Request) -> Response:
        raw_path = request.environ["REQUEST_URI"]
        requests.append((request.method, raw_path, request.headers["Authorization"]))
        return Response('{"code": "run_not_found"}', 404)

    with serving(app) as url:
        assert_fails(run(f"{url}/llm/", "reset", ODD_ID, "--yes"), 5)
    path = f"/llm/admin/runs/{quote(ODD_ID, safe='')}/reset"
    assert requests == [("POST", path, f"Bearer {ADMIN_KEY}")]


# --- the command of flask


def flask_spend(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `flask spend …` with PATH and the given environment only."""
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    return subprocess.run(
        ["flask", "spend", *command],
        cwd=folder,
        env={"PATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_flask_spend_needs_no_app_and_no_chutes_key(url: str, empty_folder: Path) -> None:
    done = flask_spend(empty_folder, "list", "--json", PROXY_URL=url, ADMIN_API_KEY=ADMIN_KEY)
    assert (done.returncode, done.stderr) == (0, "")
    assert [run["run_id"] for run in json.loads(done.stdout)["runs"]] == ["alpha", "beta"]


def test_flask_spend_reads_the_folders_env_file(url: str, empty_folder: Path) -> None:
    (empty_folder / ".env").write_text(f"PROXY_URL={url}\nADMIN_API_KEY={ADMIN_KEY}\n")
    done = flask_spend(empty_folder, "show", "alpha")
    assert (done.returncode, done.stderr) == (0, "")
    assert "$1.500000001" in done.stdout
