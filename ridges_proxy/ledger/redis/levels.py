"""The budgets above the runs in Redis: their accounts, the amounts that operators have set, and alerts."""

from __future__ import annotations

import logging
import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import BudgetExhaustedError, LedgerUnavailableError, RefusingBudget
from ridges_proxy.ledger.alert_lease import MAX_LEASE_SECONDS
from ridges_proxy.ledger.alert_rules import MAX_ALERTS, AlertRules
from ridges_proxy.ledger.level_account import ENDED_LEVEL_SECONDS
from ridges_proxy.ledger.models import LevelPage, LevelUsage, SetAmount
from ridges_proxy.ledger.redis import scripts
from ridges_proxy.ledger.redis.reservation import MAX_EXACT
from ridges_proxy.ledger.redis.rows import alert_of, level_id, levels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.models import Alert, Hold, LevelQuery
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.reservation import Reservation
    from ridges_proxy.ledger.redis.scripts import Script

LEVELS_KEY = "ridges:{levels}"
"""Prefix of all keys of levels: they share one slot."""

LIST_BATCH = 250
"""Levels that one script reads: Redis serves no one else meanwhile, and Lua fails with some 4,000."""

RESOLVED_SECONDS = 60
"""Time for which a resolution can be repeated with the same reply, in case the first reply was lost."""

ABANDONED_SECONDS = 600
"""Time for which an abandoned reservation is refused: its request may still arrive after its release."""

logger = logging.getLogger(__name__)


