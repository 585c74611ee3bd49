"""Serves scenarios of a client: one JSON object a line from standard input, one answer a line.

A driver runs in the environment of its client, so this module needs the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any


@dataclass(frozen=True)
class Ask:
    """The input of a scenario. `headers` is empty if a run token is the key."""

    base_url: str
    key: str
    model: str
    embedding_model: str
    prompt: str
    headers: dict[str, str] = field(default_factory=dict)
    retries: int | None = None
    """None: as many as the client makes by default."""


Scenario = Callable[[Ask], dict[str, Any]]


def serve(package: str, **scenarios: Scenario) -> None:
    """Announce the version and the scenarios, then answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints does not get between the answers
    announced: Any = {"version": version(package), "scenarios": sorted(scenarios)}
    while True:
        print(json.dumps(announced, default=str), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        asked = json.loads(line)
        try:
            announced = scenarios[asked.pop("scenario")](Ask(**asked))
        except Exception as error:  # noqa: BLE001 - the test judges every error
            announced = {"error": described(error)}


def directive(**asked: object) -> str:
    """Return an instruction for the fake Chutes, which is part of a prompt."""
    return f"[[fake-chutes {json.dumps(asked)}]]"


def described(error: BaseException) -> dict[str, Any]:
    """Return the type, the text and the HTTP status, which may be that of an error below it."""
    below, statuses = error, []
    while below is not None:
        response = getattr(below, "response", None)
        statuses += [getattr(below, "status_code", None), getattr(response, "status_code", None)]
        below = below.__cause__ or below.__context__
    status = next((each for each in statuses if isinstance(each, int)), None)
    return {"type": type(error).__name__, "status": status, "text": str(error)[:2000]}
