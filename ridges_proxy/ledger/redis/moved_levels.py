"""Levels and alerts of a Redis ledger while they are moved or audited."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger.alert_rules import MAX_ALERTS
from ridges_proxy.ledger.level_account import LevelAccount
from ridges_proxy.ledger.migration import lost_level_of, mismatch_of
from ridges_proxy.ledger.redis import scripts
from ridges_proxy.ledger.redis.levels import LEVELS_KEY, flat_levels
from ridges_proxy.ledger.redis.rows import alert_of, level_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ridges_proxy.ledger.models import Alert, Hold
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.scripts import Script

_RULES = f"{MAX_ALERTS}||0"


class MovedLevels:
    """The steps of a move and of an audit in the keys of the levels. All can be run twice."""

    def __init__(self, client: RedisClient, now: Callable[[], str]) -> None:
        """`now` returns the first argument of a script."""
        self._client = client
        self._now = now

    def of_holds(self, holds: Iterable[Hold]) -> dict[str, tuple[Level, ...]]:
        """Return the levels of open holds by their ids."""
        ids = [hold.id for hold in holds if hold.nested]
        parts = self._values("holds", ids)
        names = {hold_id: json.loads(part.split(b"|", 3)[3]) for hold_id, part in parts.items()}
        known = self._values("accounts", list(dict.fromkeys(chain.from_iterable(names.values()))))
        return {
            hold_id: tuple(_account_of(name, known[name]).level for name in of_hold if name in known)
            for hold_id, of_hold in names.items()
        }

    def put_holds(self, holds: Iterable[Hold], levels: Mapping[str, Sequence[Level]]) -> None:
        """Add the holds to their levels, known or not."""
        for hold in holds:
            if of_hold := levels.get(hold.id):
                part = (hold.id, hold.kind.value, hold.amount_nanousd, hold.expires_at)
                self._run(scripts.LEVEL_PUT_HOLD, *part, *flat_levels(of_hold))

    def take_holds(self, holds: Iterable[Hold]) -> None:
        """Remove the holds from their levels."""
        if ids := [hold.id for hold in holds if hold.nested]:
            self._run(scripts.LEVEL_TAKE_HOLDS, *ids)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of levels and of alerts."""
        levels, alerts = f"{LEVELS_KEY}:accounts", f"{LEVELS_KEY}:alerts"
        number: tuple[int, int] = self._client.do(lambda client: (client.hlen(levels), client.hlen(alerts)))
        return number

    def accounts(self, limit: int) -> list[LevelAccount]:
        """Return levels, about `limit`; none only if there are none."""
        cursor, found = 0, dict[bytes, bytes]()
        while not found:
            cursor, found = self._client.do(
                lambda client, cursor=cursor: client.hscan(f"{LEVELS_KEY}:accounts", cursor, count=limit)  # type: ignore[misc] # mypy#12557
            )
            if not cursor:
                break
        return [_account_of(name.decode(), values) for name, values in found.items()]

    def put(self, account: LevelAccount) -> bool:
        """Write what a level has spent. Return False, and change nothing, if it has spent other amounts."""
        sums = (account.inference_nanousd, account.embedding_nanousd, account.calls, account.alerted_percent)
        level = flat_levels([account.level])
        return bool(self._run(scripts.LEVEL_PUT, *level, account.amount_nanousd, *sums))

    def take(self, account: LevelAccount) -> bool:
        """Remove a level if it has not changed. Return whether it was removed."""
        values = (
            account.amount_nanousd,
            account.inference_nanousd,
            account.embedding_nanousd,
            account.held_nanousd,
            account.calls,
            account.in_flight,
            account.alerted_percent,
        )
        return bool(self._run(scripts.LEVEL_TAKE, level_id(account.level), *values))

    def audit(self) -> tuple[int, list[str]]:
        """Return the number of levels, and the problems of those that do not match their open holds."""
        number, mismatches, incomplete = self._run(scripts.LEVEL_AUDIT)
        problems = [mismatch_of(_level_of(name.decode())) for name in mismatches]
        return number, problems + [lost_level_of(hold_id.decode()) for hold_id in incomplete]

    def alerts(self, limit: int) -> list[Alert]:
        """Return the oldest alerts, claimed or not."""
        order = f"{LEVELS_KEY}:alert_order"
        ids = self._client.do(lambda client: client.zrange(order, 0, limit - 1))
        found = self._values("alerts", [alert_id.decode() for alert_id in ids])
        return [alert_of((name.encode(), *stored.split(b"|", 2)[1:])) for name, stored in found.items()]

    def put_alert(self, alert: Alert) -> None:
        """Add an alert to the end, if it is not there."""
        numbers = (alert.percent, alert.amount_nanousd, alert.spent_nanousd)
        resets_at = "" if alert.resets_at is None else repr(alert.resets_at)
        row = [repr(alert.at), alert.budget, alert.scope, alert.period, *map(str, numbers), resets_at]
        self._run(scripts.ALERTS_PUT, _RULES, alert.id, alert.attempts, json.dumps(row, ensure_ascii=False))

    def _values(self, what: str, names: Sequence[str]) -> dict[str, bytes]:
        """Return the values of these fields of a hash, without those that it does not have."""
        if not names:
            return {}
        stored = self._client.do(lambda client: client.hmget(f"{LEVELS_KEY}:{what}", names))
        return {name: value for name, value in zip(names, stored, strict=True) if value is not None}

    def _run(self, script: Script, *arguments: str | float) -> Any:  # noqa: ANN401 - a reply of any form
        return self._client.run(script, LEVELS_KEY, self._now(), *arguments)


def _level_of(name: str, amount_nanousd: int = 0, resets_at: float | None = None) -> Level:
    budget, _, rest = name.partition("|")
    scope, _, period = rest.rpartition("|")
    return Level(budget, scope, period, amount_nanousd, resets_at)


def _account_of(name: str, values: bytes) -> LevelAccount:
    """Convert the values of a level, as FORM in `lua/levels.lua` writes them."""
    amount, resets_at, *numbers = values.split(b"|")
    level = _level_of(name, int(amount), float(resets_at) if resets_at else None)
    return LevelAccount(level, *map(int, numbers))
