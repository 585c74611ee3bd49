"""The facts of an attempt, and the course of a response over time: the values that a call is charged by."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ridges_proxy.billing.prices import Usage
from ridges_proxy.upstream.attempt import UNANSWERED_STATUSES, Attempt
from ridges_proxy.upstream.progress import Progress
from tests.support.table import check_rows


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The monotonic clock of the attempt: a test sets `now`."""
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("ridges_proxy.upstream.attempt.time", clock)
    return clock


# --- what happened ----------------------------------------------------------------------------------------


def test_a_status_says_whether_an_answer_comes_and_whether_the_call_is_free() -> None:
    def check(row: tuple[int, bool, bool]) -> None:
        status, answering, refused = row
        attempt = Attempt()
        attempt.record_status(status)
        assert (attempt.answering, attempt.refused, attempt.sent) == (answering, refused, True)
        assert attempt.upstream_status == status

    refusals = (300, 400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503, 521, 523, 529, 530)
    rows = [(200, True, False), (201, False, False), (204, False, False), (299, False, False)]
    rows += [(status, False, True) for status in refusals]
    rows += [(status, False, False) for status in UNANSWERED_STATUSES]
    check_rows(rows, check)


def test_only_the_first_start_and_the_first_event_count(time: SimpleNamespace) -> None:
    attempt = Attempt()
    attempt.record_start()
    time.now = 101.0
    attempt.record_start()
    attempt.record_status(200)
    attempt.record_piece()
    attempt.record_first_event()
    time.now = 102.0
    attempt.record_piece()
    attempt.record_first_event()

    assert (attempt.started_at, attempt.first_event_at, attempt.progress.now) == (100.0, 101.0, 102.0)
    assert attempt.progress.last_text_at == 101.0


def test_the_seconds_count_from_the_start_to_the_end_or_to_now(time: SimpleNamespace) -> None:
    attempt = Attempt()
    assert (attempt.seconds, attempt.first_event_seconds) == (0.0, None)
    attempt.record_start()
    time.now = 102.5
    assert (attempt.seconds, attempt.first_event_seconds) == (2.5, None)
    attempt.record_piece()
    attempt.record_first_event()
    time.now = 104.0
    attempt.record_end()
    time.now = 200.0
    assert (attempt.seconds, attempt.first_event_seconds) == (4.0, 2.5)


def test_after_a_refusal_the_attempt_is_as_new(time: SimpleNamespace) -> None:
    attempt = Attempt(max_tokens=5, choices=2)
    attempt.record_status(200)
    attempt.record_piece()
    attempt.record_first_event()
    attempt.began = attempt.refused = attempt.option_refused = True
    attempt.received_tokens = 3
    attempt.record_end()

    attempt.forget_refusal()

    assert attempt == Attempt(max_tokens=5, choices=2)
    assert attempt.first_event_at is None
    time.now = 300.0
    attempt.record_start()
    assert attempt.started_at == 300.0


def test_the_next_try_starts_again_and_keeps_what_the_earlier_ones_may_cost() -> None:
    """Rows: the earlier tokens before it, those received, those reported; and the earlier tokens after it."""

    def check(row: tuple[int, int, int | None, int]) -> None:
        earlier, received, reported, expected = row
        attempt = Attempt(earlier_tokens=earlier, received_tokens=received, deltas=4, text_bytes=9)
        if reported is not None:
            attempt.record_usage(Usage(7, reported))
        attempt.complete = True

        attempt.record_next_try()

        assert attempt == Attempt(earlier_tokens=expected, received_tokens=expected)
        assert attempt.progress == Progress()

    check_rows(
        [(0, 0, None, 0), (0, 8, None, 8), (5, 4, None, 5), (0, 8, 3, 8), (2, 8, 9, 11), (6, 8, 2, 8)], check
    )


# --- what it costs ----------------------------------------------------------------------------------------


def test_a_usage_is_disproved_by_more_deltas_or_bytes_than_its_tokens_can_be() -> None:
    """Rows: the reported tokens, the deltas and the bytes. A token has at most 128 bytes and two deltas."""

    def check(row: tuple[int | None, int, int, bool]) -> None:
        reported, deltas, text_bytes, disproved = row
        usage = None if reported is None else Usage(7, reported)
        attempt = Attempt(usage=usage, deltas=deltas, text_bytes=text_bytes, complete=True)
        assert attempt.usage_disproved is disproved

    check_rows(
        [
            (None, 100, 100_000, False),
            (10, 20, 1_280, False),
            (10, 20, 1_281, True),
            (10, 21, 1_280, True),
            (0, 0, 0, False),
            (0, 1, 0, True),
        ],
        check,
    )


