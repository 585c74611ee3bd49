from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.cli.spend import spend
from ridges_proxy.cli.tables import NO_RECEIPTS
from ridges_proxy.ledger import Kind, Run, SqliteLedger
from tests.support.app import ADMIN_KEY, OPERATOR, settings_of
from tests.support.clock import Clock
from tests.support.table import check_rows
from tests.unit.test_cli import answering, assert_fails, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

NOON = 1_795_608_000.0
"""2026-11-25 12:00 UTC."""

CAP_NANOUSD = 2_000_000_000
TTL_SECONDS = 600.0


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteLedger:
    """A ledger that forgot `beta` at noon and `alpha` an hour later, and still has `gamma`."""
    monkeypatch.chdir(tmp_path)
    clock = Clock(NOON - TTL_SECONDS)
    ledger = SqliteLedger(tmp_path / "ledger.db", TTL_SECONDS, 30, clock)
    for run_id, cost, seconds in (("beta", 1_000, 3600), ("alpha", 270, 3600), ("gamma", 5, 0)):
        hold = ledger.reserve(Run(run_id, CAP_NANOUSD), Kind.INFERENCE, cost, cost, 60.0)
        ledger.settle(hold, cost)
        if seconds:
            clock.advance(TTL_SECONDS)
            ledger.sweep(10)
            clock.advance(seconds - TTL_SECONDS)
    return ledger


@pytest.fixture
def url(ledger: SqliteLedger) -> Iterator[str]:
    with serving(create_app(settings_of(), ledger)) as url:
        yield url


def history(url: str, *options: str) -> Result:
    env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
    return CliRunner().invoke(spend, ["history", *options], env=env)


def names(url: str, *options: str) -> list[str]:
    return [receipt["run_id"] for receipt in json.loads(history(url, "--json", *options).stdout)]


def test_the_table_has_the_oldest_receipt_first_and_the_sum(url: str) -> None:
    lines = history(url).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "beta", "alpha", "2"]
    assert "2026-11-25 12:00" in lines[1]
    assert lines[-1] == "2 receipts, $0.00000127 spent"


def test_json_has_all_fields_of_the_server(url: str) -> None:
    (beta, _) = json.loads(history(url, "--json").stdout)
    assert beta == {
        "run_id": "beta",
        "forgotten_at": "2026-11-25T12:00:00.000+00:00",
        "last_active_at": "2026-11-25T11:50:00.000+00:00",
        "used_cost_usd": 1e-06,
        "inference_cost_usd": 1e-06,
        "embedding_cost_usd": 0.0,
        "max_cost_usd": 2.0,
        "calls": 1,
        "closed": False,
        "finished": False,
        "groups": [],
        "ended_by": "idle",
        "first_call_at": "2026-11-25T11:50:00.000+00:00",
        "last_call_at": "2026-11-25T11:50:00.000+00:00",
        "refused": {},
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "costs": [
            {
                "model": "",
                "kind": "inference",
                "calls": 1,
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "cost_usd": 1e-06,
            }
        ],
    }


def test_csv_has_amounts_as_decimals(url: str) -> None:
    rows = list(csv.DictReader(io.StringIO(history(url, "--csv").stdout)))
    assert [(row["run_id"], row["used_cost_usd"], row["calls"]) for row in rows] == [
        ("beta", "0.000001000", "1"),
        ("alpha", "0.000000270", "1"),
    ]


def test_csv_prefixes_a_run_that_a_spreadsheet_would_compute(url: str, ledger: SqliteLedger) -> None:
    names = ['=HYPERLINK("http://evil.example")', "\uff1d1+1", "a;=1+1", "-5", 'alpha,"=1']
    for name in names:
        ledger.close(Run(name, CAP_NANOUSD))
    ledger._clock.advance(TTL_SECONDS)  # type: ignore[attr-defined] # a Clock of the tests
    ledger.sweep(10)
    written = history(url, "--csv").stdout
    rows = {row["run_id"]: row for row in csv.DictReader(io.StringIO(written))}
    expected = {"beta", "alpha", "gamma", f"'{names[0]}", f"'{names[1]}", names[2], f"'{names[3]}", names[4]}
    assert rows.keys() == expected
    assert rows["'-5"]["used_cost_usd"] == "0.000000000"
    assert '\n"a;=1+1",' in written, "a spreadsheet that splits at semicolons keeps it in one cell"


