"""The system's clock is set, forwards and back, while the service runs: no run is forgotten or has more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.contract_http.service import CHAT_URL, answer_of, app_of, hold_of, infer, parts_of, usage

if TYPE_CHECKING:
    from pathlib import Path

    import responses

DAYS = 86_400.0


@pytest.mark.parametrize("jump_seconds", [10 * DAYS, -10 * DAYS, 3_601.0, -3_601.0])
@pytest.mark.parametrize("ledger", ["memory", "sqlite"])
def test_a_jump_of_the_clock_changes_nothing(
    upstream: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ledger: str,
    jump_seconds: float,
) -> None:
    url = "memory://" if ledger == "memory" else f"sqlite:///{tmp_path}/ledger.db"
    app = app_of(LEDGER_URL=url)
    books = parts_of(app).ledger
    upstream.post(CHAT_URL, body=answer_of("Hello"))
    assert infer(app).status_code == 200
    hold = hold_of(app, 1_000)
    before = usage(app).json
    real = time.time
    for offset in (jump_seconds, 0.0):
        monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
        swept = books.sweep(100)
        assert (swept.receipts, swept.overdue) == ([], [])
        assert usage(app).json == before
        answer = infer(app)
        assert answer.status_code == 200
        assert 0 <= int(answer.headers["RateLimit-Reset"]) <= 60
        before = usage(app).json
    after = books.settle(hold, 1_000)
    assert after
    assert after.spent_nanousd == 3 * 4_050 + 1_000
    books.disconnect()
