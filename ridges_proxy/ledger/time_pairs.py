"""Pairing of two lists of times, one to one. Pure."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Event(NamedTuple):
    """A time of one of the lists."""

    at: float
    is_right: bool
    position: int


def pairs_by_time(
    left: Sequence[float], right: Sequence[float], tolerance_seconds: float
) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions in both lists whose times differ by at most the tolerance.

    Both lists are in order. They are cut where there is a gap above the tolerance. A part with as many times
    on both sides is paired in order if that is within the tolerance, because a constant delay may lie between
    them. In any other part the nearest times are paired first. Takes n log n steps.
    """
    events = sorted(
        [_Event(at, False, position) for position, at in enumerate(left)]
        + [_Event(at, True, position) for position, at in enumerate(right)]
    )
    start = 0
    for end in range(1, len(events) + 1):
        if end == len(events) or events[end].at - events[end - 1].at > tolerance_seconds:
            yield from _pairs_in(events[start:end], tolerance_seconds)
            start = end


def _pairs_in(events: list[_Event], tolerance_seconds: float) -> Iterator[tuple[int, int]]:
    left = [event for event in events if not event.is_right]
    right = [event for event in events if event.is_right]
    in_order = list(zip(left, right, strict=False))
    are_near = all(abs(one.at - other.at) <= tolerance_seconds for one, other in in_order)
    if len(left) != len(right) or not are_near:
        in_order = list(_nearest_first(events, tolerance_seconds))
    for one, other in in_order:
        yield one.position, other.position


def _nearest_first(events: list[_Event], tolerance_seconds: float) -> Iterator[tuple[_Event, _Event]]:
    """Yield the nearest pair that is left, again and again: it is always a pair of neighbours."""
    count = len(events)
    after = list(range(1, count + 1))
    before = list(range(-1, count - 1))
    near = [_distance(events, place, place + 1) for place in range(count - 1)]
    heapify(near)
    while near:
        seconds, first, second = heappop(near)
        if seconds > tolerance_seconds:
            return
        if after[first] != second:
            continue  # one of them was paired meanwhile
        one, other = sorted((events[first], events[second]), key=lambda event: event.is_right)
        yield one, other
        outer_first, outer_second = before[first], after[second]
        after[first] = after[second] = -1
        if outer_first >= 0:
            after[outer_first] = outer_second
        if outer_second < count:
            before[outer_second] = outer_first
        if outer_first >= 0 and outer_second < count:
            heappush(near, _distance(events, outer_first, outer_second))


def _distance(events: list[_Event], first: int, second: int) -> tuple[float, int, int]:
    """Return the distance of two neighbours with their places; infinite for two of the same list."""
    same = events[first].is_right == events[second].is_right
    return float("inf") if same else events[second].at - events[first].at, first, second
