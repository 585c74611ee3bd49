"""The results of steps: one file for each step and commit in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from bench.processes import ROOT
from bench.proof.figures import NoFiguresError
from bench.tables import machine

if TYPE_CHECKING:
    from pathlib import Path

    from bench.proof.steps import Step

FOLDER = ROOT / "build" / "proof"


@dataclass(frozen=True)
class Result:
    """The outcome of a step at a commit."""

    step: str
    commit: str
    quick: bool
    command: str
    started: str
    """The time in UTC, in ISO 8601."""
    seconds: float
    status: int
    """Of the command's exit; 0 is success."""
    figure: str
    """Empty if the command has left none."""
    problem: str
    """Why there is no figure; empty if there is one."""
    machine: str

    @property
    def passed(self) -> bool:
        return not self.status and not self.problem

    def save(self, folder: Path) -> None:
        file = file_of(folder, self.step, self.commit, ".json", quick=self.quick)
        file.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, step: str, commit: str, *, quick: bool) -> Self | None:
        """Return the result of the step at the commit; None if it did not come to its end."""
        file = file_of(folder, step, commit, ".json", quick=quick)
        return cls(**json.loads(file.read_text("utf-8"))) if file.exists() else None


def file_of(folder: Path, step: str, commit: str, ending: str, *, quick: bool) -> Path:
    """Return the path of a file about a step, in a folder for the commit, which is made."""
    (folder / commit).mkdir(parents=True, exist_ok=True)
    return folder / commit / f"{step}{'-quick' if quick else ''}{ending}"


def run(step: Step, commit: str, folder: Path, *, quick: bool) -> Result:
    """Run a step to its end. Its output goes to a log file beside the result."""
    figures, log = (
        file_of(folder, step.name, commit, ending, quick=quick) for ending in ("-figures.json", ".log")
    )
    files = step.files or (figures,)
    for file in files:
        file.unlink(missing_ok=True)  # figures of an earlier run
    print(f"{step.name}: {step.shown_command(quick=quick)}; its output: {log}", flush=True)
    started, begin = datetime.now(UTC), time.monotonic()
    with log.open("wb") as output:
        command = step.command(figures, quick=quick)
        done = subprocess.run(
            command, cwd=ROOT, env=_environ(), stdout=output, stderr=subprocess.STDOUT, check=False
        )
    try:
        figure, problem = step.figure(files), ""
    except NoFiguresError as error:
        figure, problem = "", str(error)
    return Result(
        step=step.name,
        commit=commit,
        quick=quick,
        command=step.shown_command(quick=quick),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begin, 1),
        status=done.returncode,
        figure=figure,
        problem=problem,
        machine=machine(),
    )


def _environ() -> dict[str, str]:
    """The environment without the variables of a make that has started this program."""
    of_make = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "OPTIONS"}
    return {name: value for name, value in os.environ.items() if name not in of_make}
