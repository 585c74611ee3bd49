"""The help of every command at 80 columns: it fits, nothing is cut, and its two examples work."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.cli.command_help import Command, Group
from ridges_proxy.cli.main import COMMANDS, main
from ridges_proxy.ledger import Kind, MemoryLedger, Run, Session, SqliteLedger
from ridges_proxy.server.service import EXTENSION
from tests.support.app import ADMIN_KEY, environ_of, settings_of
from tests.support.one_answer import answering, http
from tests.support.table import each_row
from tests.unit.test_cli import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COLUMNS = 80

BUDGETS = [
    {"name": "all", "usd": 50, "window": "day"},
    {"name": "miner", "usd": 5, "window": "lifetime", "group": "miner:*"},
]

ONLY_PARSED = {
    "demo": "runs until it is stopped: tests/process/test_demo.py",
    "serve": "replaces the process",
    "reload": "needs a server's process: tests/process/test_reload_command.py",
    "spend watch --every": "runs until it is stopped",
    "ledger migrate sqlite:///ledger.db redis:": "needs Redis: tests/contract/test_migration.py",
    "ledger reconcile": "needs a ledger with single calls: tests/unit/test_cli_reconcile.py",
}
"""Examples that this test parses but does not run, by their beginning."""

STATUSES = {"doctor": {0, 1}, "prices check": {0, 6}}
"""The exit statuses of examples that report on what they find; the others end with 0."""


def commands(command: click.Command = main, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its names."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, *path, name)


TREE = list(commands())
EXAMPLES = [line for _, command in TREE for line in (command.epilog or "").splitlines()]


def help_of(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(main, [*path, "--help"], prog_name="ridges-proxy", terminal_width=COLUMNS)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def arguments_of(line: str) -> list[str]:
    """The arguments of the command in an example, without what its shell does around it."""
    (command,) = re.findall(r"(?<![\w-])ridges-proxy ([^|)]+)", line)
    return shlex.split(command)


@each_row("path", [path for path, _ in TREE])
def test_the_help_fits_and_cuts_nothing(path: tuple[str, ...]) -> None:
    lines = help_of(path).splitlines()
    assert [line for line in lines if len(line) > COLUMNS] == []
    assert [line for line in lines[1:] if line.endswith("...")] == []
    assert [line for line in lines if line.endswith("ridges-")] == [], "a command is broken at its hyphen"


@each_row(("path", "command"), TREE)
def test_the_help_ends_with_two_examples_of_the_command(
    path: tuple[str, ...], command: click.Command
) -> None:
    assert isinstance(command, Command | Group)
    *_, title, first, second = help_of(path).splitlines()
    assert (title, first[:2], second[:2]) == ("Examples:", "  ", "  ")
    for line in (first, second):
        assert tuple(arguments_of(line)[: len(path)]) == path


def test_the_names_and_texts_of_the_commands_are_those_of_their_modules() -> None:
    """`ridges-proxy --help` and the completion of a shell list them without importing the modules."""
    assert [path[0] for path, _ in TREE if len(path) == 1] == sorted(COMMANDS)
    assert all(command.name == path[-1] for path, command in TREE if path)


def parsed(arguments: list[str]) -> list[str]:
    """Parse the arguments without running anything. Return the names of the command."""
    context = main.make_context("ridges-proxy", list(arguments))
    names: list[str] = []
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert name is not None
        assert command is not None
        names.append(name)
        context = command.make_context(name, rest, parent=context)
    return names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "docs" / "reference" / "api.md"
    page.parent.mkdir(parents=True)
    page.write_text((ROOT / "docs" / "reference" / "api.md").read_text("utf-8"), encoding="utf-8")
    (tmp_path / "bill.csv").write_text((ROOT / "docs" / "samples" / "bill.csv").read_text("utf-8"))
    entry = '[[budgets]]\nname = "all"\nusd = 50\nwindow = "day"\n'
    (tmp_path / "budgets.toml").write_text(entry)
    SqliteLedger(tmp_path / "ledger.db", 1200.0).disconnect()
    return tmp_path


@contextmanager
def served() -> Iterator[str]:
    """Serve an app that knows the runs, the budgets and the session of the examples."""
    ledger = MemoryLedger(1200.0)
    ledger.settle(ledger.reserve(Run("agent-7", 10**9), Kind.INFERENCE, 270, 270, 60.0), 270)
    app = create_app(settings_of(BUDGETS=json.dumps(BUDGETS), RUN_TOKEN_KEY="k" * 32), ledger)
    app.extensions[EXTENSION].sessions.add(Session("0123456789abcdef", "192.0.2.1", 0.0, 4_000_000_000.0))
    with serving(app) as url:
        yield url


@each_row("line", EXAMPLES)
def test_an_example_works(folder: Path, line: str) -> None:
    arguments = arguments_of(line)
    if any(" ".join(arguments).startswith(beginning) for beginning in ONLY_PARSED):
        parsed(arguments)
        return
    models = http(json.dumps({"object": "list", "data": []}).encode())
    with served() as url, answering(models) as upstream:
        settings = environ_of(
            PROXY_URL=url,
            ADMIN_API_KEY=ADMIN_KEY,
            CHUTES_BASE_URL=f"{upstream.url}/v1",
            CHUTES_EMBEDDING_URL=f"{upstream.url}/embed",
            BUDGETS=json.dumps(BUDGETS),
            LEDGER_URL=f"sqlite:///{folder}/ledger.db",
        )
        result = CliRunner().invoke(main, arguments, env=settings, input="y\n")
    statuses = next((STATUSES[each] for each in STATUSES if " ".join(arguments).startswith(each)), {0})
    assert result.exit_code in statuses, result.output
    assert result.output or arguments[0] == "fields"
