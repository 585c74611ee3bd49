"""The soak finds what gevent's monitor reports of a blocked hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent import get_hub
from gevent._tracer import HubSwitchTracer  # type: ignore[import-not-found] # it is compiled

from bench.soak.blocked_hub import MAX_STACK_LINES, reports_of

if TYPE_CHECKING:
    from pathlib import Path


def test_each_report_has_its_stack(tmp_path: Path) -> None:
    tracer: Any = HubSwitchTracer(get_hub(), 0.1)
    current = gevent.getcurrent()
    lines = cast("list[str]", tracer.did_block_hub_report(get_hub(), current, {}))
    report = "\n".join(lines)
    cut_off = "Greenlet <a> appears to be blocked\n" + "  frame\n" * (MAX_STACK_LINES + 1)
    log = tmp_path / "log"
    log.write_text("{}\n" + report + "\n{}\n" + report + "\n{}\n" + cut_off)

    reports = reports_of(log)

    assert len(reports) == 3
    assert reports[0] == reports[1]
    assert "test_each_report_has_its_stack" in reports[0]
    assert "Info:" not in reports[0]
    assert reports[2].count("frame") == MAX_STACK_LINES
