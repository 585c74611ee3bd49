"""Tracebacks of errors that no log shows."""

from __future__ import annotations

from traceback import clear_frames


def drop_tracebacks(error: BaseException) -> None:
    """Drop the tracebacks of a library's error, and of all errors that it wraps or was raised from.

    In `requests`, urllib3 and redis-py, a frame has a variable with the error whose traceback refers to that
    frame. This cycle would keep all frames of the call, with the body of its request, until the next garbage
    collection. The variables of the frames are cleared, too: they have the errors of earlier tries.
    """
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        item = pending.pop()
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            clear_frames(item.__traceback__)
            item.__traceback__ = None
            pending += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