class RedisLevels:
    """The steps that use only the levels. In a Cluster they complete the steps of the runs."""

    def __init__(self, client: RedisClient, rules: AlertRules, now: Callable[[], str]) -> None:
        self._client = client
        self._now = now
        self.rules = f"{MAX_ALERTS}|{','.join(map(str, rules.percents))}|{rules.runs:d}"
        """As the scripts take them."""

    def second_key(self) -> str:
        """Return the key with which a script of a run may change the levels, too; "" in a Cluster."""
        return "" if self._client.is_cluster() else LEVELS_KEY

    # --- the part of the levels in a Cluster

    def hold(self, asked: Reservation) -> list[Any]:
        """Hold what is asked for. Return the answer: b"held" and the amount, or why not."""
        hold, amounts = asked.hold, (asked.requested_of_levels(), asked.minimum_nanousd)
        arguments = (hold.id, hold.kind.value, *amounts, asked.expires_in_seconds, self.rules)
        reply: list[Any] = self._run(
            scripts.LEVEL_RESERVE, *arguments, *flat_levels(asked.run.levels), on_replicas=True
        )
        if reply[0] == b"done":
            raise LedgerUnavailableError
        return reply

    def cut(self, hold: Hold) -> None:
        """Lower what the levels hold to the amount of the hold."""
        self._run(scripts.LEVEL_CUT, hold.id, hold.amount_nanousd)

    def resolve(self, hold_id: str, cost_nanousd: int | str) -> tuple[LevelUsage, ...]:
        """Resolve the levels' part of a hold. Return the levels afterwards; none if they do not hold it."""
        times = (RESOLVED_SECONDS * 1000, ABANDONED_SECONDS * 1000)
        token = uuid.uuid4().hex
        return levels_of(self._run(scripts.LEVEL_RESOLVE, hold_id, cost_nanousd, token, self.rules, *times))

    def add_alerts(self, alerts: Sequence[bytes]) -> None:
        """Add alerts of runs, which lie on another node: a flat list of ids and JSON.

        If the process dies before this step, or if it fails, these alerts are lost.
        """
        if alerts:
            try:
                self._run(scripts.ALERTS_ADD, self.rules, *(part.decode() for part in alerts))
            except LedgerUnavailableError:
                logger.warning("alerts of runs were lost", extra={"alerts": len(alerts) // 2})

    # --- all stores

    def sweep(self, limit: int) -> bool:
        """Charge holds that have lost their run, and drop old levels. Return whether there are more."""
        orphans, more = self._run(scripts.LEVEL_SWEEP, limit, self.rules, ENDED_LEVEL_SECONDS)
        for hold_id, amount in orphans:
            fields = {"hold": hold_id.decode(), "cost_nanousd": int(amount)}
            logger.warning("expired hold was charged to budgets without its run", extra=fields)
        return bool(more)

    def usage(self, levels: Iterable[Level]) -> Sequence[LevelUsage]:
        """Return the usage of the levels."""
        rest, found = iter(levels), list[LevelUsage]()
        while batch := list(islice(rest, LIST_BATCH)):
            found += levels_of(self._run(scripts.LEVEL_USAGE, *flat_levels(batch)))
        return found

    def page(self, query: LevelQuery) -> LevelPage:
        """Return one page of the levels that match, the most spent first."""
        found = [usage for usage in self._all(query.budget) if _matches(usage.level, query)]
        found.sort(key=lambda usage: (-usage.spent_nanousd, usage.level[:3]))
        return LevelPage(found[query.offset : query.offset + query.limit], len(found))

    def set_amount(self, budget: str, scope: str, amount_nanousd: int | None) -> None:
        """Set the amount of a budget, or remove it."""
        name, field = f"{LEVELS_KEY}:amounts", f"{budget}|{scope}"
        if amount_nanousd is None:
            self._client.do(lambda client: client.hdel(name, field))
        else:
            self._client.do(lambda client: client.hset(name, field, min(amount_nanousd, MAX_EXACT)))

    def set_amounts(self) -> list[SetAmount]:
        """Return all amounts that operators have set."""
        stored = self._client.do(lambda client: client.hgetall(f"{LEVELS_KEY}:amounts"))
        names = sorted((*name.decode().partition("|")[::2], int(amount)) for name, amount in stored.items())
        return [SetAmount(*row) for row in names]

    def reset(self, level: Level) -> LevelUsage | None:
        """Set spent and calls of a level to 0. Return its usage before; None if it is not known."""
        before = levels_of(self._run(scripts.LEVEL_RESET, *flat_levels([level])))
        return before[0] if before else None

    def claim_alerts(self, limit: int, lease_seconds: float) -> list[Alert]:
        """Return the oldest alerts that no process has claimed, and hide them from all for the lease."""
        return [
            alert_of(row) for row in self._run(scripts.ALERTS_CLAIM, limit, lease_seconds, MAX_LEASE_SECONDS)
        ]

    def drop_alert(self, alert_id: str) -> None:
        """Remove an alert."""
        self._run(scripts.ALERTS_DROP, alert_id)

    def _all(self, budget: str | None) -> Iterator[LevelUsage]:
        names = self._client.do(lambda client: client.hkeys(f"{LEVELS_KEY}:accounts"))
        wanted = (name.decode() for name in names if budget in {None, name.partition(b"|")[0].decode()})
        while batch := list(islice(wanted, LIST_BATCH)):
            arguments = (text for name in batch for text in (name, "", ""))
            yield from levels_of(self._run(scripts.LEVEL_USAGE, *arguments))

    def _run(self, script: Script, *arguments: str | float, on_replicas: bool = False) -> Any:  # noqa: ANN401 - a reply of any form
        return self._client.run(script, LEVELS_KEY, self._now(), *arguments, on_replicas=on_replicas)


def flat_levels(levels: Iterable[Level]) -> Iterator[str | float]:
    """Return the levels as the scripts take them: the id, the amount and the end of each."""
    for level in levels:
        yield level_id(level)
        yield min(level.amount_nanousd, MAX_EXACT)
        yield "" if level.resets_at is None else level.resets_at


def exhausted_by(level: Level) -> BudgetExhaustedError:
    """Return the refusal of a level."""
    return BudgetExhaustedError(RefusingBudget(level.budget, level.scope, level.window, level.resets_at))


def _matches(level: Level, query: LevelQuery) -> bool:
    is_current = query.current_at is None or level.resets_at is None or level.resets_at > query.current_at
    return is_current and query.search in level.scope
