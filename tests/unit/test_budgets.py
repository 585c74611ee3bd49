"""The levels on which a call draws."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ridges_proxy.billing.budgets import Budget, Budgets
from ridges_proxy.billing.levels import Level
from ridges_proxy.billing.windows import period_at
from ridges_proxy.ledger import Kind
from tests.support.table import check_rows

if TYPE_CHECKING:
    from datetime import tzinfo

    import pytest

    from ridges_proxy.billing.windows import Period, Window

NOW = datetime.fromisoformat("2026-11-30T14:20Z").timestamp()
MIDNIGHT = datetime.fromisoformat("2026-12-01T00:00Z").timestamp()
DAY = "day 2026-11-30"
RUN = ("miner:ann", "team:red", "miner:bob")


def levels(
    *budgets: Budget, groups: tuple[str, ...] = RUN, model: str | None = "m", kind: str | None = "inference"
) -> tuple[Level, ...]:
    return Budgets(budgets).levels_of(groups, model, kind, NOW)


def test_a_call_draws_on_every_budget_that_it_matches_in_their_order() -> None:
    found = levels(
        Budget("all", 50, "day"),
        Budget("miner", 5, "day", group="miner:*"),
        Budget("other", 1, "day", model="other"),
        Budget("dear", 20, "lifetime", model="m"),
    )
    assert found == (
        Level("all", "all", DAY, 50, MIDNIGHT),
        Level("miner", "group:miner:ann", DAY, 5, MIDNIGHT),
        Level("miner", "group:miner:bob", DAY, 5, MIDNIGHT),
        Level("dear", "model:m", "lifetime", 20, None),
    )


def test_a_period_is_that_of_the_budgets_time_zone() -> None:
    """In Kathmandu it is 20:05 of the same day, in Auckland 03:20 of the next one, a new month."""
    found = levels(
        Budget("near", 1, "day", "Asia/Kathmandu"),
        Budget("far", 1, "day", "Pacific/Auckland"),
        Budget("month", 1, "month", "Pacific/Auckland"),
    )
    assert [(level.period, level.resets_at) for level in found] == [
        ("day 2026-11-30", datetime.fromisoformat("2026-11-30T18:15Z").timestamp()),
        ("day 2026-12-01", datetime.fromisoformat("2026-12-01T11:00Z").timestamp()),
        ("month 2026-12", datetime.fromisoformat("2026-12-31T11:00Z").timestamp()),
    ]


def test_a_model_is_matched_by_the_name_of_the_caller_or_by_that_of_the_upstream() -> None:
    budgets = Budgets([Budget(name, 1, "lifetime", model=name) for name in ("real", "alias", "other")])
    found = budgets.levels_of((), "alias", "inference", NOW, "real")
    assert [level.scope for level in found] == ["model:real", "model:alias"]
    assert [level.scope for level in budgets.levels_of((), "real", "inference", NOW)] == ["model:real"]


def test_the_scope_names_what_the_budget_matches() -> None:
    rows: list[tuple[dict[str, str], list[str]]] = [
        ({}, ["all"]),
        ({"group": "team:red"}, ["group:team:red"]),
        ({"group": "team:blue"}, []),
        ({"group": "team"}, []),
        ({"group": "*"}, [f"group:{name}" for name in RUN]),
        ({"group": "*:ann"}, ["group:miner:ann"]),
        ({"group": "mi*nn"}, ["group:miner:ann"]),
        ({"group": "miner:ann*"}, ["group:miner:ann"]),
        ({"group": "miner:*:ann"}, []),
        ({"group": "miner:a*ann"}, []),
        ({"group": "MINER:*"}, []),
        ({"model": "m"}, ["model:m"]),
        ({"model": "M"}, []),
        ({"kind": "inference"}, ["kind:inference"]),
        ({"kind": "embedding"}, []),
        ({"group": "team:*", "model": "m", "kind": "inference"}, ["group:team:red model:m kind:inference"]),
        ({"group": "team:*", "model": "m", "kind": "embedding"}, []),
        ({"group": "team:*", "model": "other"}, []),
        ({"group": "blue:*", "model": "m"}, []),
    ]

    def check(row: tuple[dict[str, str], list[str]]) -> None:
        conditions, scopes = row
        for kind in ("inference", Kind.INFERENCE):
            found = levels(Budget("b", 1, "day", **conditions), kind=kind)
            assert [level.scope for level in found] == scopes

    check_rows(rows, check)


def test_a_pattern_character_in_a_model_is_no_pattern() -> None:
    budget = Budget("b", 1, "day", group="team:*", model="a*b")
    assert [level.scope for level in levels(budget, model="a*b")] == ["group:team:red model:a*b"]
    assert levels(budget, model="axb") == ()


def test_any_model_and_kind_give_all_levels_of_a_run() -> None:
    budgets = [
        Budget("one", 1, "day", model="m"),
        Budget("two", 1, "day", kind="embedding"),
        Budget("three", 1, "day", group="gone", model="m"),
    ]
    assert [level.budget for level in levels(*budgets, model=None, kind=None)] == ["one", "two"]


def test_a_run_without_groups_draws_on_no_budget_of_groups() -> None:
    assert levels(Budget("b", 1, "day", group="*"), Budget("all", 1, "day"), groups=())[0].budget == "all"


def test_the_calendar_is_asked_once_for_each_period(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def counted(window: Window, zone: tzinfo, now: float) -> Period:
        asked.append(now)
        return period_at(window, zone, now)

    budgets = Budgets([Budget("all", 50, "day"), Budget("each", 5, "lifetime", group="*")])
    monkeypatch.setattr("ridges_proxy.billing.budgets.period_at", counted)
    times = [NOW, NOW + 1, MIDNIGHT - 0.001, MIDNIGHT, MIDNIGHT + 1, NOW]
    periods = [budgets.levels_of(RUN, "m", "inference", now)[0].period for now in times]

    assert periods == [DAY, DAY, DAY, "day 2026-12-01", "day 2026-12-01", DAY], "also if a clock is put back"
    assert asked == [NOW, MIDNIGHT, NOW]


def test_a_scope_is_of_a_budget_if_a_call_could_have_it() -> None:
    pattern = Budget("b", 1, "day", group="a:*:z", model="m x*", kind="inference")
    end = "model:m x* kind:inference"
    rows: list[tuple[Budget, str, bool]] = [
        (Budget("b", 1, "day"), "all", True),
        (Budget("b", 1, "day"), "", False),
        (Budget("b", 1, "day", group="a"), "group:a", True),
        (Budget("b", 1, "day", group="a"), "group:ab", False),
        (Budget("b", 1, "day", model="m*"), "model:m*", True),
        (Budget("b", 1, "day", model="m*"), "model:mx", False),
        (pattern, f"group:a:1:z {end}", True),
        (pattern, f"group:a::z {end}", True),
        (pattern, f"group:a:z {end}", False),
        (pattern, f"group:a:1:y {end}", False),
        (pattern, f"group:a:*:z {end}", False),
        (pattern, f"group:a: :z {end}", False),
        (pattern, f"group:a:é:z {end}", False),
        (pattern, "group:a:1:z", False),
        (Budget("b", 1, "day", group="*"), "group:any", True),
    ]

    def check(row: tuple[Budget, str, bool]) -> None:
        budget, scope, expected = row
        assert budget.has_scope(scope) is expected

    check_rows(rows, check)
