from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.runtime.cooperative import PAUSE_SECONDS
from ridges_proxy.upstream import body_reader
from ridges_proxy.upstream.body_reader import (
    MAX_PAUSE_SECONDS,
    READS_PER_SECOND,
    ReadPacer,
    read_pieces,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator


class CutError(Exception):
    """An interruption of the call from outside."""


class Body:
    """A body whose pieces have arrived; after them it ends, or blocks forever."""

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


def pieces_of(body: Body, pace: ReadPacer | None) -> Iterator[bytes]:
    return read_pieces(cast("Any", body), pace, MAX_PAUSE_SECONDS)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(gevent, "sleep", pauses.append)
    return pauses


def pacer_of(open_streams: int) -> ReadPacer:
    pacer = ReadPacer()
    for _ in range(open_streams):
        pacer.__enter__()
    return pacer


def test_a_few_streams_are_read_without_pauses(pauses: list[float]) -> None:
    def check(open_streams: int) -> None:
        body = Body(b"a", b"b", b"c", ends=True)

        assert list(pieces_of(body, pacer_of(open_streams))) == [b"a", b"b", b"c"]
        assert pauses == []

    check_rows([1, 10], check)


def test_each_of_many_streams_pauses_after_a_read_but_not_after_its_end(pauses: list[float]) -> None:
    body = Body(b"a", b"b", b"c", ends=True)

    assert list(pieces_of(body, pacer_of(1_000))) == [b"a", b"b", b"c"]
    assert pauses == [1_000 / READS_PER_SECOND] * 2


def test_a_pause_has_a_limit() -> None:
    assert pacer_of(1_000_000).pause_seconds(2.5) == 2.5


def test_a_closed_stream_no_longer_counts() -> None:
    pacer = pacer_of(999)
    with pacer:
        assert pacer.pause_seconds(1) == 0.1
    assert pacer.pause_seconds(1) == pytest.approx(0.0999)


def test_a_body_without_a_pacer_has_no_pauses(pauses: list[float]) -> None:
    assert list(pieces_of(Body(b"a", b"b", ends=True), None)) == [b"a", b"b"]
    assert pauses == []


def test_a_fast_stream_pauses_after_its_turn_also_when_it_is_the_only_one(pauses: list[float]) -> None:
    turn = b"x" * body_reader.TURN_BYTES

    assert len(list(pieces_of(Body(turn, b"a", ends=True), pacer_of(1)))) == 2
    assert pauses == [PAUSE_SECONDS]


def test_a_body_above_the_limit_of_all_its_pieces_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "MAX_RESPONSE_BYTES", 4)
    assert list(pieces_of(Body(b"ab", b"cd", ends=True), None)) == [b"ab", b"cd"]
    pieces = pieces_of(Body(b"ab", b"cde", ends=True), None)
    assert next(pieces) == b"ab"
    with pytest.raises(UpstreamBrokenError):
        next(pieces)


def read_and_cut(body: Body, cut: BaseException | None = None) -> list[bytes]:
    pieces: list[bytes] = []

    def read() -> None:
        for piece in pieces_of(body, pacer_of(2_000)):
            pieces.append(piece)  # noqa: PERF402 - the pieces before the interruption are needed

    reader = gevent.spawn(read)
    gevent.sleep(0)
    cut = cut or CutError()
    reader.kill(cut, block=False)
    reader.join()
    assert reader.exception is cut or reader.value is cut
    return pieces


def test_data_that_arrived_during_a_pause_is_returned_before_the_interruption() -> None:
    def check(cut: BaseException) -> None:
        assert b"".join(read_and_cut(Body(b"a", b"b", b"c"), cut)) == b"abc"

    check_rows([CutError(), gevent.GreenletExit()], check)


def test_data_that_arrived_with_an_interruption_of_a_wait_is_returned_before_it() -> None:
    """On a busy machine both can be ready when the reader gets its turn."""

    def check(cut: BaseException) -> None:
        body = Body(b"a")
        pieces: list[bytes] = []

        def read() -> None:
            pieces.extend(pieces_of(body, None))

        reader = gevent.spawn(read)
        gevent.sleep(0)
        body.pieces += [b"b", b"c"]
        reader.kill(cut, block=False)
        reader.join()
        assert reader.exception is cut or reader.value is cut
        assert b"".join(pieces) == b"abc"

    check_rows([CutError(), gevent.GreenletExit()], check)


def test_an_interruption_does_not_wait_for_more_data() -> None:
    assert read_and_cut(Body(b"a")) == [b"a"]


def test_an_interrupted_body_that_has_arrived_completely_is_read_to_its_end() -> None:
    assert b"".join(read_and_cut(Body(b"a", b"b", ends=True))) == b"ab"


def test_an_interruption_ends_a_body_that_never_makes_the_reader_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would fill the memory otherwise, and go on after the deadline."""
    turn = b"\n" * body_reader.TURN_BYTES
    most_turns = body_reader.MAX_ARRIVED_BYTES // len(turn)
    received: list[bytes] = []
    pauses: list[int] = []

    def sleep(_seconds: float) -> None:
        pauses.append(len(received))
        if len(pauses) == 1:
            raise CutError

    monkeypatch.setattr(gevent, "sleep", sleep)
    with pytest.raises(CutError):
        received.extend(pieces_of(Body(*[turn] * most_turns * 3), None))
    assert received == [turn] * (1 + most_turns)
    assert pauses == list(range(1, 2 + most_turns))


def test_small_pieces_that_arrived_before_an_interruption_share_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the pauses, thousands of them would keep the worker."""
    half = b"\n" * (body_reader.TURN_BYTES // 2)
    received: list[bytes] = []
    pauses: list[tuple[int, float]] = []

    def sleep(seconds: float) -> None:
        pauses.append((len(received), seconds))
        if len(pauses) == 1:
            raise CutError

    monkeypatch.setattr(gevent, "sleep", sleep)
    with pytest.raises(CutError):
        received.extend(pieces_of(Body(*[half] * 7, ends=True), None))
    assert len(received) == 7
    assert pauses == [(2, PAUSE_SECONDS), (4, PAUSE_SECONDS), (6, PAUSE_SECONDS)]
