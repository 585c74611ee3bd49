"""The examples of docs/start/clients.md, each in the environment of its client, against a real server."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.clients.client import ANSWER_SECONDS, selected_clients
from tests.clients.scenarios import token_of
from tests.process.examples import DOCS
from tests.support.app import PROXY_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.client import Client
    from tests.process.fake_chutes_control import Upstream
    from tests.process.server import Proxy

SECTIONS = {
    "openai-python": "Python",
    "openai-node": "JavaScript",
    "openrouter": "OpenRouter SDK",
    "langchain-openai": "LangChain",
    "litellm": "LiteLLM",
    "codex": "Codex",
    "aider": "aider",
    "mini-swe-agent": "mini-swe-agent",
}
FILES = {"toml": ".codex/config.toml", "yaml": ".aider.model.settings.yml"}
"""Where the examples of settings belong, below the home of their client."""

SUBMITS = [{"name": "bash", "arguments": {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}}]
"""The answer that ends a task of mini-swe-agent. Other clients get words."""


def examples(section: str) -> list[tuple[str, str]]:
    """Return the blocks of a section with their languages."""
    (text,) = re.findall(
        rf"^## {section}\n(.*?)(?=^## |\Z)", DOCS["start/clients.md"], re.MULTILINE | re.DOTALL
    )
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(client: Client, language: str, block: str, home: Path, variables: dict[str, str]) -> None:
    """Run an example, or put it where its client looks for its settings."""
    if language in FILES:
        path = home / FILES[language]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block, encoding="utf-8")
        return
    script = home / f"example.{language}"
    script.write_text(block, encoding="utf-8")
    if language == "javascript":
        script = client.copied(script.rename(home.parent / "example.mjs"), home)
    command = ["bash", "-euo", "pipefail", str(script)] if language == "sh" else client.command(script)
    done = subprocess.run(
        command,
        cwd=home,
        env={**client.variables(home), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=ANSWER_SECONDS,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}"


@pytest.mark.timeout(600)  # seconds, for all examples of a client
@pytest.mark.parametrize(
    "client", [each for each in selected_clients() if each.name in SECTIONS], ids=lambda client: client.name
)
def test_the_examples_of_the_page_work_with_a_token_and_with_a_header(
    client: Client, proxy: Proxy, chutes: Upstream, tmp_path: Path
) -> None:
    client.must_be_installed()
    if client.name == "mini-swe-agent":
        chutes.default(tool_calls=SUBMITS)
    by_token, by_header = uuid4().hex, uuid4().hex
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "init", "-q", str(home)], check=True)
    variables = {"RUN_TOKEN": token_of(by_token), "PROXY_API_KEY": PROXY_KEY}
    for language, block in examples(SECTIONS[client.name]):
        here = block.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{proxy.port}")
        run(client, language, here.replace("run-1", by_header), home, variables)
    assert [proxy.usage(name).calls for name in (by_token, by_header)] == [1, 1]


def test_every_section_of_the_page_belongs_to_a_client() -> None:
    assert set(re.findall(r"^## (.+)$", DOCS["start/clients.md"], re.MULTILINE)) == {
        "What was tested",
        *SECTIONS.values(),
    }
