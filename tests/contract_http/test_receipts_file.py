"""The receipts of forgotten runs in RECEIPTS_FILE."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ridges_proxy.ledger import MemoryLedger
from tests.contract_http.service import RUN, app_of, services_of, spend
from tests.support.app import OPERATOR
from tests.support.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

TTL_SECONDS = 1200.0


def test_a_sweep_appends_the_receipt_of_each_forgotten_run(tmp_path: Path) -> None:
    file, clock = tmp_path / "receipts.jsonl", Clock()
    app = app_of(MemoryLedger(TTL_SECONDS, clock), RECEIPTS_FILE=str(file))
    spend(app, 5_000_000)
    assert app.test_client().post("/admin/sweep", headers=OPERATOR).status_code == 200
    assert not file.exists()  # the run is still known
    clock.advance(TTL_SECONDS)
    services_of(app).sweeper.sweep()
    (receipt,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert (receipt["run_id"], receipt["used_cost_usd"], receipt["ended_by"]) == (RUN, 0.005, "idle")
