"""Conversion of the replies of a Redis ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger.models import Alert, Hold, Kind, LevelUsage, ModelCost, Receipt, RunUsage
from ridges_proxy.ledger.run_record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Sequence


def usage_of(row: Sequence[bytes], levels: tuple[LevelUsage, ...] = ()) -> RunUsage:
    """Convert the usage of a run."""
    run_id, budget, inference, embedding, held, calls, in_flight, idle_seconds, *flags, groups = row
    closed, finished, own_budget = (flag == b"1" for flag in flags)
    return RunUsage(
        run_id.decode(),
        int(budget),
        int(inference),
        int(embedding),
        int(held),
        int(calls),
        int(in_flight),
        float(idle_seconds),
        closed,
        finished,
        own_budget,
        groups=groups_of(groups),
        levels=levels,
    )


def resolved_usage_of(text: bytes) -> RunUsage:
    """Convert the usage of a run whose hold was resolved, with the levels of the hold."""
    lines, *levels = text.split(b"\0")
    return usage_of(lines.split(b"\n"), levels_of(levels))


def detailed_usage_of(row: Sequence[Any]) -> RunUsage:
    """Convert the usage of a run with its detail."""
    *values, detail = row
    return replace(usage_of(values), detail=record_of_fields(detail).detail())


def groups_text(groups: Sequence[str]) -> str:
    """Return the text that is stored for the groups of a run: JSON; empty for none."""
    return orjson.dumps(groups).decode() if groups else ""


def groups_of(text: bytes) -> tuple[str, ...]:
    """Parse the text of `groups_text`."""
    return tuple(orjson.loads(text)) if text else ()


def record_of_fields(detail: Sequence[bytes]) -> RunRecord:
    """Convert the fields of a run's hash beside its account: a flat list of names and values."""
    record = RunRecord()
    for name, value in zip(detail[::2], detail[1::2], strict=True):
        what, _, rest = name.decode().partition("|")
        if what == "groups":
            record.groups = groups_of(value)
        elif what == "first_call":
            record.first_call_at = float(value)
        elif what == "last_call":
            record.last_call_at = float(value)
        elif what == "had_token":
            record.had_token = True
        elif what == "refused":
            record.refused[rest] = int(value)
        elif what == "cost":
            kind, _, model = rest.partition("|")
            sums = (int(number) for number in value.split(b"|"))
            record.costs[model, Kind(kind)] = ModelCost(model, Kind(kind), *sums)
    return record


def fields_of_record(record: RunRecord) -> list[str]:
    """Return the fields of a run's hash beside its account, as `record_of_fields` reads them, by name."""
    fields = {f"refused|{code}": str(number) for code, number in record.refused.items()}
    for cost in record.costs.values():
        sums = (cost.calls, cost.prompt_tokens, cost.completion_tokens, cost.cost_nanousd)
        fields[f"cost|{cost.kind.value}|{cost.model}"] = "|".join(map(str, sums))
    if record.groups:
        fields["groups"] = groups_text(record.groups)
    if record.had_token:
        fields |= {"had_token": "1"}  # nosec B105 # a flag, no secret
    for name, at in (("first_call", record.first_call_at), ("last_call", record.last_call_at)):
        if at is not None:
            fields[name] = f"{at:.17g}"
    return [text for pair in sorted(fields.items(), key=lambda pair: pair[0].encode()) for text in pair]


def hold_of(row: Sequence[bytes]) -> Hold:
    """Convert a hold."""
    hold_id, run_id, kind, amount_nanousd, expires_at, model, nested = row
    return Hold(
        hold_id.decode(),
        run_id.decode(),
        Kind(kind.decode()),
        int(amount_nanousd),
        float(expires_at),
        model.decode(),
        nested == b"1",
    )


def run_of_receipt(member: bytes) -> str:
    """Return the run id of a member of a bucket's receipts."""
    run_id: str = orjson.loads(member)[0][0]
    return run_id


def receipt_of(member: bytes, finished: bytes | None) -> Receipt:
    """Convert a member of a bucket's receipts. `finished` is its run's value in the hash of that name."""
    row, forgotten_at, *details = orjson.loads(member)
    own_budget, _, receipt = (finished or b"").partition(b"|")
    flags = (b"1", own_budget) if receipt == member else (b"0", b"0")
    usage = usage_of([*(value.encode() for value in row), *flags, b""])
    record = record_of_fields([value.encode() for detail in details for value in detail])
    return Receipt(replace(usage, groups=record.groups, detail=record.detail()), float(forgotten_at))


def level_id(level: Level) -> str:
    """Return the name of a level in the store. Names of budgets and periods have no `|`."""
    return f"{level.budget}|{level.scope}|{level.period}"


def levels_of(flat: Sequence[bytes]) -> tuple[LevelUsage, ...]:
    """Convert a flat list of levels and their values, as FORM in `lua/levels.lua` writes them."""
    return tuple(_level_of(*pair) for pair in zip(flat[::2], flat[1::2], strict=True))


def _level_of(name: bytes, values: bytes) -> LevelUsage:
    budget, _, rest = name.decode().partition("|")
    scope, _, period = rest.rpartition("|")
    _, resets_at, in_force, *sums, _ = values.split(b"|")
    level = Level(budget, scope, period, int(in_force), float(resets_at) if resets_at else None)
    return LevelUsage(level, *map(int, sums))


def alert_of(row: Sequence[bytes]) -> Alert:
    """Convert an alert."""
    alert_id, claims, text = row
    at, budget, scope, period, percent, amount_nanousd, spent_nanousd, resets_at = orjson.loads(text)
    return Alert(
        alert_id.decode(),
        float(at),
        budget,
        scope,
        period,
        int(percent),
        int(amount_nanousd),
        int(spent_nanousd),
        float(resets_at) if resets_at else None,
        int(claims),
    )
