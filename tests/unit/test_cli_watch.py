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
from ridges_proxy.cli.live_table import BAR_COLUMNS, bar, live_page
from ridges_proxy.cli.spend import spend
from ridges_proxy.cli.watch import poll, show_live
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from ridges_proxy.web.run_json import run_json
from tests.support.app import ADMIN_KEY, settings_of
from tests.support.ports import free_port
from tests.unit.test_cli import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

CAP = 1_000_000_000


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(1200.0)


@pytest.fixture
def url(ledger: MemoryLedger) -> Iterator[str]:
    with serving(create_app(settings_of(), ledger)) as served:
        yield served


def hold(ledger: MemoryLedger, run: str, amount: int) -> None:
    ledger.reserve(Run(run, CAP), Kind.INFERENCE, amount, amount, 300.0)


def charge(ledger: MemoryLedger, run: str, amount: int) -> None:
    ledger.settle(ledger.reserve(Run(run, CAP), Kind.INFERENCE, amount, amount, 300.0), amount)


def watched(url: str, *arguments: str) -> str:
    environ = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
    result = CliRunner().invoke(spend, ["watch", "--every", "0.2", *arguments], env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def test_each_look_shows_the_runs_as_they_are_then(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "alpha", 1_000_000)
    client = AdminClient(url, ADMIN_KEY)
    found = poll(client, {}, 1.0, 2, sleep=lambda _: charge(ledger, "alpha", 2_000_000))
    spent = [page["runs"][0]["used_cost_usd"] for page in found if isinstance(page, dict)]
    assert spent == [0.001, 0.003]


def test_what_is_piped_is_one_table_after_the_other(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "alpha", 250_000_000)
    output = watched(url, "--times", "3")
    assert output.count("alpha") == 3
    assert output.count("█" * 5 + "░" * 15) == 3
    assert output.count("showing 1-1 of 1") == 3


def test_as_json_each_look_is_a_line(ledger: MemoryLedger, url: str) -> None:
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


@pytest.mark.parametrize(
    ("spent", "held", "drawn"),
    [
        (0, 0, "░" * 20),
        (CAP, 0, "█" * 20),
        (CAP // 2, CAP // 4, "█" * 10 + "▒" * 5 + "░" * 5),
        (1, 1, "█▒" + "░" * 18),
        (CAP - 1, 1, "█" * 20),
    ],
)
def test_the_bar_is_the_cap(ledger: MemoryLedger, spent: int, held: int, drawn: str) -> None:
    hold(ledger, "run", held)
    charge(ledger, "run", spent)
    books = ledger.usage("run")
    assert books
    assert bar(run_json(books)).plain == drawn  # type: ignore[arg-type] # the server's own form
    assert len(drawn) == BAR_COLUMNS


def test_the_first_look_must_be_answered() -> None:
    client = AdminClient(f"http://127.0.0.1:{free_port()}", ADMIN_KEY)
    with pytest.raises(ServerUnreachableError):
        next(poll(client, {}, 1.0, None))


def test_a_server_that_goes_away_is_waited_for(ledger: MemoryLedger) -> None:
    charge(ledger, "alpha", 1)
    with serving(create_app(settings_of(), ledger)) as url:
        found = poll(AdminClient(url, ADMIN_KEY), {}, 1.0, 3, sleep=lambda _: None)
        first = next(found)
        assert isinstance(first, dict)
    assert [type(page) for page in found] == [ServerUnreachableError, ServerUnreachableError]


def test_while_it_is_away_the_last_table_stays(
    capsys: pytest.CaptureFixture[str], ledger: MemoryLedger
) -> None:
    charge(ledger, "alpha", 1)
    with serving(create_app(settings_of(), ledger)) as url:
        page = AdminClient(url, ADMIN_KEY).runs({})
    show_live(iter([page, ServerUnreachableError("No answer")]))
    output = capsys.readouterr().out
    assert output.count("alpha") == 2
    assert output.rstrip().endswith("No answer")


def test_an_id_cannot_act_on_the_terminal(ledger: MemoryLedger, url: str) -> None:
    charge(ledger, "\x1b[2J[red]evil", 1)
    page = AdminClient(url, ADMIN_KEY).runs({})
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(live_page(page))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[2J" not in console.file.getvalue()
    assert "[red]evil" in console.file.getvalue()
