"""docs/start/tutorial.md: each of its commands, in their order, in four terminals as the page has them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.process.examples import blocks
from tests.process.terminal import END, free_port, terminals

if TYPE_CHECKING:
    from pathlib import Path

START_RECEIVER, START_PROXY, ISSUE, FIRST_CALL, WATCH, CALLS, REFUSAL, SHOW, CLOSE, TIDY = blocks(
    "start/tutorial.md"
)
(RECEIVER,) = blocks("start/tutorial.md", "python")
HEADERS, ALERTS = blocks("start/tutorial.md", "text")


def test_the_commands_of_the_tutorial_do_what_it_says(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "receiver.py").write_text(RECEIVER.replace("9000", str(port)))
    with terminals(tmp_path, 4, {":9000": f":{port}"}) as (receiver, proxy, operator, watcher):
        receiver.type(START_RECEIVER)
        proxy.type(START_PROXY)
        proxy.read_until("Press Ctrl-C to stop")
        operator.run(ISSUE)
        headers = operator.run(FIRST_CALL)
        assert set(HEADERS.splitlines()) <= {line.strip() for line in headers.splitlines()}
        watcher.type(WATCH)
        watcher.read_until("tutorial")
        statuses = re.findall(r"\d{3} ", operator.run(CALLS))
        assert [status.strip() for status in statuses] == ["200"] * 8 + ["402"] * 4
        watcher.read_until("exhausted")
        fifty, ninety = ALERTS.splitlines()
        assert receiver.read_until("90 %") == f"{fifty}\n{ninety}\n"
        refusal = operator.run(REFUSAL).removesuffix(f"{END}\n")
        assert json.loads(refusal)["error"]["code"] == "budget_exhausted"
        assert "refused    4 budget_exhausted" in operator.run(SHOW)
        assert "closed     no further calls are possible" in operator.run(CLOSE)
        operator.run(TIDY)
        assert list(tmp_path.iterdir()) == []
