"""The context lengths that the upstream publishes: when they are read, and what a failure does."""

from __future__ import annotations

import json
import logging
import socket
from typing import TYPE_CHECKING

from ridges_proxy.calls import context_lengths
from ridges_proxy.calls.context_lengths import REFRESH_SECONDS, RETRY_SECONDS, ContextLengths
from ridges_proxy.upstream.model_catalog import IDLE_TIMEOUT_SECONDS
from tests.support.app import settings_of
from tests.support.clock import Clock
from tests.support.one_answer import answering, closed_url, http

if TYPE_CHECKING:
    import pytest


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
    monkeypatch.setattr(context_lengths, "READ_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reading = lengths_of(f"http://127.0.0.1:{silent.getsockname()[1]}", Clock()).refresh()
        assert reading is not None
        reading.get(timeout=IDLE_TIMEOUT_SECONDS / 2)
    assert [record.__dict__["code"] for record in caplog.records] == ["upstream_timeout"]


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
            clock.advance(RETRY_SECONDS)

    own = [record for record in caplog.records if record.name == "ridges_proxy.calls.context_lengths"]
    assert [record.__dict__["code"] for record in own] == ["upstream_unreachable"]
    assert lengths.of("m") == 4_096
