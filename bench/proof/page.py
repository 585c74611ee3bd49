"""The table of the results in docs/reference/proof.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.pages import part_of, write_part
from bench.tables import markdown_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bench.proof.result import Result
    from bench.proof.steps import Step

PART = "proof"
"""The part of the page."""

COLUMNS = ("proof", "date", "commit", "command", "figure", "duration", "machine")
QUICK = " (quick)"
"""Behind the name of a step in its short form."""


def write(page: Path, steps: Sequence[Step], results: Iterable[Result]) -> None:
    """Write the results into the table. A step without a result keeps its row.

    The row of a whole step stays when the step was run again in its short form.
    """
    rows = {name.removesuffix(QUICK): (name, *cells) for name, *cells in _rows(page)}
    for result in results:
        before = rows.get(result.step)
        if not (result.quick and before and before[1] and not before[0].endswith(QUICK)):
            rows[result.step] = row_of(result)
    ordered = [rows.get(step.name) or _not_run(step) for step in steps]
    write_part(page, PART, markdown_table(COLUMNS, ordered, left=len(COLUMNS)))


def row_of(result: Result) -> tuple[str, ...]:
    """Return the cells of a result."""
    return (
        f"{result.step}{QUICK if result.quick else ''}",
        result.started[:10],
        result.commit,
        f"`{_cell(result.command)}`",
        _cell(_figure(result)),
        duration(result.seconds),
        _cell(result.machine),
    )


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    minutes, rest_seconds = divmod(round(seconds), 60)
    hours, rest_minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest_minutes} min"
    return f"{minutes} min {rest_seconds} s" if minutes else f"{rest_seconds} s"


def _figure(result: Result) -> str:
    if result.passed:
        return result.figure
    reasons = [f"exit status {result.status}" if result.status else "", result.problem]
    failed = f"**failed** ({', '.join(reason for reason in reasons if reason)})"
    return f"{failed}: {result.figure}" if result.figure else failed


def _not_run(step: Step) -> tuple[str, ...]:
    return step.name, "", "", f"`{step.shown_command(quick=False)}`", "not run yet", "", ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _rows(page: Path) -> Iterable[tuple[str, ...]]:
    """Yield the cells of the rows that the page has."""
    _, _, *lines = part_of(page.read_text("utf-8"), PART).strip().splitlines() or ["", ""]
    for line in lines:
        hidden = line.replace(r"\|", "\0")
        yield tuple(cell.strip().replace("\0", r"\|") for cell in hidden.strip("|").split("|"))
