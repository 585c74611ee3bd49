"""Targets of speed: the figures from samples, the verdicts, and the summary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench import target, targets
from bench.http_load import Round
from bench.http_request import ROUTES
from bench.latency import Latency
from bench.peers import __main__ as peers
from bench.peers.flask_floors import BARE_RELAY
from bench.streams import Figures
from bench.target import Target
from bench.workers import Measured, ratios_of
from tests.support.table import check_rows, each_row

if TYPE_CHECKING:
    from pathlib import Path


def round_of(rate: float = 100, p50: float = 10, p99: float = 20, cpu: float = 100, errors: int = 0) -> Round:
    return Round(rate, p50, p99, errors, cpu, 50_000)


def by_name(found: list[Target]) -> dict[str, Target]:
    return {each.name: each for each in found}


@each_row(
    ("measured", "most", "least", "reached"),
    [
        (1.0, 1.0, None, True),
        (1.001, 1.0, None, False),
        (88.0, None, 88.0, True),
        (87.9, None, 88.0, False),
        (5.0, 6.0, 4.0, True),
        (3.0, 6.0, 4.0, False),
        (5.0, None, None, None),
        (None, 1.0, None, None),
    ],
)
def test_a_target_is_reached_within_its_limit(
    measured: float | None, most: float | None, least: float | None, *, reached: bool | None
) -> None:
    assert Target(name="x", measured=measured, most=most, least=least).reached is reached


def test_the_table_and_the_summary_name_what_was_not_reached_or_not_measured() -> None:
    found = [
        Target(name="a", measured=0.99, most=1.0),
        Target(name="b", measured=61.9, unit="MB", most=55.0),
        Target(name="c", measured=None, unit="%", least=85.0),
        Target(name="d", measured=12_345),
    ]

    assert target.table(found).splitlines()[2:] == [
        "| a | ≤ 1.00 | 0.99 | reached |",
        "| b | ≤ 55.0 MB | 61.9 MB | not reached |",
        "| c | ≥ 85.0 % | not measured |  |",
        "| d |  | 12,345 |  |",
    ]
    assert target.as_json(found)["summary"] == (
        "1 of 3 targets reached; not reached: b 61.9 MB (≤ 55.0 MB); not measured: c"
    )


def test_the_ratios_of_routes_are_medians_of_the_ratios_of_rounds() -> None:
    # The machine is half as fast in the second round.
    results = {name: [round_of(cpu=90), round_of(cpu=180), round_of(cpu=120)] for name in ROUTES}
    results[BARE_RELAY] = [round_of(cpu=100), round_of(cpu=200), round_of(cpu=100)]
    results["/v1 whole"] = [round_of(p99=20), round_of(p99=90), round_of(p50=20, p99=100, errors=2)]

    found = by_name(list(targets.targets_of_routes(results)))

    assert found["/agents/inference: CPU of a call / bare relay"].measured == pytest.approx(0.9)
    assert found["/v1 whole: p99 / p50 in the closed loop"].measured == pytest.approx(5.0)
    assert found["/v1 whole: p99 / p50 in the closed loop"].reached is False
    assert found["errors in the closed loop"].measured == 2


def test_a_ledger_that_is_not_there_is_not_measured() -> None:
    results = {f"{route}, memory": [round_of(rate=100)] for route in ROUTES}
    results |= {f"{route}, sqlite": [round_of(rate=90)] for route in ROUTES}

    found = by_name(list(targets.targets_of_ledgers(results)))

    assert found["/v1 whole: sqlite / memory"].measured == pytest.approx(90)
    assert found["/v1 whole: redis / memory"].measured is None


def test_figures_come_from_the_samples() -> None:
    straight, through = {"p50": 1.0, "p99": 2.0, "errors": 0.0}, {"p50": 3.0, "p99": 9.0, "errors": 1.0}
    latency = Latency(50, [(straight, through), (straight, through), (straight, {**through, "p50": 90.0})])
    streams = Figures(
        {"seconds_p50": 4.0, "seconds_p99": 4.0, "errors": 0},
        {"seconds_p50": 4.2, "seconds_p99": 8.0, "errors": 3},
        41.25,
    )
    one, two = Measured(1, None), Measured(2, None)  # type: ignore[arg-type] # only their figures matter
    one.cpu_seconds, two.cpu_seconds = [0.001, 0.002], [0.00125, 0.002]

    def check(row: tuple[float, float]) -> None:
        assert row[0] == pytest.approx(row[1])

    check_rows(
        [
            (latency.added_milliseconds("p50"), 2.0),
            (latency.added_milliseconds("p99"), 7.0),
            (latency.errors, 3),
            (streams.slow_down("p50"), 1.05),
            (streams.slow_down("p99"), 2.0),
            (streams.errors, 3),
            (ratios_of(one, two)[0], 1.6),
            (ratios_of(one, two)[1], 2.0),
        ],
        check,
    )
    assert latency.cells() == ("1.00", "2.00", "3.00", "9.00", "2.00", "7.00", "3")
    assert streams.cells() == ("4.00", "4.00", "4.20", "8.00", "1.05", "2.00", "41.2", "3")


def test_the_ratio_to_a_gateway_that_answers_nothing_is_not_measured() -> None:
    names = {name for pair in peers.RATE_RATIOS for name in pair[:2]} | {BARE_RELAY}
    results = {name: [round_of(rate=60, cpu=200)] for name in names}
    results |= {"Portkey whole": [round_of(rate=0)], BARE_RELAY: [round_of(cpu=100)]}
    del results["guide's service"]

    found = peers.targets_of(results)

    assert [each.name for each in found if each.measured is None] == [
        "/agents/inference / guide's service: requests a second",
        "/v1 whole / Portkey whole: requests a second",
        "Portkey whole / bare relay: CPU of a call",
    ]
    summary = peers.as_json(found)["summary"]
    assert "/v1 streamed / LiteLLM streamed: requests a second 1.00" in summary
    assert "not reached: /v1 streamed / LiteLLM" in summary
    assert "/v1 whole / bare relay: CPU of a call 2.00" in summary


def test_the_command_always_exits_with_0_and_writes_the_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure_speed(_options: object) -> list[Target]:
        """The speed."""
        return [Target(name="speed", measured=9.0, most=1.0)]

    page, file = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("<!-- targets: begin -->\n<!-- targets: end -->\n")
    monkeypatch.setattr(targets, "parts", lambda _options: [measure_speed])
    monkeypatch.setattr("sys.argv", ["targets", "--json", str(file), "--page", str(page)])

    targets.main()

    assert capsys.readouterr().err == "The speed.\n"  # what is measured now: it takes minutes
    assert "| speed | ≤ 1.00 | 9.00 | not reached |" in page.read_text()
    assert json.loads(file.read_text())["summary"].startswith("0 of 1 targets reached")
