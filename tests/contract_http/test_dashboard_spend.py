"""The dashboard's page of the spend, after a workload of real requests, on each store."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from ridges_proxy.cli.history_sums import By, sums_json, sums_of
from ridges_proxy.ledger import Kind, Run
from ridges_proxy.web.dashboard import spend_page
from ridges_proxy.web.schemas.spend_query import PARTS
from tests.contract.stores import STORES, TTL_SECONDS
from tests.contract_http.budgets import CHAT, BudgetedApp
from tests.contract_http.openai_api import WHOLE
from tests.contract_http.service import CAP_NANOUSD, CHAT_URL, MODEL, app_of, services_of
from tests.contract_http.test_dashboard import sign_in
from tests.support.app import OPERATOR
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import responses
    from flask import Flask
    from flask.testing import FlaskClient
    from requests import PreparedRequest

HOSTILE = '"><script>alert(1)</script>'
DAY_SECONDS = 86_400
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
DEAR = "dear"
PROMPT_TOKENS = 20
NANOUSD = {MODEL: (270, 270), DEAR: (1_000, 5_000)}
"""For one token of the prompt and of the answer."""
PRICES = orjson.dumps({MODEL: 0.27, DEAR: {"input": 1, "output": 5}}).decode()
GROUPS: dict[str, list[str]] = {"one": ["red"], "two": ["red", "blue"], "three": [], "four": ["=1+1"]}
"""Of each run."""

Sums = dict[str, Counter[str]]


class Workload:
    """Calls of agents, with the sums that follow from the reported tokens and the prices."""

    def __init__(self, proxy: BudgetedApp, upstream: responses.RequestsMock, clock: Clock) -> None:
        self.proxy, self.clock = proxy, clock
        self.random = random.Random(7)
        self.used: list[tuple[str, str, int, Counter[str]]] = []
        upstream.add_callback("POST", CHAT_URL, self._answer)

    def _answer(self, _: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        prompt, completion = self.random.randrange(1, 200), self.random.randrange(1, 50)
        self.tokens = prompt, completion
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        return 200, {}, orjson.dumps({**WHOLE, "usage": usage})

    def make(self, calls: int) -> None:
        """Make calls of random runs to random models."""
        for _ in range(calls):
            run, model = self.random.choice(list(GROUPS)), self.random.choice(list(NANOUSD))
            reply = self.proxy.agent(run, *GROUPS[run]).post("/v1/chat/completions", CHAT, model=model)
            assert reply.status_code == 200
            cost = sum(map(int.__mul__, self.tokens, NANOUSD[model]))
            sums = Counter(calls=1, prompt_tokens=self.tokens[0], completion_tokens=self.tokens[1], cost=cost)
            self.used.append((run, model, int(self.clock() // DAY_SECONDS), sums))

    def forget(self) -> None:
        """Let the sweep forget all runs."""
        self.clock.advance(TTL_SECONDS)
        while services_of(self.proxy.app).ledger.sweep(100).more:
            pass

    def sums(self, by: str) -> Sums:
        """The expected sums. A run counts on the day of its last call; here it has one life a day."""
        found: Sums = {}
        for run, model, day, sums in self.used:
            names = {"day": [date_of(day)], "model": [model], "group": GROUPS[run] or [""]}[by]
            for name in names:
                found.setdefault(name, Counter()).update(sums)
        return found


def date_of(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY_SECONDS, UTC):%Y-%m-%d}"


@pytest.fixture(params=["memory", "sqlite", "redis"])
def workload(request: pytest.FixtureRequest, upstream: responses.RequestsMock) -> Iterator[Workload]:
    clock = Clock(NOON)
    with STORES[request.param](clock) as ledger:
        proxy = BudgetedApp(ledger=ledger, MODEL_PRICES=PRICES)
        services_of(proxy.app).spend_reports._clock = clock
        yield Workload(proxy, upstream, clock)


def operator_of(proxy: BudgetedApp) -> FlaskClient:
    client = proxy.app.test_client()
    assert sign_in(client) == 303
    return client


def shown(client: FlaskClient, by: str, days: int = 7) -> Sums:
    """The sums in the file, without empty days."""
    file = client.get(f"/dashboard/spend.csv?by={by}&days={days}")
    assert file.headers["Content-Disposition"] == f'attachment; filename="spend-by-{by}-{days}-days.csv"'
    rows = csv.DictReader(file.text.splitlines())
    return {
        row[by].removeprefix("'"): Counter(
            calls=int(row["calls"]),
            prompt_tokens=int(row["prompt_tokens"]),
            completion_tokens=int(row["completion_tokens"]),
            cost=round(float(row["used_cost_usd"]) * 1e9),
        )
        for row in rows
        if row["runs"] != "0"
    }


def test_the_sums_are_those_of_the_calls_and_agree_with_the_command_line(workload: Workload) -> None:
    client = operator_of(workload.proxy)
    workload.make(16)
    check_sums(workload, client)
    workload.forget()
    if not receipts_of(workload):  # a ledger in memory counts only the runs that it knows
        workload.used.clear()
    workload.clock.advance(DAY_SECONDS)
    workload.make(8)
    check_sums(workload, client)
    workload.forget()
    receipts = receipts_of(workload)
    renew(workload)
    for by in (By.DAY, By.MODEL, By.GROUP):
        of_command = {
            row[by] or "": (row["runs"], row["calls"], round(row["used_cost_usd"] * 1e9))
            for row in sums_json(sums_of(receipts, by), by)
        }
        rows = csv.DictReader(client.get(f"/dashboard/spend.csv?by={by}&days=30").text.splitlines())
        assert len(of_command) == len(shown(client, by, 30))
        for row in rows:
            if row["runs"] != "0":
                _, calls, cost = of_command[row[by].removeprefix("'")]
                assert (int(row["calls"]), round(float(row["used_cost_usd"]) * 1e9)) == (calls, cost)


def check_sums(workload: Workload, client: FlaskClient) -> None:
    renew(workload)
    assert {by: shown(client, by) for by in PARTS} == {by: workload.sums(by) for by in PARTS}


def receipts_of(workload: Workload) -> list[Any]:
    reply = workload.proxy.app.test_client().get("/admin/receipts?limit=1000", headers=OPERATOR)
    found: list[Any] = reply.get_json()["receipts"]
    return found


def renew(workload: Workload) -> None:
    """Let the next request have new sums."""
    services_of(workload.proxy.app).spend_reports._due_at = 0.0


def test_the_page_shows_all_days_of_its_span_and_totals(workload: Workload) -> None:
    workload.make(16)
    client = operator_of(workload.proxy)
    for days in (7, 30):
        page = client.get(f"/dashboard/spend?days={days}").text
        dates = re.findall(r">(\d{4}-\d\d-\d\d)<", page)
        today = int(NOON // DAY_SECONDS)
        assert dates == [date_of(day) for day in range(today, today - days, -1)]
        assert f"<dt>Spent in {days} days</dt>" in page
        assert "on the day of its last call" in page
        assert "=1+1" not in client.get("/dashboard/spend.csv?by=model").text
    file = client.get("/dashboard/spend.csv?by=group").text
    names = [row["group"] for row in csv.DictReader(file.splitlines())]
    assert "'=1+1" in names


def test_the_page_says_which_runs_are_counted(tmp_path: Path) -> None:
    def check(row: tuple[str, str]) -> None:
        url, text = row
        client = app_of(LEDGER_URL=url, RECEIPT_DAYS="12").test_client()
        assert sign_in(client) == 303
        page = client.get("/dashboard/spend").text
        assert text in page
        assert "No runs in these days." in page

    rows = [
        ("memory://", "This ledger keeps no receipts: only the 0 runs that it knows now are counted"),
        (f"sqlite:///{tmp_path}/ledger.db", "which are kept for 12 days (RECEIPT_DAYS), and of the 0 runs"),
    ]
    check_rows(rows, check)


def test_while_the_sums_are_not_ready_the_page_says_so_and_there_is_no_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_of()
    client = app.test_client()
    assert sign_in(client) == 303
    monkeypatch.setattr(services_of(app).spend_reports, "latest", lambda: None)
    page = client.get("/dashboard/spend").text
    assert "The receipts are being added up: 0 so far." in page
    assert "<noscript> Load it again for them.</noscript>" in page
    assert client.get("/dashboard/spend.csv").status_code == 503


def test_names_of_groups_and_models_are_escaped(app: Flask) -> None:
    run = Run("run", CAP_NANOUSD, groups=(HOSTILE, "x" * 256))
    hold = services_of(app).ledger.reserve(run, Kind.INFERENCE, 7, 7, 60.0, model=HOSTILE)
    services_of(app).ledger.settle(hold, 7)
    client = app.test_client()
    assert sign_in(client) == 303
    page = client.get("/dashboard/spend").text
    assert page.count("alert(1)") == 2
    assert HOSTILE not in page
    assert "$0.000000007" in page.replace('<span class="zeros">', "")


def test_the_page_shows_the_largest_and_the_file_has_all(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend_page, "MAX_ROWS", 2)
    ledger = services_of(app).ledger
    for amount in (10, 30, 20):
        run = Run(f"run-{amount}", CAP_NANOUSD, groups=(f"group-{amount}",))
        ledger.settle(ledger.reserve(run, Kind.INFERENCE, amount, amount, 60.0), amount)
    client = app.test_client()
    sign_in(client)
    page = client.get("/dashboard/spend").text
    assert re.findall(r"group-[0-9]+", page) == ["group-30", "group-20"]
    assert "The 2 largest of 3." in page
    file = client.get("/dashboard/spend.csv?by=group").text
    assert re.findall(r"group-[0-9]+", file) == ["group-30", "group-20", "group-10"]


def test_an_invalid_query_is_refused_by_its_name(app: Flask) -> None:
    client = app.test_client()
    assert sign_in(client) == 303

    def check(row: tuple[str, str]) -> None:
        path, query = row
        reply = client.get(f"/dashboard/{path}?{query}")
        assert reply.status_code == 422
        assert f"<code>{query.partition('=')[0]}</code>" in reply.text

    rows = [
        ("spend", "days=8"),
        ("spend", "by=day"),
        ("spend.csv", "by=run"),
        ("spend.csv", "days=x"),
        ("spend", "days=7&days=30"),
    ]
    check_rows(rows, check)
