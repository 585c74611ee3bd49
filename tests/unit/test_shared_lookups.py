"""Look-ups of host names that several greenlets share."""

from __future__ import annotations

from socket import gaierror
from typing import Any

import gevent
import pytest

from ridges_proxy.runtime import shared_lookups
from ridges_proxy.runtime.shared_lookups import SharedLookups

TIMEOUT_SECONDS = 20.0
CALLERS = 30
"""More than the threads for look-ups."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The questions to the operating system, which knows only the name `known`."""
    questions: list[tuple[Any, ...]] = []

    def getaddrinfo(*question: Any) -> list[Any]:  # noqa: ANN401 - the signature of the real one
        questions.append(question)
        if question[0] != "known":
            raise gaierror("unknown")
        return ["address"]

    monkeypatch.setattr(shared_lookups, "_getaddrinfo", getaddrinfo)
    return questions


def test_those_who_ask_for_the_same_name_at_the_same_time_share_a_lookup(
    asked: list[tuple[Any, ...]],
) -> None:
    lookups = SharedLookups()
    callers = [gevent.spawn(lookups.getaddrinfo, "known", 443) for _ in range(CALLERS)]
    gevent.joinall(callers, TIMEOUT_SECONDS)
    assert [caller.value for caller in callers] == [["address"]] * CALLERS
    assert asked == [("known", 443)]


def test_each_of_them_gets_the_error(asked: list[tuple[Any, ...]]) -> None:
    lookups = SharedLookups()

    def error() -> type[Exception] | None:
        try:
            lookups.getaddrinfo("unknown", 443)
        except gaierror as caught:
            return type(caught)
        return None

    callers = [gevent.spawn(error) for _ in range(CALLERS)]
    gevent.joinall(callers, TIMEOUT_SECONDS)
    assert [caller.value for caller in callers] == [gaierror] * CALLERS
    assert asked == [("unknown", 443)]


def test_a_later_question_and_another_one_have_lookups_of_their_own(asked: list[tuple[Any, ...]]) -> None:
    lookups = SharedLookups()
    for port in (443, 443, 80):
        assert lookups.getaddrinfo("known", port) == ["address"]
    assert asked == [("known", 443), ("known", 443), ("known", 80)]
