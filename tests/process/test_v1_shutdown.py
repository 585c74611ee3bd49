"""Shutdown with open streams: each ends with an event, and every hold is settled."""

from __future__ import annotations

from contextlib import ExitStack
from signal import Signals
from typing import TYPE_CHECKING, Any

from tests.process import expected_holds
from tests.process.event_stream import CHAT, DONE, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, Proxy
from tests.process.wire import post

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

GRACE_SECONDS = 6
STREAMS = 10
MAX_TOKENS = 1024


def chat(run: str, prompt: str, **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    return {"run_id": run, "messages": messages, "max_tokens": MAX_TOKENS, **fields}


def test_streams_that_end_in_time_are_complete_and_the_others_end_with_an_error(
    chutes: Upstream, run: str
) -> None:
    in_time, too_late = directive(gate="in time", gate_at=1), directive(gate="never", gate_at=1)
    with Proxy(chutes, GRACEFUL_TIMEOUT_SECONDS=str(GRACE_SECONDS)) as proxy, ExitStack() as stack:
        streams = {
            prompt: [stack.enter_context(EventStream(proxy.port, chat(run, prompt))) for _ in range(STREAMS)]
            for prompt in (in_time, too_late)
        }
        chutes.wait(at_gate=2 * STREAMS)
        proxy.signal(Signals.SIGTERM)
        proxy.lines.wait(event="draining")
        chutes.release("in time")
        assert {stream.events()[-1] for stream in streams[in_time]} == {DONE}
        endings = [stream.events()[-1]["error"]["code"] for stream in streams[too_late]]
        assert endings == ["shutting_down"] * STREAMS
        assert {stream.comments[-1].split()[1] for stream in streams[too_late]} == {"cost"}
        assert proxy.stop() == 0
        lines = proxy.lines.wait(2 * STREAMS, event="request", run=run)
    costs = [round(line["cost_usd"] * 10**9) for line in lines if line["code"] == "shutting_down"]
    # They were silent for longer than a second, and tokens may have been generated that were not sent.
    assert costs == [expected_holds.hold(too_late)] * STREAMS
    billed = chutes.wait(idle=1)["billed_nanousd"]
    assert billed <= sum(round(line["cost_usd"] * 10**9) for line in lines)


def test_a_client_that_does_not_read_delays_neither_the_exit_nor_the_settlement(
    chutes: Upstream, run: str
) -> None:
    flood = chat(run, directive(events=100_000), stream=True) | {"max_tokens": 100_000}
    with (
        Proxy(chutes, GRACEFUL_TIMEOUT_SECONDS=str(GRACE_SECONDS), WRITE_TIMEOUT_SECONDS="3000") as proxy,
        proxy.connect(receive_bytes=4096) as wire,
    ):
        wire.send(post(CHAT, flood))
        chutes.wait(client_gone=1)  # the proxy has left the upstream, and waits in a write to the client
        assert proxy.in_flight() == 1
        proxy.signal(Signals.SIGTERM)
        (line,) = proxy.lines.wait(event="request", run=run)
        assert (line["status"], line["code"]) == (200, "client_gone")
        assert round(line["cost_usd"] * 10**9) >= chutes.calls()[0]["billed_nanousd"]
        assert proxy.stop() == 0
