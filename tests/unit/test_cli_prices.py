from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Price
from ridges_proxy.cli.prices import PricesError, _document, prices
from ridges_proxy.config import DEFAULT_MODEL as M
from ridges_proxy.config import PriceSettings
from ridges_proxy.config.model_prices import read_prices
from tests.support.one_answer import answering, closed_url, http
from tests.support.small_tokenizer import small_tokenizer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from click.testing import Result

HOSTILE = "evil[bold]\\x1b[2J"
"""A model name for MODEL_PRICES. In the upstream's list only ids and numbers are read."""

UPSTREAM_TOO_LOW = "the upstream's price is about a millionth of the configured price"

PRICES = {
    M: 0.27,
    "alias": {"input": 0.27, "output": 1.1, "cached_input": 0.027, "upstream": "org/real"},
    "tiny": 1e-9,
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, without the settings of a developer."""
    monkeypatch.chdir(tmp_path)
    names = [field.metadata["name"] for field in dataclasses.fields(PriceSettings)]
    for name in (*names, "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(
    *command: str, configured: object = PRICES, url: str = "http://127.0.0.1:9", **environ: str
) -> Result:
    env = {"MODEL_PRICES": json.dumps(configured), "CHUTES_BASE_URL": url, **environ}
    return CliRunner().invoke(prices, command, env=env)


def upstream_list(**rates: tuple[Any, ...]) -> bytes:
    """Return the upstream's list of models with the prices of prompt, completion and cached input."""
    names = ("prompt", "completion", "input_cache_read")
    models = [
        {
            "id": model.replace("DEFAULT", M).replace("__", "/"),
            "pricing": dict(zip(names, prices, strict=False)),
        }
        for model, prices in rates.items()
    ]
    return http(json.dumps({"object": "list", "data": models}).encode())


def check(answer: bytes, *options: str, configured: object = PRICES, **environ: str) -> Result:
    with answering(answer) as upstream:
        return run("check", *options, configured=configured, url=f"{upstream.url}/v1", **environ)


def assert_fails(result: Result, status: int, *messages: str) -> None:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status
    for message in messages:
        assert message in result.stderr


# --- show


def test_show_prints_every_price_to_the_nanodollar() -> None:
    result = run("show")

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["model", "input", "output", "cached", "input", "upstream", "new", "messages", "counted", "by"],
        [M, "0.27", "0.27", "-", "-", "bytes"],
        ["alias", "0.27", "1.10", "0.027", "org/real", "bytes"],
        ["tiny", "0.000000001", "0.000000001", "-", "-", "bytes"],
        ["USD", "per", "million", "tokens"],
    ]


def test_show_names_the_tokenizer_of_a_model(tmp_path: Path) -> None:
    path = str(small_tokenizer(tmp_path))
    configured = {M: 0.27, "exact": {"input": 1, "output": 2, "tokenizer": path}}

    shown, document = run("show", configured=configured), run("show", "--json", configured=configured)

    assert [line.split()[-1] for line in shown.stdout.splitlines()[1:3]] == ["bytes", path]
    assert json.loads(document.stdout)["exact"] == configured["exact"]


def test_show_warns_of_a_price_that_seems_to_be_per_token() -> None:
    def check_row(options: tuple[str, ...]) -> None:
        result = run("show", *options, configured=PRICES | {HOSTILE: 0.0000027})

        warnings = result.stderr.splitlines()
        assert [line.partition(": a price in MODEL_PRICES is below 0.001 USD")[0] for line in warnings] == [
            "Warning: tiny",
            f"Warning: {HOSTILE}",
        ]

    check_rows([(), ("--json",)], check_row)


def test_show_needs_no_setting() -> None:
    result = CliRunner().invoke(prices, ["show"])

    assert (result.exit_code, result.stderr) == (0, "")
    assert M in result.stdout


def test_the_json_of_show_is_a_valid_setting() -> None:
    result = run("show", "--json")

    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout)["alias"] == PRICES["alias"]
    assert read_prices(result.stdout) == read_prices(json.dumps(PRICES))


rates = st.integers(0, 10**15)