def test_a_receipt_says_whether_the_run_is_finished(url: str, ledger: SqliteLedger) -> None:
    ledger.close(Run("delta", CAP_NANOUSD))
    ledger._clock.advance(TTL_SECONDS)  # type: ignore[attr-defined] # a Clock of the tests
    ledger.sweep(10)
    receipts = {receipt["run_id"]: receipt for receipt in json.loads(history(url, "--json").stdout)}
    assert (receipts["beta"]["finished"], receipts["delta"]["finished"]) == (False, True)
    rows = {row["run_id"]: row for row in csv.DictReader(io.StringIO(history(url, "--csv").stdout))}
    assert (rows["beta"]["finished"], rows["delta"]["finished"]) == ("False", "True")
    table = {line.split()[0]: line for line in history(url).stdout.splitlines()}
    assert table["beta"].rstrip().endswith(" no (idle)")
    assert table["delta"].rstrip().endswith(" yes (closed)")


def test_csv_reads_a_server_that_does_not_say_whether_a_run_is_finished(url: str) -> None:
    """Version 0.2.0 does not. It may still run during an upgrade."""
    (beta, _) = json.loads(history(url, "--json").stdout)
    del beta["finished"]
    with answering(json.dumps({"receipts": [beta], "next": None})) as old:
        written = history(old, "--csv")
        assert history(old).exit_code == 0
    (row,) = csv.DictReader(io.StringIO(written.stdout))
    assert (written.exit_code, row["run_id"], row["closed"], row["finished"]) == (0, "beta", "False", "")


def test_receipts_are_listed_since_a_date(url: str) -> None:
    rows = [
        ("2026-11-25T12:00:00", ["beta", "alpha"]),
        ("2026-11-25T12:00:01+00:00", ["alpha"]),
        ("2026-11-25T12:30:00+02:00", ["beta", "alpha"]),
        ("2026-11-26", []),
        ("1970-01-01T00:00:00+14:00", ["beta", "alpha"]),
        ("900000d", ["beta", "alpha"]),
    ]

    def check(row: tuple[str, list[str]]) -> None:
        since, expected = row
        assert names(url, "--since", since) == expected

    check_rows(rows, check)


def test_an_invalid_time_is_wrong_usage(url: str) -> None:
    check_rows(
        ["yesterday", "7", "d", "2026-13-01", ""],
        lambda text: assert_fails(history(url, "--since", text), 2, "Invalid value for '--since'"),
    )


def test_csv_and_json_at_once_is_wrong_usage(url: str) -> None:
    assert_fails(history(url, "--csv", "--json"), 2, "not both")


def test_all_pages_are_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridges_proxy.cli.history.PAGE_RECEIPTS", 1)
    assert names(url) == ["beta", "alpha"]


def test_without_receipts_it_prints_no_receipts(tmp_path: Path) -> None:
    empty = SqliteLedger(tmp_path / "empty.db", TTL_SECONDS)
    with serving(create_app(settings_of(), empty)) as url:
        assert history(url).stdout == NO_RECEIPTS + "\n"


# --- the route


def test_an_invalid_query_names_the_field(ledger: SqliteLedger) -> None:
    client = create_app(settings_of(), ledger).test_client()
    rows = [
        ("since=x", "since"),
        ("since=-1", "since"),
        ("since=nan", "since"),
        ("mark=x", "mark"),
        ("mark=1:2", "mark"),
        ("mark=", "mark"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1.5", "limit"),
        ("sinc=1", "sinc"),
    ]

    def check(row: tuple[str, str]) -> None:
        query, field = row
        reply = client.get(f"/admin/receipts?{query}", headers=OPERATOR)
        detail: Any = reply.get_json()["detail"]
        assert (reply.status_code, [problem["loc"] for problem in detail]) == (422, [["query", field]])

    check_rows(rows, check)


def test_the_route_needs_the_admin_key(ledger: SqliteLedger) -> None:
    client = create_app(settings_of(), ledger).test_client()
    assert client.get("/admin/receipts").status_code == 401
    assert len(client.get("/admin/receipts", headers=OPERATOR).get_json()["receipts"]) == 2
