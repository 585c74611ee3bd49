from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.runtime.cooperative import PAUSE_SECONDS
from ridges_proxy.upstream import body_reader
from ridges_proxy.upstream.body_reader import (
    MAX_PAUSE_SECONDS,
    READS_PER_SECOND,
    ReadPacer,
    read_pieces,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class CutError(Exception):
    """Something ends the call from outside."""


class Body:
    """Pieces that have come; then there is a wait without an end, or the end."""

    def __init__(self, *pieces: bytes, ends: bool = False) -> None:
        self.pieces = list(pieces)
        self.closed = False
        self._ends = ends

    @property
    def raw(self) -> Body:
        return self

    def read1(self, _size: int, *, decode_content: bool) -> bytes:
        assert not decode_content
        if not self.pieces and not self._ends:
            Event().wait()
        piece = self.pieces.pop(0) if self.pieces else b""
        self.closed = self._ends and not self.pieces
        return piece


def reading_of(body: Body, pace: ReadPacer | None) -> Iterator[bytes]:
    return read_pieces(cast("Any", body), pace, MAX_PAUSE_SECONDS)


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    rests: list[float] = []
    monkeypatch.setattr(gevent, "sleep", rests.append)
    return rests


def paced(answers: int) -> ReadPacer:
    pace = ReadPacer()
    for _ in range(answers):
        pace.__enter__()
    return pace


@pytest.mark.parametrize("answers", [1, 10])
def test_a_few_answers_are_read_as_they_come(answers: int, rests: list[float]) -> None:
    body = Body(b"a", b"b", b"c", ends=True)

    assert list(reading_of(body, paced(answers))) == [b"a", b"b", b"c"]
    assert rests == []


def test_of_many_answers_each_is_read_less_often_and_none_rests_behind_its_end(rests: list[float]) -> None:
    body = Body(b"a", b"b", b"c", ends=True)

    assert list(reading_of(body, paced(1_000))) == [b"a", b"b", b"c"]
    assert rests == [1_000 / READS_PER_SECOND] * 2


def test_a_rest_has_a_limit() -> None:
    assert paced(1_000_000).pause_seconds(2.5) == 2.5


def test_an_answer_that_is_over_counts_no_more() -> None:
    pace = paced(999)
    with pace:
        assert pace.pause_seconds(1) == 0.1
    assert pace.pause_seconds(1) == pytest.approx(0.0999)


def test_an_answer_without_a_pace_never_rests(rests: list[float]) -> None:
    assert list(reading_of(Body(b"a", b"b", ends=True), None)) == [b"a", b"b"]
    assert rests == []


def test_a_fast_answer_pauses_after_its_turn_however_few_there_are(rests: list[float]) -> None:
    turn = b"x" * body_reader.TURN_BYTES

    assert len(list(reading_of(Body(turn, b"a", ends=True), paced(1)))) == 2
    assert rests == [PAUSE_SECONDS]


def read_and_cut(body: Body, cut: BaseException | None = None) -> list[bytes]:
    found: list[bytes] = []

    def read() -> None:
        for piece in reading_of(body, paced(2_000)):
            found.append(piece)  # noqa: PERF402 - what was read before it is cut off is the point

    reader = gevent.spawn(read)
    gevent.sleep(0)
    cut = cut or CutError()
    reader.kill(cut, block=False)
    reader.join()
    assert reader.exception is cut or reader.value is cut
    return found


@pytest.mark.parametrize("cut", [CutError(), gevent.GreenletExit()])
def test_what_came_during_a_rest_comes_before_what_ended_it(cut: BaseException) -> None:
    assert b"".join(read_and_cut(Body(b"a", b"b", b"c"), cut)) == b"abc"


def test_what_ends_a_rest_waits_for_nothing_more_to_come() -> None:
    assert read_and_cut(Body(b"a")) == [b"a", b""]


def test_the_rest_of_an_answer_that_has_come_whole_is_read_to_its_end() -> None:
    assert b"".join(read_and_cut(Body(b"a", b"b", ends=True))) == b"ab"
