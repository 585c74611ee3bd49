from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.cli.runs import runs
from ridges_proxy.config import DEFAULT_MODEL
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.support.app import ADMIN_KEY, settings_of
from tests.support.table import check_rows
from tests.unit.test_cli import ODD_ID, answering, assert_fails, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from ridges_proxy.auth.token_claims import RunToken

KEY = "the-secret-of-run-tokens-in-tests"
CAP_NANOUSD = 2_000_000_000


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, without the settings of a developer."""
    monkeypatch.chdir(tmp_path)
    for name in ("PROXY_URL", "ADMIN_API_KEY", "CHUTES_API_KEY", "RUN_TOKEN_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger in which `alpha` has spent 270 nano-USD."""
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
    """Return the content of the token that `issue` prints."""
    result = run(url, "issue", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    text = result.stdout
    assert text.count("\n") == 1
    return RunTokens(KEY, None).verify(text.strip())


# --- issue


def test_issue_prints_only_the_token_which_is_valid_for_an_hour(url: str) -> None:
    token = issued(url, "alpha")
    assert (token.run_id, token.budget_nanousd, token.models, token.calls_per_minute) == (
        "alpha",
        None,
        None,
        None,
    )
    assert 3590 <= token.expires_at - time.time() <= 3600


def test_issue_signs_the_limits_of_its_options(url: str) -> None:
    options = ("--budget", "0.000000001", "--model", "a/b", "--model", "c", "--calls-per-minute", "7")
    token = RunTokens(KEY, None).verify(run(url, "issue", ODD_ID, *options).stdout.strip())
    assert (token.run_id, token.budget_nanousd, token.models, token.calls_per_minute) == (
        ODD_ID,
        1,
        frozenset({"a/b", "c"}),
        7,
    )


def test_issue_signs_the_groups_and_what_is_kept_for_the_final_call(url: str) -> None:
    token = issued(url, "alpha", "--group", "miner:a", "--group", "b", "--reserve-final", "0.25")
    assert (token.groups, token.reserve_final_nanousd) == (("miner:a", "b"), 250_000_000)


def test_a_group_or_a_reserve_that_a_token_cannot_have_is_refused_by_its_field(url: str) -> None:
    assert_fails(run(url, "issue", "alpha", "--group", "miner:*"), 6, "names of 1 to 100")
    options = ("--budget", "1", "--reserve-final", "1.0")
    assert_fails(run(url, "issue", "alpha", *options), 6, "reserve_final_usd", "less than budget_usd")


def test_a_duration_is_read_with_its_unit(url: str) -> None:
    def check(row: tuple[str, int]) -> None:
        text, seconds = row
        left = issued(url, "alpha", "--ttl", text).expires_at - time.time()
        assert seconds - 10 <= left <= seconds

    check_rows([("90", 90), ("90s", 90), ("40m", 2400), ("2h", 7200), ("7d", 604_800)], check)


def test_an_invalid_option_is_wrong_usage(url: str) -> None:
    invalid = {
        "--ttl": ["", "0", "0m", "-1m", "1.5h", "8d", "604801", "1w", "m", "1 m", "٣m", "9" * 50],
        "--budget": ["x", "-1", "NaN", "1e30", ""],
        "--reserve-final": ["x", "-1"],
        "--calls-per-minute": ["0", "-1", "1.5", "x", "1000001"],
    }

    def check(row: tuple[str, str]) -> None:
        option, text = row
        expected = ("40m",) if option == "--ttl" else ()
        assert_fails(run(url, "issue", "alpha", option, text), 2, option, *expected)

    check_rows([(option, text) for option, texts in invalid.items() for text in texts], check)


def test_issue_in_json_has_all_limits_of_the_token(url: str) -> None:
    result = run(url, "issue", "alpha", "--budget", "0.5", "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    assert RunTokens(KEY, None).verify(document.pop("token")).run_id == "alpha"
    assert document.pop("expires_at").endswith("+00:00")
    assert document == {
        "run_id": "alpha",
        "budget_usd": 0.5,
        "models": None,
        "calls_per_minute": None,
        "groups": [],
        "reserve_final_usd": 0.0,
        "unpriced_models": [],
    }


def test_issue_warns_of_a_model_without_a_price(url: str) -> None:
    models = (DEFAULT_MODEL, "BAAI/bge-large-en-v1.5", "mistyped", "another")
    options = [option for model in models for option in ("--model", model)]
    for as_json in ((), ("--json",)):
        result = run(url, "issue", "alpha", *options, *as_json)
        assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
        warnings = result.stderr.splitlines()
        assert [line.partition(" for ")[2].partition(", so")[0] for line in warnings] == [
            "another",
            "mistyped",
        ]
    assert json.loads(result.stdout)["unpriced_models"] == ["another", "mistyped"]


def test_issue_reads_a_server_that_does_not_name_models_without_a_price() -> None:
    """Version 0.2.0 does not. It may still run during an upgrade."""
    body = json.dumps({"run_id": "alpha", "token": "text", "expires_at": "2026-11-30T10:00:00+00:00"})
    with answering(body) as old:
        result = run(old, "issue", "alpha", "--model", "mistyped")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "text\n", "")


def test_a_server_without_the_secret_names_the_setting() -> None:
    with serving(create_app(settings_of())) as url:
        assert_fails(run(url, "issue", "alpha"), 6, "tokens_not_minted", "RUN_TOKEN_KEY")


def test_a_token_that_is_too_long_is_refused_with_its_field(url: str) -> None:
    models = [option for number in range(30) for option in ("--model", f"{number}" + "x" * 200)]
    assert_fails(run(url, "issue", "alpha", *models), 6, "invalid_request", "models")


def test_an_empty_run_is_wrong_usage(url: str) -> None:
    assert_fails(run(url, "issue", ""), 2, "must not be empty")


# --- close


def test_close_asks_first_and_prints_the_final_usage(url: str, ledger: MemoryLedger) -> None:
    result = run(url, "close", "alpha", answer="y\n")
    assert result.exit_code == 0
    assert "Close alpha permanently?" in result.stderr
    assert "closed" in result.stdout
    assert "$0.00000027" in result.stdout
    usage = ledger.usage("alpha")
    assert usage
    assert usage.closed


def test_close_without_a_confirmation_closes_nothing(url: str, ledger: MemoryLedger) -> None:
    for answer in ("n\n", "\n", ""):
        assert_fails(run(url, "close", "alpha", answer=answer), 1, "Nothing was closed", "--yes")
        usage = ledger.usage("alpha")
        assert usage
        assert not usage.closed


def test_any_run_can_be_closed_and_closed_again(url: str, ledger: MemoryLedger) -> None:
    def check(run_id: str) -> None:
        for _ in range(2):
            result = run(url, "close", run_id, "--yes", "--json")
            assert result.exit_code == 0
            receipt = json.loads(result.stdout)
            assert (receipt["run_id"], receipt["closed"], receipt["in_flight"]) == (run_id, True, 0)
        usage = ledger.usage(run_id)
        assert usage
        assert usage.closed

    check_rows([ODD_ID, "never seen", "/close", "a/close"], check)


def test_close_warns_of_a_run_that_the_server_does_not_know(url: str, ledger: MemoryLedger) -> None:
    warning = "The server does not know this run"
    assert warning not in run(url, "close", "alpha").stderr
    assert_fails(
        run(url, "close", "mistyped", answer="n\n"), 1, f"{warning}: ", "Close mistyped permanently? "
    )
    assert ledger.usage("mistyped") is None

    result = run(url, "close", "mistyped\x1b", "--yes")
    assert (result.exit_code, result.stderr.startswith(rf"Warning: mistyped\x1b: {warning}")) == (0, True)
    assert run(url, "close", "mistyped\x1b", "--yes").stderr == ""


def test_a_closed_run_gets_no_token(url: str) -> None:
    run(url, "close", "alpha", "--yes")
    assert_fails(run(url, "issue", "alpha"), 6, "run_closed")


# --- failures


def test_each_failure_has_its_exit_status(url: str) -> None:
    for command in (("issue", "alpha"), ("close", "alpha", "--yes")):
        assert_fails(run(url, *command, ADMIN_API_KEY="wrong"), 4, "ADMIN_API_KEY")
        assert_fails(run(url, *command, ADMIN_API_KEY=""), 2, "ADMIN_API_KEY is not set")
        assert_fails(run("http://127.0.0.1:1", *command), 3, "PROXY_URL")
        with answering("{}") as other_server:
            assert_fails(run(other_server, *command), 6, "the answer is not from Ridges AI Proxy")


def test_help_names_the_commands_and_their_exit_statuses() -> None:
    help_text = CliRunner().invoke(runs, ["--help"]).stdout
    for text in ("issue", "close", "1  not confirmed: nothing was closed", "PROXY_URL", "ADMIN_API_KEY"):
        assert text in help_text
