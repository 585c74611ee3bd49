"""The agents of a simulated day, and the main server that issues their tokens: clients of the real app."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.app import ADMIN_KEY, AGENT, OPERATOR

if TYPE_CHECKING:
    from random import Random

    from flask import Flask
    from werkzeug.test import TestResponse

    from tests.browser.day.load import AgentRun, Step
    from tests.browser.day.simulated_time import SimulatedTime

TEXT = "def step(state, action): return state.apply(action)  # as the tests of the repository expect\n" * 900
"""The text of which messages are made."""

ANSWER = TEXT[:400]

OPERATOR_ADDRESS = {"REMOTE_ADDR": "192.0.2.7"}
ACTIONS: tuple[tuple[float, str, dict[str, str]], ...] = (
    (8 * 3600, "/dashboard/sign-in", {"key": ADMIN_KEY}),
    (7.7 * 3600, "/admin/sweep", {}),
    (2.6 * 3600, "/admin/budgets/miner/amount", {"usd": "3.50", "group": "miner:bell"}),
)
"""The operator's actions: how many seconds before the end, where, and with which fields."""

FINAL_STATUSES = {401, 402, 403}
RETRY_SECONDS = 12.0
MAX_TRIES = 6
TOKEN_SECONDS = 7_200


class Operator:
    """An operator who signs in to the dashboard in the morning, and acts a few times."""

    def __init__(self, app: Flask, clock: SimulatedTime) -> None:
        self._browser = app.test_client()
        self._clock = clock

    def start(self, now: float) -> None:
        """Act at these times before `now`."""
        for ago_seconds, path, body in ACTIONS:
            self._clock.spawn(partial(self._act, path, body), now - ago_seconds)

    def _act(self, path: str, body: dict[str, str]) -> None:
        if path.startswith("/admin"):
            answer = self._browser.post(path, json=body, headers=OPERATOR, environ_base=OPERATOR_ADDRESS)
        else:
            page = self._browser.get(path, environ_base=OPERATOR_ADDRESS).text
            found = re.search('name="csrf_token" value="([^"]+)"', page)
            form = {**body, "csrf_token": found[1] if found else ""}
            answer = self._browser.post(path, data=form, environ_base=OPERATOR_ADDRESS)
        assert answer.status_code < 400, answer.text


class Agents:
    """Makes the calls of runs, each at its time."""

    def __init__(self, app: Flask, clock: SimulatedTime, random: Random) -> None:
        self._app = app
        self._clock = clock
        self._random = random
        self.outage: tuple[float, float, str] | None = None
        """The start and the end of an outage of the upstream, and the model that it concerns."""

    def start(self, run: AgentRun) -> None:
        """Let the run begin at its time."""
        self._clock.spawn(lambda: self._make_calls(run), run.starts_at)

    def _make_calls(self, run: AgentRun) -> None:
        headers = self._issue(run) if run.has_token else AGENT
        conversation: list[dict[str, str]] = []
        for step in run.steps:
            if not self._succeeds(run, step, headers, conversation):
                break
            self._clock.sleep(step.think_seconds)
        if run.closes:
            self._ask("POST", f"/admin/runs/{run.id}/close", {}, OPERATOR)

    def _succeeds(
        self, run: AgentRun, step: Step, headers: dict[str, str], conversation: list[dict[str, str]]
    ) -> bool:
        """Make the call, again and again while it may succeed later. Then add it to the conversation."""
        for _ in range(MAX_TRIES):
            tried = self._failing(run, step)
            question = {"role": "user", "content": tried.message(TEXT)}
            status = self._call(run, tried, headers, [*conversation, question])
            if status == 200 or status in FINAL_STATUSES:
                if step.kind != "embedding":
                    conversation += [question, {"role": "assistant", "content": ANSWER}]
                return status == 200
            step = replace(step, fault=None)
            self._clock.sleep(RETRY_SECONDS * self._random.uniform(0.5, 1.5))
        return True

    def _call(
        self, run: AgentRun, step: Step, headers: dict[str, str], messages: list[dict[str, str]]
    ) -> int:
        body: dict[str, Any]
        if step.kind == "embedding":
            path, body = "/agents/embedding", {"run_id": run.id, "input": messages[-1]["content"]}
        elif step.kind == "agents":
            path, body = "/agents/inference", {"run_id": run.id, "model": run.model, "messages": messages}
        else:
            path, body = "/v1/chat/completions", {"model": run.model, "messages": messages}
            body |= {"run_id": run.id, "max_tokens": 1024, "stream": step.kind == "stream"}
        answer = self._ask("POST", path, body, headers)
        if answer.status_code == 200 and b"budget" in answer.data[:400] and b'"error"' in answer.data[:400]:
            return 402  # /agents answers an exhausted budget with the status 200
        return answer.status_code

    def _failing(self, run: AgentRun, step: Step) -> Step:
        if self.outage is None:
            return step
        starts_at, ends_at, model = self.outage
        if run.model != model or not starts_at <= self._clock.now < ends_at:
            return step
        return replace(step, fault="no_instances", first_seconds=0.3)

    def _issue(self, run: AgentRun) -> dict[str, str]:
        asked = {
            "run_id": run.id,
            "ttl_seconds": TOKEN_SECONDS,
            "groups": run.group and [run.group],
            "budget_usd": run.budget_usd,
            "calls_per_minute": run.calls_per_minute,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        answer = self._ask("POST", "/admin/runs", body, OPERATOR)
        return {"Authorization": f"Bearer {answer.get_json()['token']}"}

    def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> TestResponse:
        request_id = f"{self._random.getrandbits(128):032x}"
        return self._app.test_client().open(
            path,
            method=method,
            json=body,
            headers={**headers, "X-Request-ID": request_id},
            buffered=True,  # reads the whole answer and closes it, as a server does
        )