@given(input_nanousd=rates, output_nanousd=rates, upstream=st.none() | st.just("走 x"))
def test_every_price_is_read_back_from_its_json(
    input_nanousd: int, output_nanousd: int, upstream: str | None
) -> None:
    price = Price(input_nanousd, output_nanousd, input_nanousd // 3, upstream)

    assert read_prices(json.dumps({"m": _document(price)})) == {"m": price}


# --- check


def test_check_of_equal_prices_is_status_0() -> None:
    answer = upstream_list(DEFAULT=(0.27, 0.27), org__real=(0.27, 1.1, 0.027), tiny=(1e-9, 1e-9), more=(9, 9))
    result = check(answer)

    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split(maxsplit=7) for line in result.stdout.splitlines()] == [
        ["upstream's"] * 3,
        ["model", "input", "input", "output", "output", "cached", "cached", "verdict"],
        [M, "0.27", "0.27", "0.27", "0.27", "-", "-", "same"],
        ["alias", "0.27", "0.27", "1.10", "1.10", "0.027", "0.027", "same"],
        ["tiny", *["0.000000001"] * 4, "-", "-", "same"],
        ["USD", "per", "million", "tokens"],
    ]


def test_a_price_below_the_upstreams_is_status_5_and_named() -> None:
    result = check(upstream_list(DEFAULT=(0.28, 0.27), tiny=(0, 0)))

    assert_fails(result, 5, "Prices below the upstream's: 1 of 3")
    verdicts = result.stdout.splitlines()[2:]
    assert verdicts[0].endswith("ours is lower")
    assert verdicts[1].endswith("not offered upstream")


def test_prices_that_differ_in_another_way_are_status_6() -> None:
    rows: list[tuple[dict[str, tuple[Any, ...]], str]] = [
        ({"DEFAULT": (0.26, 0.27)}, "ours is higher"),
        ({"DEFAULT": ("0.27", 0.27)}, "no price given upstream"),
        ({"DEFAULT": ()}, "no price given upstream"),
        ({"other": (0.27, 0.27)}, "not offered upstream"),
        ({}, "not offered upstream"),
    ]

    def check_row(row: tuple[dict[str, tuple[Any, ...]], str]) -> None:
        rates, verdict = row
        result = check(upstream_list(**rates), configured={M: 0.27})
        assert_fails(result, 6, "Prices that differ from the upstream's: 1 of 1")
        assert verdict in result.stdout

    check_rows(rows, check_row)


def test_a_price_per_token_causes_a_warning_on_standard_error() -> None:
    result = check(upstream_list(DEFAULT=(0.27, 0.27)), configured={M: 0.00000027})

    assert_fails(result, 5, f"Warning: {M}: the configured price is about a millionth of the upstream's")
    assert "Warning" not in result.stdout

    result = check(upstream_list(DEFAULT=(2.7e-7, 2.7e-7)), configured={M: 0.27})
    assert_fails(result, 6, f"Warning: {M}: {UPSTREAM_TOO_LOW}")

    result = check(upstream_list(other=(0.27, 0.27)), configured={M: 0.00000027})
    assert_fails(result, 6, f"Warning: {M}: a price in MODEL_PRICES is below 0.001 USD")


def test_json_of_check_has_both_prices_and_the_verdict() -> None:
    with answering(upstream_list(DEFAULT=(0.27, 2.7e-7), tiny=(1, "free"))) as upstream:
        result = run("check", "--json", url=upstream.url)

    assert_fails(result, 5)
    document = json.loads(result.stdout)
    assert document["upstream"] == f"{upstream.url}/models"
    assert document["models"] == [
        {
            "model": M,
            "ours": {"input": 0.27, "output": 0.27},
            "theirs": {"input": 0.27, "output": 2.7e-07, "cached_input": None},
            "verdict": "ours is higher",
            "warning": f"{UPSTREAM_TOO_LOW}: it may be per token",
        },
        {
            "model": "alias",
            "ours": PRICES["alias"],
            "theirs": None,
            "verdict": "not offered upstream",
            "warning": None,
        },
        {
            "model": "tiny",
            "ours": {"input": 1e-9, "output": 1e-9},
            "theirs": {"input": 1.0, "output": None, "cached_input": None},
            "verdict": "ours is lower",
            "warning": None,
        },
    ]


