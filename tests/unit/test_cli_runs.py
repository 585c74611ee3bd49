from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.cli.runs import runs
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.support.app import ADMIN_KEY, settings_of
from tests.unit.test_cli import ODD_ID, answering, assert_fails, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from ridges_proxy.auth.run_tokens import RunToken

KEY = "the-secret-of-run-tokens-in-tests"
CAP_NANOUSD = 2_000_000_000


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from a developer's own settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("PROXY_URL", "ADMIN_API_KEY", "CHUTES_API_KEY", "RUN_TOKEN_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def ledger() -> MemoryLedger:
    """`alpha` has spent a little."""
    ledger = MemoryLedger(1200.0)
    run = Run("alpha", CAP_NANOUSD)
    ledger.settle(ledger.reserve(run, Kind.INFERENCE, 270, 270, 60.0), 270)
    return ledger


@pytest.fixture
def url(ledger: MemoryLedger) -> Iterator[str]:
    with serving(create_app(settings_of(RUN_TOKEN_KEY=KEY), ledger)) as url:
        yield url


def run(url: str, *command: str, answer: str = "", **environ: str) -> Result:
    env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY, **environ}
    return CliRunner().invoke(runs, command, env=env, input=answer)


def issued(url: str, *options: str) -> RunToken:
    """What the token allows that a command prints."""
    result = run(url, "issue", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    text = result.stdout
    assert text.count("\n") == 1
    return RunTokens(KEY, None).verify(text.strip())


# --- issue


def test_issue_prints_the_token_alone_and_it_is_good_for_an_hour(url: str) -> None:
    token = issued(url, "alpha")
    assert (token.run_id, token.budget_nanousd, token.models, token.calls_per_minute) == (
        "alpha",
        None,
        None,
        None,
    )
    assert 3590 <= token.expires_at - time.time() <= 3600


def test_issue_signs_what_its_options_say(url: str) -> None:
    options = ("--budget", "0.000000001", "--model", "a/b", "--model", "c", "--calls-per-minute", "7")
    token = issued(url, ODD_ID, *options)
    assert (token.run_id, token.budget_nanousd, token.models, token.calls_per_minute) == (
        ODD_ID,
        1,
        frozenset({"a/b", "c"}),
        7,
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("40m", 2400), ("2h", 7200), ("7d", 604_800)]
)
def test_a_time_is_read_with_its_unit(url: str, text: str, seconds: int) -> None:
    left = issued(url, "alpha", "--ttl", text).expires_at - time.time()
    assert seconds - 10 <= left <= seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "-1m", "1.5h", "8d", "604801", "1w", "m", "1 m", "٣m", "9" * 50]
)
def test_another_time_is_wrong_usage(url: str, text: str) -> None:
    assert_fails(run(url, "issue", "alpha", "--ttl", text), 2, "--ttl", "40m")


@pytest.mark.parametrize("text", ["x", "-1", "NaN", "1e30", ""])
def test_another_amount_is_wrong_usage(url: str, text: str) -> None:
    assert_fails(run(url, "issue", "alpha", "--budget", text), 2, "--budget")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "1000001"])
def test_another_pace_is_wrong_usage(url: str, text: str) -> None:
    assert_fails(run(url, "issue", "alpha", "--calls-per-minute", text), 2, "--calls-per-minute")


def test_issue_in_json_tells_all_that_the_token_allows(url: str) -> None:
    result = run(url, "issue", "alpha", "--budget", "0.5", "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    assert RunTokens(KEY, None).verify(document.pop("token")).run_id == "alpha"
    assert document.pop("expires_at").endswith("+00:00")
    assert document == {"run_id": "alpha", "budget_usd": 0.5, "models": None, "calls_per_minute": None}


def test_a_server_without_the_secret_says_what_to_set() -> None:
    with serving(create_app(settings_of())) as url:
        assert_fails(run(url, "issue", "alpha"), 6, "tokens_not_minted", "RUN_TOKEN_KEY")


def test_a_token_too_long_is_refused_with_its_field(url: str) -> None:
    models = [option for number in range(30) for option in ("--model", f"{number}" + "x" * 200)]
    assert_fails(run(url, "issue", "alpha", *models), 6, "invalid_request", "models")


def test_an_empty_run_is_wrong_usage(url: str) -> None:
    assert_fails(run(url, "issue", ""), 2, "must not be empty")


# --- close


def test_close_asks_first_and_prints_the_receipt(url: str, ledger: MemoryLedger) -> None:
    result = run(url, "close", "alpha", answer="y\n")
    assert result.exit_code == 0
    assert "Close alpha permanently?" in result.stderr
    assert "closed" in result.stdout
    assert "$0.00000027" in result.stdout
    books = ledger.usage("alpha")
    assert books
    assert books.closed


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_close_without_a_yes_closes_nothing(url: str, ledger: MemoryLedger, answer: str) -> None:
    assert_fails(run(url, "close", "alpha", answer=answer), 1, "Nothing was closed", "--yes")
    books = ledger.usage("alpha")
    assert books
    assert not books.closed


@pytest.mark.parametrize("run_id", [ODD_ID, "never seen", "/close", "a/close"])
def test_any_run_can_be_closed_once_and_again(url: str, ledger: MemoryLedger, run_id: str) -> None:
    for _ in range(2):
        result = run(url, "close", run_id, "--yes", "--json")
        assert (result.exit_code, result.stderr) == (0, "")
        receipt = json.loads(result.stdout)
        assert (receipt["run_id"], receipt["closed"], receipt["in_flight"]) == (run_id, True, 0)
    books = ledger.usage(run_id)
    assert books
    assert books.closed


def test_a_closed_run_gets_no_token(url: str) -> None:
    run(url, "close", "alpha", "--yes")
    assert_fails(run(url, "issue", "alpha"), 6, "run_closed")


# --- what fails


@pytest.mark.parametrize("command", [("issue", "alpha"), ("close", "alpha", "--yes")])
def test_what_goes_wrong_has_its_exit_status(url: str, command: tuple[str, ...]) -> None:
    assert_fails(run(url, *command, ADMIN_API_KEY="wrong"), 4, "ADMIN_API_KEY")
    assert_fails(run(url, *command, ADMIN_API_KEY=""), 2, "ADMIN_API_KEY is not set")
    assert_fails(run("http://127.0.0.1:1", *command), 3, "PROXY_URL")
    with answering("{}") as stranger:
        assert_fails(run(stranger, *command), 6, "the answer is not from Ridges AI Proxy")


def test_help_names_the_commands_and_their_exit_statuses() -> None:
    help_text = CliRunner().invoke(runs, ["--help"]).stdout
    for words in ("issue", "close", "1  not confirmed: nothing was closed", "PROXY_URL", "ADMIN_API_KEY"):
        assert words in help_text
