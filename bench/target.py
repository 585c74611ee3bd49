"""A figure and the target that it should reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.tables import markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("", "target", "measured", "reached")
MISSED = "not reached"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A measured figure, with the most or the least that it should be, or with neither."""

    name: str
    measured: float | None
    """None if it could not be measured here."""
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def has_limit(self) -> bool:
        return (self.most, self.least) != (None, None)

    @property
    def reached(self) -> bool | None:
        """Whether it is reached; None without a limit or a figure."""
        if self.measured is None or not self.has_limit:
            return None
        return (self.most is None or self.measured <= self.most) and (
            self.least is None or self.measured >= self.least
        )

    def row(self) -> tuple[str, str, str, str]:
        limits = (("≤", self.most), ("≥", self.least))
        target = " ".join(f"{sign} {self._text(limit)}" for sign, limit in limits if limit is not None)
        measured = "not measured" if self.measured is None else self._text(self.measured)
        verdict = {None: "", True: "reached", False: MISSED}[self.reached]
        return self.name, target, measured, verdict

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "reached": self.reached}

    def _text(self, figure: float) -> str:
        """The figure with its unit. A count is an int, and is written in full."""
        decimals = 0 if isinstance(figure, int) or figure >= 100 else 1 if figure >= 10 else 2
        return f"{figure:,.{decimals}f} {self.unit}".strip()


def table(targets: Sequence[Target]) -> str:
    """Return a table of the targets."""
    return markdown_table(COLUMNS, [target.row() for target in targets])


def count(targets: Sequence[Target]) -> str:
    """Return how many targets are reached."""
    limited = [target for target in targets if target.has_limit]
    return f"{sum(bool(target.reached) for target in limited)} of {len(limited)} targets reached"


def summary(targets: Sequence[Target]) -> str:
    """Return how many targets are reached, and which are not reached or not measured."""
    limited = [target for target in targets if target.has_limit]
    missed = [
        f"{name} {found} ({limit})"
        for name, limit, found, verdict in map(Target.row, limited)
        if verdict == MISSED
    ]
    unknown = [target.name for target in limited if target.reached is None]
    parts = [count(targets)]
    parts += [f"not reached: {', '.join(missed)}"] if missed else []
    parts += [f"not measured: {', '.join(unknown)}"] if unknown else []
    return "; ".join(parts)


def as_json(targets: Sequence[Target]) -> dict[str, Any]:
    """Return the summary and each target."""
    return {"summary": summary(targets), "targets": [target.as_json() for target in targets]}
