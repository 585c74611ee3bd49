"""The single calls of a Redis ledger.

Each bucket has them in a sorted set, by the time when they were charged. A member is the text of a call: its
fields in lines, the model last. No other field has the end of a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import BookedCall, BookedCallPage, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.redis.client import RedisClient

SEPARATORS = 8


def text_of(call: BookedCall) -> str:
    """Return the text of a call."""
    numbers = call.prompt_tokens, call.completion_tokens, call.cost_nanousd
    ids = call.answer_id, call.invocation_id
    return "\n".join([call.hold_id, call.kind.value, *map(str, numbers), *ids, call.run_id, call.model])


def _call_of(text: str, settled_at: float) -> BookedCall:
    hold_id, kind, prompt, completion, cost, *ids, run_id, model = text.split("\n", SEPARATORS)
    numbers = int(prompt), int(completion), int(cost)
    return BookedCall(settled_at, run_id, hold_id, model, Kind(kind), *numbers, *ids)


class RedisCalls:
    """The calls of all buckets."""

    def __init__(self, client: RedisClient, key_of: Callable[[int], str], buckets: int) -> None:
        """`key_of` returns the prefix of the keys of a bucket."""
        self._client = client
        self._key_of = key_of
        self._buckets = buckets

    def page(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        """Return one page. Raises ValueError for a cursor that is not one.

        The cursor is a bucket, the time of the last call before the page, and how many of that time to skip.
        """
        first, at, skipped = (cursor or f"0:{since!r}:0").split(":")
        bucket, start, skip = int(first), float(at), int(skipped)
        calls: list[BookedCall] = []
        while bucket < self._buckets:
            found = self._calls_in(bucket, start, skip, limit - len(calls))
            calls += found
            if len(calls) == limit:
                last = found[-1].settled_at if found else start
                same = sum(call.settled_at == last for call in found)
                return BookedCallPage(calls, f"{bucket}:{last!r}:{same + (skip if last == start else 0)}")
            bucket, start, skip = bucket + 1, since, 0
        return BookedCallPage(calls, None)

    def _calls_in(self, bucket: int, start: float, skip: int, limit: int) -> list[BookedCall]:
        name = f"{self._key_of(bucket)}:calls"
        page = {"start": skip, "num": limit, "withscores": True}
        found = self._client.do(lambda client: client.zrangebyscore(name, start, "+inf", **page))
        return [_call_of(member.decode(), at) for member, at in found]
