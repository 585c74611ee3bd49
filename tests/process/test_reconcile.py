"""The books of a server against the bill of the upstream, call by call."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ridges_proxy.cli.ledger import ledger
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy, chat
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Row = dict[str, Any]

COUNTS = ("matched", "differing", "missing_in_books", "missing_in_bill")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Embeddings cost nothing: the upstream and the proxy never measure the same time."""
    with Upstream("--embedding-usd-per-second", "0") as started:
        yield started


@pytest.fixture(params=["sqlite", "redis"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    with RedisServer() as server:
        yield server.url


def make_calls(proxy: Proxy) -> None:
    """Make a call of each form: in one piece and streamed, of both families of routes, and embeddings."""
    body = chat("run", "hi")
    assert proxy.infer("run").status == 200
    assert proxy.embed("run").status == 200
    for stream in (False, True):
        assert proxy.ask("POST", "/v1/chat/completions", {**body, "stream": stream}).status == 200
    assert proxy.ask("POST", "/v1/embeddings", {"run_id": "run", "input": "hi"}).status == 200
    assert proxy.infer("run", directive(fault="invalid_request")).status >= 400  # not billed


def bill_of(upstream: Upstream) -> list[Row]:
    """The rows of the upstream's bill. One without an answer's id has that of the request."""
    return [
        {
            "id": call["answer_id"] or call["invocation_id"],
            "model": call["model"] or "embedding",
            "prompt_tokens": call["prompt_tokens"],
            "completion_tokens": call["completion_tokens"],
            "amount": f"{call['billed_nanousd'] / 10**9:.9f}",
        }
        for call in upstream.calls()
        if call["invocation_id"]
    ]


def reconcile(ledger_url: str, rows: list[Row], file: Path) -> tuple[int, list[int]]:
    """The exit status of the command, and its counts."""
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    result = CliRunner().invoke(ledger, ["reconcile", str(file), "--json"], env={"LEDGER_URL": ledger_url})
    total = json.loads(result.stdout)["total"]
    return result.exit_code, [total[name] for name in COUNTS]


def test_all_calls_match_the_bill_and_each_change_of_it_is_found(
    upstream: Upstream, ledger_url: str, tmp_path: Path
) -> None:
    with Proxy(upstream, LEDGER_URL=ledger_url, EMBEDDING_PRICE_PER_SECOND="0", RECEIPT_CALLS="1") as proxy:
        make_calls(proxy)
        upstream.wait(idle=1)
        rows, file = bill_of(upstream), tmp_path / "bill.csv"
        assert reconcile(ledger_url, rows, file) == (0, [5, 0, 0, 0])

        rows[0]["amount"] = "1"
        rows[1] = {**rows[1], "id": "of-nobody"}
        assert reconcile(ledger_url, rows[:-1], file) == (1, [2, 1, 1, 2])