def test_an_incomplete_response_costs_what_may_have_been_made_since_its_report(time: SimpleNamespace) -> None:
    """The upstream has a second to notice the end. One report has no speed: 1,000 tokens a second count."""
    attempt = Attempt(earlier_tokens=30)
    attempt.record_piece()
    attempt.received_tokens = 8
    attempt.record_usage(Usage(7, 40, cached_tokens=3))
    attempt.received_tokens = 13
    time.now = 100.5
    attempt.record_piece()
    assert attempt.counted_usage == Usage(7, 40 + 1_500 + 30, cached_tokens=3), "until its last data"
    time.now = 101.0
    attempt.record_end()
    assert attempt.counted_usage == Usage(7, 40 + 2_000 + 30, cached_tokens=3), "until its end"
    attempt.complete = True
    assert attempt.counted_usage == Usage(7, 40 + 13 - 8, cached_tokens=3)


def test_a_smaller_report_counts_only_when_the_response_is_complete(time: SimpleNamespace) -> None:
    attempt = Attempt()
    attempt.record_piece()
    attempt.record_usage(Usage(7, 40))
    attempt.record_usage(Usage(7, 10))
    time.now = 100.0
    assert attempt.counted_usage == Usage(7, 40 + 1_000)
    attempt.complete = True
    assert attempt.counted_usage == Usage(7, 10)


def test_without_a_usage_the_bound_has_the_tokens_made_since_the_last_text(time: SimpleNamespace) -> None:
    attempt = Attempt(choices=2, received_tokens=5)
    assert attempt.bound_tokens == 5
    attempt.record_status(200)
    time.now = 100.55
    attempt.record_end()
    assert (attempt.counted_usage, attempt.bound_tokens) == (None, 5 + 2 * 500)
    attempt.complete = True
    assert attempt.bound_tokens == 5


def test_tokens_may_be_unseen_when_they_are_hidden_or_after_a_second_of_silence() -> None:
    """Rows: hidden, longest pause, silence at the end, complete; and whether tokens may be unseen."""

    def check(row: tuple[bool, float, float, bool, bool]) -> None:
        hidden, pause, silence, complete, expected = row
        attempt = Attempt(hides_tokens=hidden, complete=complete, ended_at=50.0 + silence)
        attempt.progress = Progress(last_text_at=50.0, longest_pause_seconds=pause)
        assert attempt.may_have_unseen_tokens is expected

    check_rows(
        [
            (False, 0.0, 0.0, False, False),
            (True, 0.0, 0.0, True, True),
            (False, 1.0, 1.0, False, False),
            (False, 1.5, 0.0, True, True),
            (False, 0.0, 1.5, False, True),
            (False, 0.0, 1.5, True, False),
        ],
        check,
    )
    assert not Attempt(ended_at=50.0).may_have_unseen_tokens


# --- the course of a response -----------------------------------------------------------------------------


def test_the_longest_pause_is_between_two_texts() -> None:
    progress = Progress()
    for now in (10.0, 11.0, 14.0, 16.0):
        progress.now = now
        progress.record_text()

    assert (progress.longest_pause_seconds, progress.last_text_at) == (3.0, 16.0)


def test_the_speed_is_measured_between_the_first_report_and_the_last() -> None:
    """Rows: the reports (time, tokens); and the speed, which is twice the mean if it was measured."""

    def check(row: tuple[list[tuple[float, int]], float]) -> None:
        reports, speed = row
        progress = Progress()
        for progress.now, tokens in reports:
            progress.record_report(tokens, 0)
        assert progress.tokens_per_second(2) == speed

    check_rows(
        [
            ([], 2_000),
            ([(10.0, 5)], 2_000),
            ([(10.0, 5), (10.25, 50)], 2_000),
            ([(10.0, 5), (10.5, 50)], 2 * 90),
            ([(10.0, 5), (11.0, 15), (14.0, 45)], 2 * 10),
        ],
        check,
    )


def test_tokens_since_the_report_include_a_second_until_the_upstream_notices() -> None:
    progress = Progress(now=10.0)
    assert progress.tokens_since_report(12.0, 1) == 0, "without a report there is nothing to add to"
    progress.record_report(7, 3)

    assert (progress.reported_tokens, progress.most_reported_tokens, progress.received_tokens) == (7, 7, 3)
    assert progress.tokens_since_report(10.0, 1) == 1_000
    assert progress.tokens_since_report(9.0, 1) == 1_000, "the report came with the end"
    assert progress.tokens_since_report(10.0004, 3) == 3_002, "rounded up"


def test_tokens_since_the_text_do_not_count_an_ordinary_pause() -> None:
    progress = Progress()
    assert progress.tokens_since_text(12.0, 1) == 0
    progress.last_text_at = 0.0

    assert progress.tokens_since_text(0.05, 1) == 0
    assert progress.tokens_since_text(0.0, 1) == 0
    assert progress.tokens_since_text(0.5501, 2) == 1_001, "rounded up"
