"""The README and the pages about using the proxy: every example runs, and every code is there."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from ridges_proxy.errors import InterruptedCallError, ProxyError, UpstreamError
from tests.process.examples import DOCS, blocks, python, run
from tests.process.fake_chutes_control import ROOT

MAKE, *FIRST_CALLS = blocks("README.md")

pytestmark = pytest.mark.timeout(180)
"""Many commands run one after another; each starts a Python of its own."""


def test_the_first_calls_answer_as_the_readme_says(demo_url: str) -> None:
    inference, usage = (run(block, demo_url) for block in FIRST_CALLS)
    assert isinstance(json.loads(inference), str)
    assert json.loads(usage)["calls"] == 1


def test_the_readme_is_short() -> None:
    assert len(DOCS["README.md"].splitlines()) < 80


def test_the_examples_of_the_api_answer_as_it_says(demo_url: str) -> None:
    inference, embedding, usage, health, ready, estimate, token = (
        run(block, demo_url) for block in blocks("API.md")
    )
    assert isinstance(json.loads(inference), str)
    assert len(json.loads(embedding)[0]) == 1024
    books = json.loads(usage)
    assert books["calls"] == 2
    assert 0 < books["used_cost_usd"] < books["max_cost_usd"] == 2
    assert json.loads(health) == {"status": "healthy", "service": "ridges-ai-proxy"}
    assert json.loads(ready)["status"] == "ready"
    assert json.loads(estimate)["admitted"] is True
    completion, _, receipt = token.partition("}closed ")
    assert json.loads(completion + "}")["object"] == "chat.completion"
    assert "agent-7" in receipt


def test_the_examples_of_the_ledgers_do_what_they_say(demo_url: str) -> None:
    (ledger,) = (run(block, demo_url) for block in blocks("LEDGERS.md"))
    assert "The ledger is consistent." in ledger
    assert ledger.endswith("Moved 0 runs, $0.000000000 spent and $0.000000000 held, and 0 receipts.\n")


def test_the_examples_in_python_do_what_the_api_says(demo_url: str) -> None:
    answer, token = (python(block, demo_url) for block in blocks("API.md", "python"))
    assert answer == "word1 word2 word3 word4 word5 "
    books = run(f"curl -s {demo_url}/agents/usage -H 'Authorization: Bearer {token.strip()}'", demo_url)
    assert (json.loads(books)["run_id"], json.loads(books)["max_cost_usd"]) == ("agent-8", 2.5)


@pytest.mark.parametrize("target", re.findall(r"make ([a-z]+)", DOCS["README.md"]))
def test_every_make_target_that_the_readme_names_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_error_shown_is_the_one_that_is_sent(demo_url: str) -> None:
    shown = json.loads(blocks("API.md", "json")[0])
    sent = json.loads(run(f"curl -s {demo_url}/agents/usage?run_id=demo", demo_url))
    assert {**sent, "request_id": ""} == {**shown, "request_id": ""}


def test_every_code_of_an_error_is_told_of() -> None:
    named = set(re.findall(r"`([a-z_]+)`", DOCS["API.md"] + DOCS["OPERATIONS.md"]))
    codes = {kind.code for kind in _kinds_below(ProxyError) if not issubclass(kind, UpstreamError)}
    assert codes - {InterruptedCallError.code} <= named
    assert "`upstream_…`" in DOCS["API.md"]


def _kinds_below(kind: type[ProxyError]) -> list[type[ProxyError]]:
    return [found for below in kind.__subclasses__() for found in (below, *_kinds_below(below))]
