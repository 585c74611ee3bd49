"""The audit trail of a server that is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.process.server import Proxy
from tests.process.test_finished_runs import kill
from tests.support.app import OPERATOR

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream


def test_a_kill_loses_no_action(fake_chutes: Upstream, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "WORKERS": "2",
        "RUN_TOKEN_KEY": "run-token-key-of-the-test-of-a-kill",
    }
    with Proxy(fake_chutes, **settings) as proxy:
        for run in ("a", "b"):
            assert proxy.ask("POST", "/admin/runs", {"run_id": run}, OPERATOR).status == 200
        assert proxy.ask("POST", "/admin/runs/a/close", {}, OPERATOR).status == 200
        before = proxy.ask("GET", "/admin/audit", None, OPERATOR).json
        kill(proxy)
    with Proxy(fake_chutes, **settings) as proxy:
        after = proxy.ask("GET", "/admin/audit", None, OPERATOR).json
        tokens = proxy.ask("GET", "/admin/tokens", None, OPERATOR).json["tokens"]
    assert [(entry["action"], entry["subject"]) for entry in after["entries"]] == [
        ("run_closed", "a"),
        ("token_issued", "b"),
        ("token_issued", "a"),
    ]
    assert after == before
    assert [(token["run_id"], token["run_closed"]) for token in tokens] == [("b", False), ("a", True)]
