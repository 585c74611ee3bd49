from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ridges_proxy import create_app
from ridges_proxy.cli.sessions import sessions
from ridges_proxy.ledger import Session
from ridges_proxy.server.service import EXTENSION
from tests.support.app import ADMIN_KEY, settings_of
from tests.unit.test_cli import assert_fails, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    Run = Callable[..., Result]

NEVER = 4_000_000_000.0


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a command for a server with two sessions."""
    app = create_app(settings_of())
    for name, at in (("second", 1_795_608_000.0), ("first", 1_795_600_000.0)):
        app.extensions[EXTENSION].sessions.add(Session(name, "203.0.113.9\x1b[2J", at, NEVER))
    with serving(app) as url:
        env = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}
        yield lambda *arguments, **options: CliRunner().invoke(sessions, arguments, env=env, **options)


def test_sessions_are_listed_oldest_first(run: Run) -> None:
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["session", "first", "second"]
    assert "2026-11-25 12:00" in lines[2]
    assert r"203.0.113.9\x1b[2J" in lines[1], "nothing that the terminal interprets"
    listed = json.loads(run("list", "--json").stdout)["sessions"]
    assert [session["id"] for session in listed] == ["first", "second"]


def test_a_session_is_ended_by_its_id(run: Run) -> None:
    assert run("end", "first").stdout == "1 session ended\n"
    assert [line.split()[0] for line in run("list").stdout.splitlines()] == ["session", "second"]
    assert_fails(run("end", "first"), 5, "does not know the session 'first'")
    assert_fails(run("end", "a/b"), 5, "does not know the session 'a/b'")


def test_all_sessions_are_ended_after_a_question(run: Run) -> None:
    assert_fails(run("end", "--all", input="n\n"), 1, "Nothing was ended")
    assert len(json.loads(run("list", "--json").stdout)["sessions"]) == 2
    assert run("end", "--all", "--yes").stdout == "2 sessions ended\n"
    assert run("list").stdout == "no sessions\n"
    assert json.loads(run("end", "--all", "--yes", "--json").stdout) == {"ended": 0}


def test_one_session_or_all_must_be_named(run: Run) -> None:
    assert_fails(run("end"), 2, "name one session, or use --all")
    assert_fails(run("end", "first", "--all"), 2, "name one session, or use --all")
