"""aider, as its command runs: in a temporary repository."""

import json
import os
import re
import subprocess
from typing import Any

import repository
from serve import Ask, directive, serve

OPTIONS = (
    *("--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings", "--no-pretty"),
    *("--no-gitignore", "--no-auto-commits", "--no-show-release-notes", "--map-tokens", "0"),
    *("--edit-format", "whole"),
)


def run(ask: Ask, prompt: str) -> dict[str, Any]:
    """Run the command in a new repository. Raises RuntimeError with its output if a request failed."""
    folder = repository.new()
    settings = [{"name": "aider/extra_params", "extra_params": {"extra_headers": ask.headers}}]
    (folder / ".aider.model.settings.yml").write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        ["aider", "--model", f"openai/{ask.model}", *OPTIONS, "--message", prompt, repository.NAME],
        cwd=folder,
        env={**os.environ, "OPENAI_API_BASE": ask.base_url, "OPENAI_API_KEY": ask.key},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    words = re.findall(r"(word1 .*)", done.stdout)
    if not words:
        raise RuntimeError(done.stdout[-2000:])
    return {"text": words[-1], "file": repository.text_of(folder)}


def chat(ask: Ask) -> dict[str, Any]:
    return run(ask, ask.prompt)


def edit(ask: Ask) -> dict[str, Any]:
    """The model answers with the whole file. aider speaks no tools."""
    answer = f"word1 word2 word3 word4 word5\n\n{repository.NAME}\n```\ngoodbye\n```\n"
    return run(ask, f"{ask.prompt} {directive(answer=answer)}")


serve("aider-chat", chat=chat, edit=edit)
