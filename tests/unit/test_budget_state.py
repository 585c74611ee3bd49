from __future__ import annotations

from dataclasses import dataclass

from ridges_proxy.billing.levels import Level
from ridges_proxy.calls.budget_state import budget_state
from ridges_proxy.ledger import LevelUsage, RunUsage
from tests.support.table import check_rows


@dataclass(frozen=True)
class Row:
    """The next call needs 10. A budget is (amount, spent, held)."""

    state: str
    run: tuple[int, int, int]
    levels: tuple[tuple[int, int, int], ...] = ()
    reserved: int = 0
    minimum: int = 10


ROWS = [
    Row("ok", (100, 0, 0)),
    Row("ok", (100, 80, 0)),
    Row("low", (100, 81, 0)),
    Row("low", (100, 41, 40)),
    Row("low", (100, 90, 0)),
    Row("final", (100, 91, 0)),
    Row("final", (100, 1, 90)),
    Row("final", (100, 100, 0)),
    Row("final", (100, 300, 0)),
    # without the part for the final call, the budget is smaller
    Row("ok", (100, 40, 0), reserved=50),
    Row("final", (100, 41, 0), reserved=50),
    Row("ok", (1000, 480, 0), reserved=400),
    Row("low", (1000, 481, 0), reserved=400),
    Row("low", (1000, 400, 90), reserved=400),
    Row("final", (100, 0, 0), reserved=100),
    # a call that is free
    Row("low", (100, 100, 0), minimum=0),
    Row("final", (100, 101, 0), minimum=0),
    Row("ok", (0, 0, 0), minimum=0),
    Row("final", (0, 0, 0), minimum=1),
    # each level
    Row("ok", (100, 0, 0), ((1000, 800, 0), (50, 0, 0))),
    Row("low", (100, 0, 0), ((1000, 800, 1), (50, 0, 0))),
    Row("low", (100, 0, 0), ((1000, 0, 0), (60, 50, 0))),
    Row("final", (100, 0, 0), ((1000, 0, 0), (60, 50, 1))),
    Row("final", (100, 85, 0), ((50, 50, 0),)),
    Row("final", (100, 100, 0), ((1000, 0, 0),)),
    Row("low", (100, 0, 0), ((60, 50, 0),), reserved=50),
]


def test_the_state_is_that_of_the_scarcest_budget() -> None:
    def check(row: Row) -> None:
        budget, spent, held = row.run
        levels = tuple(
            LevelUsage(Level(f"level {number}", "all", "lifetime", amount), spent, 0, held)
            for number, (amount, spent, held) in enumerate(row.levels)
        )
        usage = RunUsage("run", budget, spent, held_nanousd=held, levels=levels)
        assert budget_state(usage, row.minimum, row.reserved) == row.state

    check_rows(ROWS, check)
