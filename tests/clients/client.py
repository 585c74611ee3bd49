"""A client in an environment of its own: its description, its installation and its process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.process.fake_chutes_control import ROOT
from tests.support.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

FOLDER = Path(__file__).parent
INSTALLED = ROOT / ".clients"
"""Where `make clients` installs them, each in a folder of its own."""

NODE = INSTALLED / "node" / "bin"
"""The programs of Node.js, which all clients in JavaScript share."""

ANSWER_SECONDS = 300.0
"""A scenario that takes longer fails. The slowest imports need six seconds of a core that others use too."""

NOWHERE = "http://127.0.0.1:9"
"""A web proxy that does not exist: whatever a client sends to the internet fails at once."""


@dataclass(frozen=True)
class Client:
    """A client, as its folder describes it."""

    name: str
    title: str
    package: str
    kind: str
    """`library`, or `agent` for a command that edits files."""

    run_busy: str
    """What it does at a 429: `retries` or `raises`."""

    requests_at_402: int
    """How many requests it makes when the run's budget is spent: one, if it knows that this is final."""

    settings: dict[str, str]
    """Environment variables that it is set up with."""

    absent: dict[str, str]
    """Rows that this client cannot have, each with the reason."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        found = tomllib.loads((folder / "client.toml").read_text("utf-8"))
        return cls(
            folder.name,
            found["title"],
            found["package"],
            found.get("kind", "library"),
            found.get("run_busy", "retries"),
            found.get("requests_at_402", 1),
            found.get("variables", {}),
            found.get("absent", {}),
        )

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def environment(self) -> Path:
        return INSTALLED / self.name

    @property
    def pins(self) -> Path:
        """The file with the exact version of every package of this client."""
        names = ("requirements.txt", "package-lock.json")
        return next(path for name in names if (path := self.folder / name).exists())

    @property
    def is_python(self) -> bool:
        return self.pins.suffix == ".txt"

    @property
    def version(self) -> str:
        """The pinned version."""
        text = self.pins.read_text("utf-8")
        if self.is_python:
            (version,) = re.findall(rf"^{re.escape(self.package)}==([^\s;]+)", text, re.MULTILINE)
            return str(version)
        return str(json.loads(text)["packages"][f"node_modules/{self.package}"]["version"])

    def must_be_installed(self) -> None:
        """Skip or fail the test if the environment is missing or has other versions."""
        stamp = self.environment / ".installed"
        if not stamp.exists() or stamp.read_bytes() != self.pins.read_bytes():
            missing(self.title, "make clients")

    def command(self, script: Path) -> list[str]:
        """Return the command that runs a script in this environment."""
        program = self.environment / "bin" / "python" if self.is_python else NODE / "node"
        return [str(program), str(script)]

    def copied(self, script: Path, folder: Path) -> Path:
        """Copy a script, and what it imports, to a folder with the packages: Node looks for them there."""
        packages = folder / "node_modules"
        if not packages.exists():
            packages.symlink_to(self.environment / "node_modules")
        for each in (script, *(FOLDER / "shared").glob("*.mjs")):
            (folder / each.name).write_text(each.read_text("utf-8"), encoding="utf-8")
        return folder / script.name

    def variables(self, home: Path) -> dict[str, str]:
        """Return the environment variables of its processes: no settings of a developer, and no internet."""
        paths = (self.environment / "bin", self.environment / "node_modules" / ".bin", NODE)
        return {
            "PATH": os.pathsep.join([*map(str, paths), os.environ["PATH"]]),
            "HOME": str(home),
            "TMPDIR": str(home),
            "PYTHONPATH": str(FOLDER / "shared"),
            "HTTPS_PROXY": NOWHERE,
            "HTTP_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost",
            "LANG": "C.UTF-8",
            **self.settings,
        }


def all_clients() -> Iterator[Client]:
    """Yield every client that has a folder, in alphabetical order."""
    for path in sorted(FOLDER.glob("*/client.toml")):
        yield Client.read(path.parent)


def selected_clients() -> list[Client]:
    """Return the clients that `make clients CLIENTS=…` names: all, if it names none."""
    chosen = os.environ.get("CLIENTS", "").split()
    return [client for client in all_clients() if not chosen or client.name in chosen]


class Driver:
    """The process of a client's driver. It answers one scenario after another."""

    def __init__(self, client: Client, home: Path) -> None:
        self._client = client
        self._home = home
        self.announced: dict[str, Any] = {}

    def __enter__(self) -> Self:
        script = next(self._client.folder.glob("driver.*"))
        if not self._client.is_python:
            script = self._client.copied(script, self._home)
        self._process = subprocess.Popen(
            self._client.command(script),
            cwd=self._home,
            env=self._client.variables(self._home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.announced = self._answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, scenario: str, **asked: object) -> dict[str, Any]:
        """Run a scenario in the driver. Raises AssertionError if it ends or takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"scenario": scenario, **asked}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        guard = threading.Timer(ANSWER_SECONDS, self._process.kill)
        guard.start()
        try:
            line = self._process.stdout.readline()
        finally:
            guard.cancel()
        assert line, "the driver has ended, or had no answer in time"
        answer: dict[str, Any] = json.loads(line)
        return answer
