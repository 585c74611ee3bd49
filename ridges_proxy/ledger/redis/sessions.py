"""Operators' sessions in Redis, shared by all servers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

from ridges_proxy.ledger.sessions import MAX_SESSIONS, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.redis.client import RedisClient

KEY = "ridges:sessions"
"""A hash: by session id, its other fields as a JSON list."""


class RedisSessions:
    """Implementation of `Sessions`."""

    def __init__(self, client: RedisClient, clock: Callable[[], float] = time.time) -> None:
        """Does not connect yet."""
        self._client = client
        self._clock = clock

    def add(self, session: Session) -> None:
        fields = orjson.dumps([session.address, session.signed_in_at, session.expires_at])
        self._client.do(lambda client: client.hset(KEY, session.id, fields))
        stored = self._stored()
        gone = stored.keys() - {each.id for each in self._valid(stored)[-MAX_SESSIONS:]}
        if gone:
            self._client.do(lambda client: client.hdel(KEY, *gone))

    def has(self, session_id: str) -> bool:
        fields = self._client.do(lambda client: client.hget(KEY, session_id))
        return fields is not None and self._clock() < _session(session_id, fields).expires_at

    def valid(self) -> list[Session]:
        return self._valid(self._stored())

    def end(self, session_id: str) -> bool:
        was_valid = self.has(session_id)
        return bool(self._client.do(lambda client: client.hdel(KEY, session_id))) and was_valid

    def _valid(self, stored: dict[str, Session]) -> list[Session]:
        now = self._clock()
        valid = (each for each in stored.values() if now < each.expires_at)
        return sorted(valid, key=lambda each: (each.signed_in_at, each.id))

    def _stored(self) -> dict[str, Session]:
        stored = self._client.do(lambda client: client.hgetall(KEY))
        return {name.decode(): _session(name.decode(), fields) for name, fields in stored.items()}


def _session(session_id: str, fields: bytes) -> Session:
    return Session(session_id, *orjson.loads(fields))
