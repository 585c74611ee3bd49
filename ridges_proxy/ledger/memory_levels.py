"""The levels of a ledger in memory, and the alerts that wait for delivery. Use them only under its lock."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ridges_proxy.ledger.alert_lease import lease_seconds_of
from ridges_proxy.ledger.alert_rules import MAX_ALERTS
from ridges_proxy.ledger.level_account import ENDED_LEVEL_SECONDS, LevelAccount
from ridges_proxy.ledger.models import Alert, LevelPage, LevelUsage, SetAmount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.alert_rules import AlertRules
    from ridges_proxy.ledger.models import Hold, LevelQuery

_Key = tuple[str, str, str]


class MemoryLevels:
    """The accounts of all levels, the amounts that operators have set, and the levels of each open hold."""

    def __init__(self, rules: AlertRules) -> None:
        self._rules = rules
        self._accounts: dict[_Key, LevelAccount] = {}
        self._ends: list[tuple[float, _Key]] = []
        """A heap: when a sweep may drop which account."""
        self._set_amounts: dict[tuple[str, str], int] = {}
        self._of_holds: dict[str, list[LevelAccount]] = {}
        self.alerts = AlertQueue()

    def open(self, levels: Iterable[Level]) -> list[LevelAccount]:
        """Return the accounts of the levels, with the amounts in force. What is new is not kept yet."""
        return [self._find(level) for level in levels]

    def hold(self, accounts: list[LevelAccount], hold: Hold) -> None:
        """Add the hold to all accounts."""
        kept = [self._keep(account) for account in accounts]
        for account in kept:
            account.add_hold(hold.amount_nanousd)
        self._of_holds[hold.id] = kept

    def resolve(self, hold: Hold, cost_nanousd: int | None, now: float) -> tuple[LevelUsage, ...]:
        """Remove the hold from its accounts, and charge the cost. Return their usage afterwards."""
        accounts = self._of_holds.pop(hold.id, ())
        for account in accounts:
            account.remove_hold(hold.kind, hold.amount_nanousd, cost_nanousd)
            reached = self._rules.reached(account.spent_nanousd, account.amount_nanousd)
            if cost_nanousd and reached > account.alerted_percent:
                self.alerts.add(self._rules.crossed(account, account.in_force, now))
        return tuple([account.usage() for account in accounts])

    def _keep(self, account: LevelAccount) -> LevelAccount:
        """Keep a new account, or the terms of one that is kept already. Return the one that is kept."""
        key = account.level[:3]
        kept = self._accounts.get(key)
        if kept is None:
            self._accounts[key] = account
            if account.level.resets_at is not None:
                heapq.heappush(self._ends, (account.level.resets_at + ENDED_LEVEL_SECONDS, key))
            return account
        if kept is not account:
            kept.take_terms(account)
        return kept

    def refuse(self, accounts: Iterable[LevelAccount], minimum_nanousd: int, now: float) -> None:
        """Make the alerts of the levels whose rest does not pay for the call."""
        for account in accounts:
            if account.refuses(minimum_nanousd):
                self.alerts.add(self._rules.crossed(account, account.in_force, now, refused=True))
                if account.level[:3] in self._accounts:
                    self._keep(account)  # the next refusal must not find the other amount again

    def usage(self, level: Level) -> LevelUsage:
        """Return the usage of the level; zeros for one without calls."""
        return self._find(level).usage()

    def keys(self) -> list[_Key]:
        """Return the keys of all known levels."""
        return list(self._accounts)

    def matching(self, keys: Iterable[_Key], query: LevelQuery) -> list[LevelUsage]:
        """Return the usage of those of these levels that match, and are still known."""
        return [
            self._find(account.level).usage()
            for key in keys
            if (account := self._accounts.get(key)) and _matches(account.level, query)
        ]

    def set_amount(self, budget: str, scope: str, amount_nanousd: int | None) -> None:
        """Set the amount of a budget, or remove it."""
        if amount_nanousd is None:
            self._set_amounts.pop((budget, scope), None)
        else:
            self._set_amounts[budget, scope] = amount_nanousd

    def set_amounts(self) -> list[SetAmount]:
        """Return all amounts that operators have set, in the order of their budgets and scopes."""
        return [SetAmount(*key, amount) for key, amount in sorted(self._set_amounts.items())]

    def reset(self, level: Level) -> LevelUsage | None:
        """Set spent and calls of a level to 0. Return its usage before; None if it is not known."""
        account = self._accounts.get(level[:3])
        if account is None:
            return None
        before = self._find(level).usage()
        account.reset_sums()
        return before

    def sweep(self, now: float, limit: int) -> bool:
        """Drop up to `limit` levels that ended long ago. Return whether the limit was reached."""
        for _ in range(limit):
            if not self._ends or self._ends[0][0] > now:
                return False
            account = self._accounts[heapq.heappop(self._ends)[1]]
            if account.may_be_dropped(now):
                del self._accounts[account.level[:3]]
            else:
                heapq.heappush(self._ends, (now + ENDED_LEVEL_SECONDS, account.level[:3]))
        return True

    def _find(self, level: Level) -> LevelAccount:
        """Return the account of the level with the amount in force: the kept one, if its terms are the same.

        Otherwise it is a new one or a copy: a look at a level must not change which alerts it makes.
        """
        amount_nanousd = self._amount_of(level)
        account = self._accounts.get(level[:3])
        if account is None:
            return LevelAccount(level, amount_nanousd)
        if account.amount_nanousd == amount_nanousd and account.level[3:] == level[3:]:
            return account
        changed = replace(account, level=level, amount_nanousd=amount_nanousd)
        if account.amount_nanousd != amount_nanousd:
            self._rules.change_amount(changed, amount_nanousd)
        return changed

    def _amount_of(self, level: Level) -> int:
        set_nanousd = self._set_amounts.get((level.budget, level.scope))
        if set_nanousd is None:
            return self._set_amounts.get((level.budget, ""), level.amount_nanousd)
        return set_nanousd


@dataclass(slots=True)
class _Waiting:
    alert: Alert
    hidden_until: float = 0.0


class AlertQueue:
    """Alerts in the order in which they were made."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()

    def add(self, alerts: Iterable[Alert]) -> None:
        """Add alerts to the end. Above MAX_ALERTS the oldest are dropped."""
        for alert in alerts:
            self._waiting[alert.id] = _Waiting(alert)
            if len(self._waiting) > MAX_ALERTS:
                self._waiting.popitem(last=False)

    def claim(self, limit: int, lease_seconds: float, now: float) -> list[Alert]:
        """Return the oldest alerts that are not claimed, and hide them from others for the lease."""
        claimed: list[Alert] = []
        for waiting in self._waiting.values():
            if len(claimed) == limit:
                break
            if waiting.hidden_until <= now:
                lease = lease_seconds_of(lease_seconds, waiting.alert.attempts)
                waiting.hidden_until = now + lease
                claimed.append(waiting.alert)
                waiting.alert = replace(waiting.alert, attempts=waiting.alert.attempts + 1)
        return claimed

    def drop(self, alert_id: str) -> None:
        """Remove an alert."""
        self._waiting.pop(alert_id, None)


def page_of(found: list[LevelUsage], query: LevelQuery) -> LevelPage:
    """Return one page of the levels that match, the most spent first. Sorts the list."""
    found.sort(key=lambda usage: (-usage.spent_nanousd, usage.level[:3]))
    return LevelPage(found[query.offset : query.offset + query.limit], len(found))


def _matches(level: Level, query: LevelQuery) -> bool:
    is_current = query.current_at is None or level.resets_at is None or level.resets_at > query.current_at
    return is_current and query.budget in {None, level.budget} and query.search in level.scope
