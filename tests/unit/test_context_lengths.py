"""The context lengths that the upstream publishes: when they are read, and what a failure does."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import gevent

from ridges_proxy.calls import context_lengths
from ridges_proxy.calls.context_lengths import REFRESH_SECONDS, RETRY_SECONDS, ContextLengths
from tests.support.app import settings_of
from tests.support.clock import Clock
from tests.support.one_answer import answering, closed_url, http

if TYPE_CHECKING:
    import pytest


PATIENCE_SECONDS = 20.0


def listing(tokens: int) -> bytes:
    models = [{"id": "m", "context_length": tokens}, {"id": "n"}]
    return http(json.dumps({"data": models}).encode())


def lengths_of(url: str, clock: Clock) -> ContextLengths:
    return ContextLengths(settings_of(CHUTES_BASE_URL=url), clock)


def refresh(lengths: ContextLengths) -> bool:
    """Do what the second brings. Returns whether a request was made, which has then ended."""
    reading = lengths.refresh()
    if reading is not None:
        reading.get()
    return reading is not None


def test_the_list_is_read_at_the_start_and_once_an_hour() -> None:
    clock = Clock()
    with answering(listing(4_096)) as server:
        lengths = lengths_of(server.url, clock)
        assert lengths.of("m") is None
        assert refresh(lengths)
        assert (lengths.of("m"), lengths.of("n"), lengths.of("other")) == (4_096, None, None)
        assert not refresh(lengths)
        clock.advance(REFRESH_SECONDS)
        assert refresh(lengths)
        assert not refresh(lengths)


def test_nothing_waits_for_the_list() -> None:
    with answering(listing(4_096)) as server:
        lengths = lengths_of(server.url, Clock())
        reading = lengths.refresh()
        assert reading is not None
        assert not reading.ready()
        assert lengths.refresh() is None  # also while the first request is under way
        reading.get()


def test_a_request_has_a_deadline(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []

    def read_without_end(*question: Any) -> None:  # noqa: ANN401 - a URL and a time limit
        asked.append(question)
        gevent.sleep(PATIENCE_SECONDS)

    monkeypatch.setattr(context_lengths, "READ_SECONDS", 0.0)
    monkeypatch.setattr(context_lengths, "fetch_catalog", read_without_end)
    reading = lengths_of("http://127.0.0.1:1", Clock()).refresh()
    assert reading is not None
    reading.get(timeout=PATIENCE_SECONDS / 2)
    assert [record.__dict__["code"] for record in caplog.records] == ["upstream_timeout"]
    assert asked == [("http://127.0.0.1:1", settings_of().connect_timeout_seconds)]


def test_a_failure_is_logged_once_and_tried_again_and_the_known_lengths_stay(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    with answering(listing(4_096)) as server:
        lengths = lengths_of(server.url, clock)
        refresh(lengths)
    monkeypatch.setattr(lengths, "_settings", settings_of(CHUTES_BASE_URL=closed_url()))
    clock.advance(REFRESH_SECONDS)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert refresh(lengths)
            assert not refresh(lengths)
            clock.advance(RETRY_SECONDS)

    own = [record for record in caplog.records if record.name == "ridges_proxy.calls.context_lengths"]
    assert [record.__dict__["code"] for record in own] == ["upstream_unreachable"]
    assert lengths.of("m") == 4_096