def test_an_upstream_that_does_not_answer_is_status_3() -> None:
    for options in ([], ["--json"]):
        url = closed_url()
        result = run("check", *options, url=url)
        assert_fails(result, 3, f"{url}/models", "cannot be reached")
        assert result.stdout == ""


def test_an_answer_that_is_not_a_list_of_models_is_status_4() -> None:
    rows = [
        (http(b"{}", "401 Unauthorized"), "answered 401"),
        (http(b"", "302 Found", Location="http://127.0.0.1:9/"), "answered 302"),
        (http(b"<html>hello</html>"), "did not answer with a list of models"),
        (http(b'{"data": {}}'), "did not answer with a list of models"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "did not answer with a list of models"),
        (http(b'{"data": ['), "did not answer with a list of models"),
    ]

    def check_row(row: tuple[bytes, str]) -> None:
        answer, message = row
        result = check(answer)
        assert_fails(result, 4, message)
        assert result.stdout == ""

    check_rows(rows, check_row)


# --- both


def test_invalid_settings_are_status_2_and_nothing_is_sent() -> None:
    for command in ("show", "check"):
        assert_fails(run(command, configured={M: -1}), 2, "MODEL_PRICES has a price")
        assert_fails(run(command, configured={"other": 1}), 2, "DEFAULT_MODEL has no price")
        assert_fails(run(command, CHUTES_BASE_URL="chutes.ai"), 2, "CHUTES_BASE_URL must be")
        assert_fails(run(command, "--wrong"), 2, "Usage: ")


def test_settings_of_the_server_are_not_read() -> None:
    assert run("show", CHUTES_API_KEY="", PORT="x", ADMIN_API_KEY="a b").exit_code == 0


def test_a_model_name_cannot_control_the_terminal() -> None:
    configured = {M: 0.27, HOSTILE: {"input": 1, "output": 1, "upstream": "[red]x[/red]"}}
    commands: list[tuple[str, ...]] = [("show",), ("check",), ("show", "--json"), ("check", "--json")]
    terminals: list[dict[str, str]] = [{}, {"FORCE_COLOR": "1", "COLUMNS": "200"}]

    def check_row(row: tuple[tuple[str, ...], dict[str, str]]) -> None:
        command, terminal = row
        with answering(upstream_list(DEFAULT=(0.27, 0.27))) as upstream:
            result = run(*command, configured=configured, url=upstream.url, **terminal)
        assert result.exit_code == (0 if command[0] == "show" else 6)
        text = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
        assert (json.dumps(HOSTILE) if "--json" in command else HOSTILE) in text
        assert text.replace("\n", "").isprintable()

    check_rows([(command, terminal) for command in commands for terminal in terminals], check_row)


def test_a_name_outside_the_terminals_encoding_is_escaped() -> None:
    env = {"MODEL_PRICES": json.dumps({M: 1, "走": 1})}
    result = CliRunner(charset="ascii").invoke(prices, ["show"], env=env)

    assert result.exit_code == 0
    assert r"\u8d70" in result.stdout


def test_the_groups_help_documents_every_exit_status() -> None:
    text = CliRunner().invoke(prices, ["--help"]).stdout

    assert {kind.exit_code for kind in PricesError.__subclasses__()} == {3, 4, 5, 6}
    for status in (0, 2, 3, 4, 5, 6):
        assert re.search(rf"^ +{status}  \w", text, re.MULTILINE)


def flask_prices(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `flask prices …` with PATH and the given environment only."""
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    return subprocess.run(
        ["flask", "prices", *command],
        cwd=folder,
        env={"PATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_flask_prices_needs_no_app_and_no_key_and_reads_the_dotenv_file(empty_folder: Path) -> None:
    (empty_folder / "prices.toml").write_text(f'"{M}" = 0.27\n["a"]\ninput = 1\noutput = 2\n')
    (empty_folder / ".env").write_text("MODEL_PRICES=prices.toml\n")

    done = flask_prices(empty_folder, "show", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {M: {"input": 0.27, "output": 0.27}, "a": {"input": 1.0, "output": 2.0}}


def test_retries_of_a_connection_print_nothing(empty_folder: Path) -> None:
    done = flask_prices(empty_folder, "check", CHUTES_BASE_URL=closed_url())

    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
