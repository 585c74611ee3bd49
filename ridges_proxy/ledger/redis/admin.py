"""A Redis ledger as `ridges-proxy ledger check`, `verify` and `migrate` use it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.account import Account
from ridges_proxy.ledger.migration import Audit, Counts, LevelExistsError, Record, RunExistsError
from ridges_proxy.ledger.models import Hold, Kind
from ridges_proxy.ledger.progress import unreported
from ridges_proxy.ledger.redis import scripts
from ridges_proxy.ledger.redis.calls import text_of
from ridges_proxy.ledger.redis.ledger import BUCKETS, RedisLedger, key_of
from ridges_proxy.ledger.redis.moved_levels import MovedLevels
from ridges_proxy.ledger.redis.rows import fields_of_record, record_of_fields
from ridges_proxy.ledger.run_record import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ridges_proxy.ledger.audit_entries import AuditEntry
    from ridges_proxy.ledger.level_account import LevelAccount
    from ridges_proxy.ledger.models import Alert, BookedCall, Receipt
    from ridges_proxy.ledger.progress import Report
    from ridges_proxy.ledger.redis.client import RedisClient

ACCOUNT_FIELDS = 13
HOLD_FIELDS = 6
SUMS = [name for name in Audit.__slots__ if name not in {"problems", "levels"}]
MIN_VERSION = 6
"""The oldest supported major version."""


class RedisAdmin(RedisLedger):
    """Implementation of `LedgerAdmin`, which the `ledger` commands use, for a Redis."""

    def __init__(self, client: RedisClient, buckets: int = BUCKETS) -> None:
        """Does not connect yet."""
        super().__init__(client, run_ttl_seconds=0.0, buckets=buckets)
        self._moved_levels = MovedLevels(client, self._now)

    def counts(self) -> Counts:
        runs, receipts = (self._count_in_buckets("ZCARD", name) for name in ("idle", "receipts"))
        levels, alerts = self._moved_levels.counts()
        return Counts(runs, levels, receipts, self.count_calls(0.0), alerts, self._trail.count())

    def count_calls(self, since: float) -> int:
        return self._count_in_buckets("ZCOUNT", "calls", since, "+inf")

    def records(self, limit: int) -> list[Record]:
        found: list[Record] = []
        for bucket in range(self._buckets):
            rows = self._client.run(scripts.RECORDS, key_of(bucket), "", limit - len(found))
            found += [_record_of(row) for row in rows]
            if len(found) >= limit:
                break
        return [replace(each, levels=self._moved_levels.of_holds(each.holds)) for each in found]

    def put(self, record: Record) -> None:
        if not self._move(scripts.PUT, record):
            raise RunExistsError(record.account.run_id)
        self._moved_levels.put_holds(record.holds, record.levels)

    def take(self, record: Record) -> bool:
        is_taken = self._move(scripts.TAKE, record)
        if is_taken:
            self._moved_levels.take_holds(record.holds)
        return is_taken

    def level_accounts(self, limit: int) -> Sequence[LevelAccount]:
        return self._moved_levels.accounts(limit)

    def put_level(self, account: LevelAccount) -> None:
        if not self._moved_levels.put(account):
            raise LevelExistsError(*account.level[:3])

    def take_level(self, account: LevelAccount) -> bool:
        return self._moved_levels.take(account)

    def waiting_alerts(self, limit: int) -> Sequence[Alert]:
        return self._moved_levels.alerts(limit)

    def put_alert(self, alert: Alert) -> None:
        self._moved_levels.put_alert(alert)

    def put_receipt(self, receipt: Receipt) -> None:
        self._move_receipt("put", receipt)

    def take_receipt(self, receipt: Receipt) -> None:
        self._move_receipt("take", receipt)

    def put_calls(self, calls: Sequence[BookedCall]) -> None:
        def put(client: Any) -> None:  # noqa: ANN401 - redis-py's clients have no type in common
            pipeline = client.pipeline(transaction=False)
            for call in calls:
                pipeline.zadd(self._calls_key_of(call), {text_of(call): call.settled_at})
            pipeline.execute()

        self._client.do(put)

    def take_calls(self, calls: Sequence[BookedCall]) -> None:
        def take(client: Any) -> None:  # noqa: ANN401 - redis-py's clients have no type in common
            pipeline = client.pipeline(transaction=False)
            for call in calls:
                pipeline.zrem(self._calls_key_of(call), text_of(call))
            pipeline.execute()

        self._client.do(take)

    def put_entries(self, entries: Sequence[AuditEntry]) -> None:
        self._trail.put(entries)

    def take_entries(self, entries: Sequence[AuditEntry]) -> None:
        self._trail.take(entries)

    def audit(self, report: Report = unreported) -> Audit:
        audit, steps = Audit(), self._buckets + 1
        for bucket in range(self._buckets):
            sums, mismatches = self._client.run(scripts.AUDIT, key_of(bucket), "")
            for name, amount in zip(SUMS, sums, strict=True):
                setattr(audit, name, getattr(audit, name) + int(amount))
            audit.problems += [_problem(what.decode(), name.decode()) for what, name in mismatches]
            report("checks", bucket + 1, steps)
        audit.levels, problems = self._moved_levels.audit()
        audit.problems += problems
        report("checks", steps, steps)
        return audit

    def inspect(self) -> tuple[dict[str, str], list[str]]:
        self.ping()
        try:
            info: dict[str, Any] = self._client.do(_info)
        except LedgerUnavailableError:
            return {}, ["this user may not ask for INFO: persistence and eviction could not be checked"]
        facts = {
            "version": str(info.get("redis_version")),
            "append-only file": "on" if info.get("aof_enabled") else "off",
            "eviction": str(info.get("maxmemory_policy")),
            "replicas": str(info.get("connected_slaves")),
        }
        return facts, list(_warnings(info))

    def _count_in_buckets(self, command: str, name: str, *arguments: str | float) -> int:
        """Return the sum of a command that counts the members of a key of each bucket."""

        def ask(client: Any) -> list[int]:  # noqa: ANN401 - redis-py's clients have no type in common
            keys = (f"{key_of(bucket)}:{name}" for bucket in range(self._buckets))
            return [client.execute_command(command, key, *arguments) for key in keys]

        return sum(self._client.do(ask))

    def _calls_key_of(self, call: BookedCall) -> str:
        return f"{self._key_of(call.run_id)}:calls"

    def _move(self, script: scripts.Script, record: Record) -> bool:
        return bool(self._client.run(script, self._key_of(record.account.run_id), "", *_flat(record)))

    def _move_receipt(self, what: str, receipt: Receipt) -> None:
        run = receipt.run
        amounts = (run.budget_nanousd, run.inference_nanousd, run.embedding_nanousd, run.held_nanousd)
        counts = (run.calls, run.in_flight, run.idle_seconds, int(run.closed))
        self._client.run(
            scripts.RECEIPT,
            self._key_of(run.run_id),
            "",
            what,
            _text(receipt.forgotten_at),
            run.spent_nanousd,
            int(run.own_budget) if run.finished else "",
            run.run_id,
            *(_text(value) for value in (*amounts, *counts)),
            *fields_of_record(record_of(run)),
        )


def _text(number: float) -> str:
    """Format a number as `text` in clock.lua does: stored numbers are compared as texts."""
    return f"{number:.17g}" if isinstance(number, float) else str(number)


def _flat(record: Record) -> list[str]:
    account = record.account
    numbers = (
        account.budget_nanousd,
        account.inference_nanousd,
        account.embedding_nanousd,
        account.held_nanousd,
        account.calls,
        account.in_flight,
        account.active_at,
        account.remembered_until,
        int(account.closed),
        int(account.exhausted),
        int(account.own_budget),
        account.alerted_percent,
    )
    fields = fields_of_record(account.record)
    flat = [account.run_id, *(_text(number) for number in numbers), str(len(fields)), *fields]
    for hold in record.holds:
        flat += [hold.id, hold.kind.value, _text(hold.amount_nanousd), _text(hold.expires_at)]
        flat += [hold.model, str(int(hold.nested))]
    return flat


def _record_of(row: Sequence[bytes]) -> Record:
    values = [value.decode() for value in row]
    run_id, budget, inference, embedding, held, calls, in_flight, active_at, until, *rest = values
    closed, exhausted, own_budget, alerted, *_ = rest
    holds_from = ACCOUNT_FIELDS + 1 + int(values[ACCOUNT_FIELDS])
    account = Account(
        run_id,
        int(budget),
        int(inference),
        int(embedding),
        int(held),
        int(calls),
        int(in_flight),
        float(active_at),
        float(active_at),  # the position in the sweep's queue does not belong to the record
        float(until),
        closed == "1",
        exhausted == "1",
        own_budget == "1",
        int(alerted),
        record_of_fields(row[ACCOUNT_FIELDS + 1 : holds_from]),
    )
    holds = (values[start : start + HOLD_FIELDS] for start in range(holds_from, len(values), HOLD_FIELDS))
    return Record(
        account,
        [
            Hold(hold_id, run_id, Kind(kind), int(amount), float(expires_at), model, nested == "1")
            for hold_id, kind, amount, expires_at, model, nested in holds
        ],
    )


def _problem(what: str, name: str) -> str:
    if what == "hold":
        return f"hold {name}: its run does not exist"
    return f"run {name!r}: its amounts do not match its open holds"


def _info(client: Any) -> dict[str, Any]:  # noqa: ANN401 - redis-py's clients have no type in common
    """Return INFO of the server, or of one node of a Cluster."""
    info: dict[str, Any] = client.info()
    first = next(iter(info.values()))
    return first if isinstance(first, dict) and "redis_version" in first else info


def _warnings(info: dict[str, Any]) -> Iterator[str]:
    if int(str(info.get("redis_version", "0")).partition(".")[0]) < MIN_VERSION:
        yield f"this version is too old: {MIN_VERSION}.0 or newer is required"
    if info.get("maxmemory_policy") not in {"noeviction", None} and info.get("maxmemory"):
        yield "maxmemory-policy evicts keys, which deletes what runs have spent: set it to noeviction"
    if not info.get("aof_enabled"):
        yield "appendonly is off: a restart of the server loses what runs have spent"
