"""The steps: each is a target of the Makefile, whole or in its short form."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.processes import ROOT
from bench.proof.figures import from_junit, from_mutants, from_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

OPTIONS = "OPTIONS"
"""The variable of the Makefile with more options of a command."""

JUNIT = ROOT / "build" / "junit"
MUTANTS = ROOT / "mutants"


@dataclass(frozen=True)
class Step:
    """A command, and how its figures are read."""

    name: str
    target: str
    """Of the Makefile."""
    quick: tuple[tuple[str, str], ...] = ()
    """The variables of its short form."""
    page: str = ""
    """The page into which the whole form writes its table."""
    figure: Callable[[Sequence[Path]], str] = from_summary
    files: tuple[Path, ...] = ()
    """Those that the command writes in any case. Without them it is asked for a file."""

    def shown_command(self, *, quick: bool) -> str:
        """Return what to type."""
        return " ".join(["make", self.target, *(f"{name}='{value}'" for name, value in self._chosen(quick))])

    def command(self, file: Path, *, quick: bool) -> list[str]:
        """Return the command that also writes its figures to the file, and its table into the page."""
        variables = dict(self._chosen(quick))
        if not self.files:
            page = f"--page {self.page}" if self.page and not quick else ""
            variables[OPTIONS] = f"{variables.get(OPTIONS, '')} --json {file} {page}".strip()
        return ["make", self.target, *(f"{name}={value}" for name, value in variables.items())]

    def _chosen(self, quick: bool) -> tuple[tuple[str, str], ...]:  # noqa: FBT001 - named in the callers
        return self.quick if quick else ()


STEPS = (
    Step(
        "targets",
        "targets",
        quick=((OPTIONS, "--rounds 1 --seconds 1 --streams 100"),),
        page="docs/reference/proof.md",
    ),
    Step("peers", "bench-peers", quick=((OPTIONS, "--rounds 1 --seconds 1"),)),
    Step(
        "fuzz",
        "fuzz",
        quick=(("FUZZ_EXAMPLES", "3"),),
        figure=from_junit,
        files=(JUNIT / "fuzz.xml",),
    ),
    Step(
        "clients",
        "clients",
        quick=(("CLIENTS", "openai-python"),),
        figure=from_junit,
        files=(JUNIT / "clients.xml",),
    ),
    Step("boot", "boot", figure=from_junit, files=(JUNIT / "boot.xml", JUNIT / "containers.xml")),
    Step("soak", "soak", quick=((OPTIONS, "--minutes 0.5 --share 0.3"),)),
    Step(
        "utilisation",
        "utilisation",
        quick=((OPTIONS, "--quick --kinds growing --ledgers memory"),),
        page="docs/reference/overspend.md",
    ),
    Step(
        "overspend",
        "overspend",
        quick=((OPTIONS, "--quick --only leaves"),),
        page="docs/reference/overspend.md",
    ),
    Step(
        "mutants",
        "mutants",
        quick=(("MUTANTS", "ridges_proxy.billing.money.*"),),
        figure=from_mutants,
        files=(MUTANTS / "mutmut-cicd-stats.json",),
    ),
)
"""From short to long. Peers are part of `overspend`, too."""


def forget_old_mutants(folder: Path, commit: str, mutants: Path = MUTANTS) -> None:
    """Remove the results of another commit, of which mutmut would keep those of unchanged files.

    Remove also mutants that are not complete, because their generation was stopped: mutmut would keep half a
    file. It writes its list of the tests when all of them are there.
    """
    marker = folder / "mutants-commit"
    is_same = marker.exists() and marker.read_text("utf-8") == commit
    if not (is_same and (mutants / "mutmut-stats.json").exists()):
        shutil.rmtree(mutants, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(commit, encoding="utf-8")
