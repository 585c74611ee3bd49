"""The examples and the error codes of the README and of the pages about the API."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from ridges_proxy.errors import InterruptedCallError, ProxyError, UpstreamError
from tests.process.examples import DOCS, blocks, demo, python, run
from tests.process.fake_chutes_control import ROOT
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKE, *FIRST_CALLS = blocks("README.md")

"""Many commands run one after another, and each starts a Python process."""


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    """The URL of one demo for all examples."""
    with demo() as url:
        yield url


def calls_so_far(demo_url: str) -> int:
    """The calls that earlier examples made on the run of all examples."""
    request = Request(
        f"{demo_url}/agents/usage?run_id=demo", headers={"Authorization": "Bearer demo-proxy-key"}
    )
    with urlopen(request, timeout=30) as response:
        calls: int = json.load(response)["calls"]
        return calls


def test_the_first_calls_of_the_readme_work(demo_url: str) -> None:
    calls = calls_so_far(demo_url)
    inference, usage = (run(block, demo_url) for block in FIRST_CALLS)
    assert isinstance(json.loads(inference), str)
    assert json.loads(usage)["calls"] == calls + 1


def test_the_readme_is_short() -> None:
    assert len(DOCS["README.md"].splitlines()) < 80


def test_the_shell_examples_of_the_api_work(demo_url: str) -> None:
    calls = calls_so_far(demo_url)
    kept, inference, embedding, usage, health, ready, later, totals, estimate, token = (
        run(block, demo_url) for block in blocks("reference/api.md")
    )
    assert kept == "", "the token is in a variable"
    assert isinstance(json.loads(inference), str)
    assert len(json.loads(embedding)[0]) == 1024
    amounts = json.loads(usage)
    assert amounts["calls"] == calls + 2
    assert 0 < amounts["used_cost_usd"] < amounts["max_cost_usd"] == 2
    assert json.loads(health) == {"status": "healthy", "service": "ridges-ai-proxy"}
    assert json.loads(ready)["status"] == "ready"
    assert set(json.loads(later)) == {"content", "tool_calls"}
    assert json.loads(totals)["requests"] == calls + 3
    assert json.loads(estimate)["admitted"] is True
    completion, _, receipt = token.partition("}closed ")
    assert json.loads(completion + "}")["object"] == "chat.completion"
    assert "agent-7" in receipt


def test_the_examples_of_the_ledgers_work(demo_url: str) -> None:
    (ledger,) = (run(block, demo_url) for block in blocks("operating/ledgers.md"))
    assert "The ledger is consistent." in ledger
    moved = (
        "0 runs, $0.00 spent and $0.00 held, 0 receipts, 0 single calls, 0 levels, 0 set amounts, 0 alerts"
        " and 0 audited actions"
    )
    assert ledger.endswith(f"Moved {moved}.\n")


def test_the_python_examples_of_the_api_work(demo_url: str) -> None:
    answer, token = (python(block, demo_url) for block in blocks("reference/api.md", "python"))
    assert answer == "word1 word2 word3 word4 word5 "
    usage = run(f"curl -s {demo_url}/agents/usage -H 'Authorization: Bearer {token.strip()}'", demo_url)
    assert (json.loads(usage)["run_id"], json.loads(usage)["max_cost_usd"]) == ("agent-8", 2.5)


@each_row("target", re.findall(r"make ([a-z]+)", DOCS["README.md"]))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_error_example_is_what_the_server_sends(demo_url: str) -> None:
    example = json.loads(blocks("reference/api.md", "json")[0])
    sent = json.loads(run(f"curl -s {demo_url}/agents/usage?run_id=demo", demo_url))
    assert {**sent, "request_id": ""} == {**example, "request_id": ""}


def test_the_pages_name_every_error_code() -> None:
    named = set(re.findall(r"`([a-z_]+)`", "".join(DOCS.values())))
    codes = {kind.code for kind in _subclasses(ProxyError) if not issubclass(kind, UpstreamError)}
    assert codes - {InterruptedCallError.code} <= named
    assert "`upstream_…`" in DOCS["reference/api.md"]


def _subclasses(kind: type[ProxyError]) -> list[type[ProxyError]]:
    return [found for each in kind.__subclasses__() for found in (each, *_subclasses(each))]
