"""docs/start/why.md: its figures are those of the measurements."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.table import check_rows

DOCS = Path(__file__).parents[2] / "docs"

SCENARIOS = {
    "a hundred calls at once, budget for one": "100 at once, budget for 1,",
    "a hundred calls at once, budget for five": "100 at once, budget for 5,",
    "the client leaves in the middle of an answer": "leaves mid answer,",
    "the client leaves before the answer begins": "leaves before headers,",
    "the upstream reports no usage": "usage: none,",
    "the call is repeated after a timeout": "the same body again after a timeout,",
    "the answer ignores `max_tokens`": "ignores max_tokens,",
    "the request names five answers (`n`)": "max_tokens: n,",
}
"""The row of the page, and how the rows of the measurements begin: one for each kind of call."""


def rows_of(page: str) -> list[list[str]]:
    lines = (DOCS / page).read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def worst(cells: list[str]) -> str:
    amounts = [int(cell.replace(",", "")) for cell in cells if re.fullmatch(r"[\d,]+", cell)]
    return f"{max(amounts):,}" if amounts else ""


def test_each_figure_is_the_worst_that_was_measured() -> None:
    measured = rows_of("reference/overspend.md")
    head, _, *rows = rows_of("start/why.md")
    (columns,) = [each for each in measured if not each[0] and "guide's service" in each]
    first_other = columns.index("guide's service")
    measured = [each for each in measured if len(each) == len(columns)]

    def check(row: list[str]) -> None:
        found = [each for each in measured if each[0].startswith(SCENARIOS[row[0]])]
        counting, litellm = (
            worst([each[columns.index(name)] for each in found]) for name in ("guide's service", "LiteLLM")
        )
        ours = worst([cell for each in found for cell in each[1:first_other]])
        assert row[1:] == [counting, litellm, ours]

    assert head[1:] == ["counting", "LiteLLM", "this proxy"]
    assert [row[0] for row in rows] == list(SCENARIOS)
    check_rows(rows, check)


def test_the_drawing_and_the_text_have_the_same_figures() -> None:
    page, drawing = (DOCS / "start/why.md").read_text(), (DOCS / "images/why.svg").read_text()
    overspend = (DOCS / "reference/overspend.md").read_text()
    (largest,) = {row[1] for row in rows_of("start/why.md") if row[0].endswith("budget for one")}
    assert f"{largest} %" in drawing
    (used,) = re.findall(r"utilisation ([\d.]+)% in the mean", overspend)
    assert f"{used} % of its budget" in page
