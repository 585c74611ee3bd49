"""`ridges-proxy ledger reconcile`, with the example of docs/operating/reconcile.md."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ridges_proxy.cli.ledger import ledger
from ridges_proxy.ledger.models import BookedCall, Kind
from tests.support.booked_calls import Books, seconds
from tests.unit.test_cli import assert_fails

if TYPE_CHECKING:
    from click.testing import Result

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operating" / "reconcile.md").read_text(encoding="utf-8")
SAMPLE = DOCS / "samples" / "bill.csv"

GPT, DEEPSEEK = "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-V3.1"


def call(at: str, model: str, tokens: tuple[int, int], cost_nanousd: int, answer_id: str = "") -> BookedCall:
    return BookedCall(
        seconds(at), "run-7", "hold", model, Kind.INFERENCE, *tokens, cost_nanousd, answer_id, "inv"
    )


CALLS = [
    call("10:00:06", GPT, (1200, 300), 126_000, "chatcmpl-8c1d"),
    call("10:00:12", GPT, (2500, 410), 207_000, "chatcmpl-91aa"),
    call("10:01:40", DEEPSEEK, (8000, 950), 3_540_000, "chatcmpl-a3f0"),
    call("10:02:47", DEEPSEEK, (5000, 100), 1_450_000),
    call("10:04:00", GPT, (700, 20), 43_000, "chatcmpl-c0de"),
]
"""The books of the page's example."""


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[BookedCall]:
    """The calls of the ledger: a test may change them."""
    calls = list(CALLS)
    monkeypatch.setattr("ridges_proxy.cli.ledger_store.open_store", lambda _settings: Books(calls))
    monkeypatch.setattr("ridges_proxy.cli.ledger_store.disconnecting", nullcontext)
    return calls


def reconcile(file: Path, *options: str) -> Result:
    environment = {"LEDGER_URL": "sqlite:///ledger.db"}
    return CliRunner().invoke(ledger, ["reconcile", str(file), *options], env=environment)


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def test_the_example_of_the_page_prints_what_the_page_says() -> None:
    (sample,) = re.findall(r"^```csv\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (output,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    result = reconcile(SAMPLE)
    assert sample == SAMPLE.read_text(encoding="utf-8")
    assert lines_of(output) == [*lines_of(result.stdout), result.stderr.strip()]
    assert result.exit_code == 1


def test_the_command_for_a_month_compares_its_days(tmp_path: Path) -> None:
    (command,) = re.findall(r"^```sh\nridges-proxy ledger reconcile bill.csv (.*)\n```$", PAGE, re.MULTILINE)
    bill = tmp_path / "bill.csv"
    bill.write_text(SAMPLE.read_text(encoding="utf-8"))
    result = reconcile(bill, *command.split())
    assert result.stdout == reconcile(SAMPLE).stdout
    assert result.exit_code == 1


def test_all_matched_is_status_0(calls: list[BookedCall]) -> None:
    calls[1:2] = [call("10:00:12", GPT, (2500, 410), 204_500, "chatcmpl-91aa")]
    calls[4:] = [call("10:03:00", GPT, (900, 50), 55_000, "chatcmpl-b777")]
    result = reconcile(SAMPLE)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].split() == ["total", "5", "0", "0", "0", "$0.0053755", "$0.0053755"]


def test_json_has_exact_amounts_and_the_lists() -> None:
    result = reconcile(SAMPLE, "--json", "--list", "1")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["total"] == {
        "matched": 3,
        "differing": 1,
        "missing_in_books": 1,
        "missing_in_bill": 1,
        "billed_usd": "0.0053755",
        "booked_usd": "0.005366000",
        "missing_in_books_usd": "0.000055",
        "missing_in_bill_usd": "0.000043000",
    }
    assert document["models"].keys() == {GPT, DEEPSEEK}
    (difference,) = document["differing"]
    assert (difference["amount"], difference["tokens"]) == (True, False)
    assert (difference["billed"]["line"], difference["billed"]["amount_usd"]) == (3, "0.0002045")
    (missing,) = document["missing_in_books"]
    assert (missing["id"], missing["time"]) == ("chatcmpl-b777", "2026-11-30T10:03:00+00:00")
    (call_left,) = document["missing_in_bill"]
    assert (call_left["run_id"], call_left["cost_usd"]) == ("run-7", "0.000043000")


def test_only_calls_of_a_span_count_and_a_list_has_a_limit() -> None:
    later = json.loads(reconcile(SAMPLE, "--json", "--since", "2026-11-30T10:02:50").stdout)["total"]
    assert [later[name] for name in ("matched", "differing", "missing_in_books", "missing_in_bill")] == [
        0,
        0,
        1,
        1,
    ]
    earlier = json.loads(reconcile(SAMPLE, "--json", "--until", "2026-11-30T10:02:50").stdout)["total"]
    assert [earlier[name] for name in ("matched", "differing", "missing_in_books", "missing_in_bill")] == [
        3,
        1,
        0,
        0,
    ]
    assert "differing:\n  and 1 more (--list)\n" in reconcile(SAMPLE, "--list", "0").stdout


def test_a_smaller_tolerance_pairs_fewer_calls_by_their_time() -> None:
    assert json.loads(reconcile(SAMPLE, "--json", "--tolerance", "7").stdout)["total"]["matched"] == 3
    assert json.loads(reconcile(SAMPLE, "--json", "--tolerance", "6.9").stdout)["total"]["matched"] == 2


def test_a_bill_with_ids_that_the_books_never_have_says_so(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("id,model,tokens,amount\n17,m,1,1\n")
    assert "No id of the bill is in the books" in reconcile(tmp_path / "b.csv").stderr


def test_a_bill_with_faults_is_status_2_with_all_of_them(tmp_path: Path) -> None:
    bill = tmp_path / "b.csv"
    bill.write_text("id,model,tokens,amount\n1,m,x,1\n2,m\x1b[2J,1,y\n")
    assert_fails(reconcile(bill), 2, "line 2, column tokens: must be", "line 3, column amount: must be")
    bill.write_text("id,mod\x1b[2Jel\n")
    assert_fails(reconcile(bill), 2, "needs a column model")
    bill.write_bytes("id,model".encode("utf-16"))
    assert_fails(reconcile(bill), 2, "is not a text in UTF-8")
    assert_fails(reconcile(tmp_path / "none.csv"), 2, "does not exist")
    empty = reconcile(SAMPLE, "--since", "2026-12-01", "--until", "2026-12-01")
    assert_fails(empty, 2, "--until must be after --since")


def test_a_ledger_that_keeps_no_calls_is_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridges_proxy.cli.ledger_store.open_store", lambda _settings: Books([]))
    assert_fails(reconcile(SAMPLE), 2, "keeps no single calls", "RECEIPT_CALLS=1")
