"""mini-swe-agent: its command `mini`, called in this process, because its imports take seconds."""

import json
import os
from typing import Any

import repository
from minisweagent.run.mini import app
from serve import Ask, directive, serve

FINAL = "printf 'COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\\nword1 word2 word3 word4 word5'"
"""The command by which the model ends the task."""


def bash(*commands: str) -> list[dict[str, Any]]:
    return [{"name": "bash", "arguments": {"command": command}} for command in commands]


def run(ask: Ask, prompt: str) -> dict[str, Any]:
    """Run the command in a new repository. Its answer is what the model submitted."""
    kwargs: dict[str, Any] = {"api_base": ask.base_url, "extra_headers": ask.headers}
    if ask.retries is not None:
        kwargs["max_retries"] = ask.retries
    settings = [f"model.model_kwargs.{name}={json.dumps(value)}" for name, value in kwargs.items()]
    options = [word for setting in ("mini.yaml", *settings) for word in ("-c", setting)]
    os.environ["OPENAI_API_KEY"] = ask.key
    folder = repository.new()
    os.chdir(folder)
    command = [*options, "-m", f"openai/{ask.model}", "-t", prompt, "-y", "--exit-immediately"]
    agent = app(command, standalone_mode=False)
    return {"text": agent.messages[-1]["extra"]["submission"], "file": repository.text_of(folder)}


def chat(ask: Ask) -> dict[str, Any]:
    """The model submits at once, unless the prompt has another directive behind this one."""
    return run(ask, f"{directive(tool_calls=bash(FINAL))} {ask.prompt}")


def edit(ask: Ask) -> dict[str, Any]:
    """Two tool calls in one answer, then the end: the second request has the first answer in it."""
    commands = bash("sed -i s/hello/goodbye/ greeting.txt", "cat greeting.txt")
    return run(ask, f"{ask.prompt} {directive(tool_calls=commands, then={'tool_calls': bash(FINAL)})}")


serve("mini-swe-agent", chat=chat, edit=edit)
