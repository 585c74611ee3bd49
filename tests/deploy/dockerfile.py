"""The Dockerfile, parsed into its stages and their steps."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field

from tests.process.fake_chutes_control import ROOT


@dataclass
class Stage:
    """One `FROM` of a Dockerfile with its steps."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def value(self, instruction: str) -> str:
        """Return the argument of an instruction that the stage has once."""
        (found,) = [text for name, text in self.steps if name == instruction]
        return found

    @property
    def environ(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in shlex.split(self.value("ENV")))


def stages(text: str) -> list[Stage]:
    """Parse a Dockerfile: comments removed, continued lines joined."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    found: list[Stage] = []
    for line in filter(str.strip, lines):
        instruction, rest = line.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].steps.append((instruction, rest.strip()))
    return found


STAGES = stages((ROOT / "Dockerfile").read_text())
FINAL = STAGES[-1]
COMMAND = [*json.loads(FINAL.value("ENTRYPOINT")), *json.loads(FINAL.value("CMD"))]
