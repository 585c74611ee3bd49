"""The platform's later contracts, over a real server: tools, their cost, and answers that break off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.process.fake_chutes_control import directive
from tests.process.row_fixtures import new_run, reset
from tests.process.server import CANARY, Proxy, wait_until
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream
    from tests.process.wire import Answer

INFERENCE = "/api/inference"
TOOLS = [
    {"name": name, "description": "A tool", "parameters": [{"name": "text", "type": "string"}]}
    for name in ("search", "edit")
]


def ask(proxy: Proxy, run: str, prompt: str, **fields: object) -> Answer:
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    body = {"evaluation_run_id": run, "messages": messages, "tool_mode": "auto", "tools": TOOLS, **fields}
    return proxy.ask("POST", INFERENCE, body)


def test_tool_calls_arrive_whole_and_cost_what_the_upstream_bills(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    reply = ask(shared_proxy, run, directive(tool_calls=3, events=2))
    assert reply.status == 200, reply.body
    arguments = [[{"name": "call", "value": number}, {"name": "text", "value": "word1 word2 "}]
                 for number in range(3)]  # fmt: skip
    names = ("search", "edit", "search")
    assert reply.json == {
        "content": "",
        "tool_calls": [
            {"name": name, "arguments": found} for name, found in zip(names, arguments, strict=True)
        ],
    }
    assert sum(chutes.bills().values()) == shared_proxy.usage(run).spent
    used = shared_proxy.ask("GET", f"/api/usage?evaluation_run_id={run}").json
    assert round(used["used_cost_usd"] * 10**9) == shared_proxy.usage(run).spent
    assert float(reply.headers["x-run-cost-usd"]) == used["used_cost_usd"]
    (call,) = chutes.calls()
    assert call["body"]["tool_choice"] == "auto"
    assert [tool["function"]["name"] for tool in call["body"]["tools"]] == ["search", "edit"]
    totals = shared_proxy.ask("GET", "/api/v1/usage?run_id=" + run).json
    assert (totals["requests"], totals["completion_tokens"]) == (1, call["completion_tokens"])


FAULTS = {
    "cut": "upstream_broken",
    "reset_mid": "upstream_broken",
    "error_line": "upstream_broken",
    "at_capacity": "upstream_busy",
}


@each_row("name, code", FAULTS.items(), before={"chutes": reset, "run": new_run})
def test_an_answer_that_breaks_off_is_an_error_and_its_bill_is_covered(
    shared_proxy: Proxy, chutes: Upstream, run: str, name: str, code: str
) -> None:
    reply = ask(shared_proxy, run, directive(tool_calls=2, fault=name, after=2))
    assert (reply.status >= 400, reply.code) == (True, code)
    wait_until(lambda: shared_proxy.in_flight() == 0, "the end of the call")
    usage = shared_proxy.usage(run)
    assert (usage.held, usage.spent >= sum(chutes.bills().values())) == (0, True)
