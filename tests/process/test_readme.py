"""Every example in the README, run as it stands there against `make demo`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import InterruptedCallError, ProxyError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
MAKE_BLOCKS = [block for block in BLOCKS if block.startswith("make ")]
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DEMO_BLOCKS = [block for block in BLOCKS if not block.startswith("make ")]


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    command = [sys.executable, "-m", "ridges_proxy.demo", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        url = next(found[0] for line in lines if (found := re.findall(r"http://[\d.]+:\d+", line)))
        assert any("Ctrl-C" in line for line in lines)
        yield url
        demo.terminate()
        assert demo.wait(30) == 0


def run(block: str, url: str) -> str:
    """What the block prints, with this demo's address and this environment's commands in it."""
    script = block.replace("http://127.0.0.1:8000", url).replace(
        ".venv/bin", str(Path(sys.executable).parent)
    )
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
    assert (done.returncode, done.stderr) == (0, ""), script
    return done.stdout


def python(block: str, url: str) -> str:
    """What the block prints, against this demo."""
    script = block.replace("http://127.0.0.1:8000", url)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, ""), script
    return done.stdout


def test_the_examples_are_found() -> None:
    assert len(MAKE_BLOCKS) == 1
    assert len(DEMO_BLOCKS) == 10
    assert len(PYTHON_BLOCKS) == 2


def test_the_examples_against_the_demo_answer_as_the_readme_says(demo_url: str) -> None:
    inference, embedding, usage, health, ready, estimate, token, ledger, spend, prices = (
        run(block, demo_url) for block in DEMO_BLOCKS
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
    assert "The books add up." in ledger
    assert ledger.endswith("Moved 0 runs, $0.000000000 spent and $0.000000000 held, and 0 receipts.\n")
    assert "0.27" in prices
    assert "demo" in spend
    document = spend[spend.rindex('{"runs"') :]
    assert {row["run_id"] for row in json.loads(document)["runs"]} == {"demo", "agent-7"}


def test_the_examples_in_python_do_what_the_readme_says(demo_url: str) -> None:
    answer, token = (python(block, demo_url) for block in PYTHON_BLOCKS)

    assert answer == "word1 word2 word3 word4 word5 "
    books = run(f"curl -s {demo_url}/agents/usage -H 'Authorization: Bearer {token.strip()}'", demo_url)
    assert (json.loads(books)["run_id"], json.loads(books)["max_cost_usd"]) == ("agent-8", 2.5)


@pytest.mark.parametrize("target", re.findall(r"make ([a-z]+)", README))
def test_every_make_target_that_the_readme_names_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_error_shown_is_the_one_that_is_sent(demo_url: str) -> None:
    shown = json.loads(re.findall(r"^```json\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[0])
    sent = json.loads(run(f"curl -s {demo_url}/agents/usage?run_id=demo", demo_url))
    assert {**sent, "request_id": ""} == {**shown, "request_id": ""}


def test_every_code_of_an_error_is_in_the_readme() -> None:
    named = set(re.findall(r"`([a-z_]+)`", README))
    codes = {kind.code for kind in _kinds_below(ProxyError) if not issubclass(kind, UpstreamError)}
    assert codes - {InterruptedCallError.code} <= named
    assert "`upstream_…`" in README


def _kinds_below(kind: type[ProxyError]) -> list[type[ProxyError]]:
    return [found for below in kind.__subclasses__() for found in (below, *_kinds_below(below))]
