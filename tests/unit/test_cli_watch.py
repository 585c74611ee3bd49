from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from rich.console import Console

from ridges_proxy import create_app
from ridges_proxy.cli.client import AdminClient
from ridges_proxy.cli.errors import ServerUnreachableError
from ridges_proxy.cli.live_table import live_page
from ridges_proxy.cli.spend import spend
from ridges_proxy.cli.watch import poll, show_live
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.support.app import ADMIN_KEY, settings_of
from tests.support.ports import free_port
from tests.unit.test_cli import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

BUDGET_NANOUSD = 1_000_000_000


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(1200.0)


@pytest.fixture
def url(ledger: MemoryLedger) -> Iterator[str]:
    with serving(create_app(settings_of(), ledger)) as served:
        yield served


def hold(ledger: MemoryLedger, run: str, amount: int) -> None:
    ledger.reserve(Run(run, BUDGET_NANOUSD, own_budget=True), Kind.INFERENCE, amount, amount, 300.0)


def charge(ledger: MemoryLedger, run: str, amount: int) -> None:
    ledger.settle(
        ledger.reserve(Run(run, BUDGET_NANOUSD, own_budget=True), Kind.INFERENCE, amount, amount, 300.0),
        amount,
    )


def watched(url: str, *arguments: str) -> str:
    environ = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
    result = CliRunner().invoke(spend, ["watch", "--every", "0.2", *arguments], env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def test_each_poll_has_the_current_usage(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "alpha", 1_000_000)
    client = AdminClient(url, ADMIN_KEY)
    pages = poll(client, {}, 1.0, 2, sleep=lambda _: charge(ledger, "alpha", 2_000_000))
    spent = [page["runs"][0]["used_cost_usd"] for page in pages if isinstance(page, dict)]
    assert spent == [0.001, 0.003]


def test_piped_output_is_a_sequence_of_tables(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "alpha", 250_000_000)
    output = watched(url, "--times", "3")
    assert output.count("alpha") == 3
    assert output.count("█" * 5 + "░" * 15) == 3
    assert output.count("showing 1-1 of 1") == 3


def test_json_is_one_line_for_each_poll(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "alpha", 1)
    charge(ledger, "beta", 1)
    lines = watched(url, "--times", "2", "--json", "--search", "bet", "-n", "1").splitlines()
    assert [[run["run_id"] for run in json.loads(line)["runs"]] for line in lines] == [["beta"], ["beta"]]


def test_the_order_can_be_chosen(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "beta", 5)
    charge(ledger, "alpha", 1)
    for order, first in (("spent", "beta"), ("run_id", "alpha")):
        page = json.loads(watched(url, "--times", "1", "--json", "--sort", order))
        assert page["runs"][0]["run_id"] == first


def test_the_first_poll_must_be_answered() -> None:
    client = AdminClient(f"http://127.0.0.1:{free_port()}", ADMIN_KEY)
    with pytest.raises(ServerUnreachableError):
        next(poll(client, {}, 1.0, None))


def test_polling_continues_when_the_server_stops(ledger: MemoryLedger) -> None:
    charge(ledger, "alpha", 1)
    with serving(create_app(settings_of(), ledger)) as url:
        pages = poll(AdminClient(url, ADMIN_KEY), {}, 1.0, 3, sleep=lambda _: None)
        first = next(pages)
        assert isinstance(first, dict)
    assert [type(page) for page in pages] == [ServerUnreachableError, ServerUnreachableError]


def test_the_last_table_stays_while_the_server_is_away(
    capsys: pytest.CaptureFixture[str], ledger: MemoryLedger
) -> None:
    charge(ledger, "alpha", 1)
    with serving(create_app(settings_of(), ledger)) as url:
        page = AdminClient(url, ADMIN_KEY).runs({})
    show_live(iter([page, ServerUnreachableError("No answer")]))
    output = capsys.readouterr().out
    assert output.count("alpha") == 2
    assert output.rstrip().endswith("No answer")


def test_a_run_id_cannot_control_the_terminal(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "\x1b[2J[red]evil", 1)
    page = AdminClient(url, ADMIN_KEY).runs({})
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(live_page(page))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[2J" not in console.file.getvalue()
    assert "[red]evil" in console.file.getvalue()
