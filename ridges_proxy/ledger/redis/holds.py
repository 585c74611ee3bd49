"""The holds of a Redis ledger: reserved and resolved in a run, and in the budgets above it."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import (
    BudgetExhaustedError,
    LedgerUnavailableError,
    ProxyError,
    RefusedError,
    RunBusyError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger.booked_calls import booked_call
from ridges_proxy.ledger.models import Hold
from ridges_proxy.ledger.redis import scripts
from ridges_proxy.ledger.redis.calls import text_of
from ridges_proxy.ledger.redis.client import AwayError
from ridges_proxy.ledger.redis.levels import ABANDONED_SECONDS, RESOLVED_SECONDS, exhausted_by, flat_levels
from ridges_proxy.ledger.redis.rows import resolved_usage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.models import CallRecord, Run, RunUsage
    from ridges_proxy.ledger.redis.client import RedisClient
    from ridges_proxy.ledger.redis.levels import RedisLevels
    from ridges_proxy.ledger.redis.reservation import Reservation

MAX_UNANSWERED = 10_000
"""Limit of unanswered reservations that are kept for release. The holds of older ones expire."""

REFUSALS: dict[bytes, type[ProxyError]] = {
    b"closed": RunClosedError,
    b"too_many": TooManyInFlightError,
    b"exhausted": BudgetExhaustedError,  # alerts follow that the script could not add
    b"used_up": BudgetExhaustedError,  # the number of the level follows
    b"busy": RunBusyError,  # its place in the queue of its run follows, if it has one
    b"done": LedgerUnavailableError,  # the reservation was abandoned because its reply was lost
}


class RedisHolds:
    """Outside a Cluster, each method is one script. The hold's id makes it safe to run it twice."""

    def __init__(
        self,
        client: RedisClient,
        levels: RedisLevels,
        key_of: Callable[[str], str],
        now: Callable[[], str],
        *,
        keeps_calls: bool = False,
    ) -> None:
        """`key_of` returns the prefix of the keys of a run, and `now` the first argument of a script."""
        self._client = client
        self._levels = levels
        self._key_of = key_of
        self._now = now
        self._keeps_calls = keeps_calls
        self._unanswered: deque[Hold] = deque(maxlen=MAX_UNANSWERED)

    def reserve(self, asked: Reservation) -> Hold:
        """Hold in the run and in its levels. Raises the refusal."""
        try:
            if asked.run.levels and self._client.is_cluster():
                return self._reserve_in_two_steps(asked)
            return self._reserve_in_run(asked)
        except AwayError:
            raise
        except LedgerUnavailableError:
            self._unanswered.append(asked.hold)  # Redis may have created it
            raise

    def release_unanswered(self) -> None:
        """Release the holds of reservations that got no reply: Redis may have created them."""
        while self._unanswered:
            self.resolve(self._unanswered[0], None)
            self._unanswered.popleft()

    def _reserve_in_run(self, asked: Reservation, answer_of_levels: str | int = "") -> Hold:
        """Hold in the run, and in its levels if one script may change both. Raises the refusal."""
        second_key = self._levels.second_key()
        reply = self._client.run(
            scripts.RESERVE,
            self._key_of(asked.run.id),
            self._now(),
            *asked.arguments(),
            self._levels.rules,
            answer_of_levels,
            *(flat_levels(asked.run.levels) if second_key else ()),
            on_replicas=True,
            second_key=second_key,
        )
        if isinstance(reply, list):
            raise self._refusal(asked.run, *reply)
        amount_nanousd, expires_at = reply.split(b"|")
        hold = asked.hold
        return Hold(
            hold.id,
            hold.run_id,
            hold.kind,
            int(amount_nanousd),
            float(expires_at),
            hold.model,
            hold.nested,
        )

    def _reserve_in_two_steps(self, asked: Reservation) -> Hold:
        """Hold in the levels, then in the run, which are on two nodes of a Cluster. Raises the refusal.

        A process that dies between the steps leaves a hold of the levels, which expires. What the run refuses
        is given back. If the levels refuse, the run is asked too: its own refusals come first, and a call
        that waits for a level waits in the queue of its run.
        """
        answer, *details = self._levels.hold(asked)
        if answer != b"held":
            return self._reserve_in_run(asked, details[0] if answer == b"used_up" else "busy")
        asked = replace(asked, hold=replace(asked.hold, amount_nanousd=int(details[0])))
        try:
            hold = self._reserve_in_run(asked)
            if hold.amount_nanousd < asked.hold.amount_nanousd:
                self._levels.cut(hold)
        except RefusedError:
            self._give_back(asked.hold)
            raise
        except AwayError:
            self._unanswered.append(asked.hold)
            raise
        return hold

    def _give_back(self, hold: Hold) -> None:
        """Release what the levels hold for a call that its run refuses."""
        try:
            self._levels.resolve(hold.id, "")
        except LedgerUnavailableError:
            self._unanswered.append(hold)

    def _refusal(self, run: Run, result: bytes, detail: Any = None) -> ProxyError:  # noqa: ANN401 - of any form
        """Return the refusal of a reply. Its detail depends on the refusal."""
        if result == b"used_up":
            return exhausted_by(run.levels[detail - 1])
        refusal = REFUSALS[result]()
        if isinstance(refusal, RunBusyError) and detail is not None:
            refusal.place = int(detail)
        if isinstance(refusal, BudgetExhaustedError):
            self._levels.add_alerts(detail)
        return refusal

    def resolve(self, hold: Hold, cost: int | None, call: CallRecord | None = None) -> RunUsage | None:
        """Resolve a hold in its run, and in its levels: in a Cluster by a second script.

        Without that second step, the levels would hold it until it expires. So it follows also if the hold is
        not open in the run: an earlier attempt may have failed between the steps.
        """
        second_key, charge = self._levels.second_key(), "" if cost is None else cost
        reply = self._client.run(
            scripts.RESOLVE,
            self._key_of(hold.run_id),
            self._now(),
            hold.id,
            charge,
            uuid.uuid4().hex,
            hold.run_id,
            RESOLVED_SECONDS * 1000,
            ABANDONED_SECONDS * 1000,
            call.prompt_tokens if call else 0,
            call.completion_tokens if call else 0,
            self._levels.rules,
            "" if cost is None else self._call_text(hold, cost, call),
            second_key=second_key,
        )
        if second_key:
            return None if reply is None else resolved_usage_of(reply)
        if reply is None:
            self._levels.resolve(hold.id, charge)
            return None
        text, alerts, nested = reply
        self._levels.add_alerts(alerts)
        usage = resolved_usage_of(text)
        return replace(usage, levels=self._levels.resolve(hold.id, charge)) if nested == b"1" else usage

    def _call_text(self, hold: Hold, cost_nanousd: int, call: CallRecord | None) -> str:
        """Return the text of a call that is kept; an empty one if calls are not kept."""
        return text_of(booked_call(hold, cost_nanousd, 0.0, call)) if self._keeps_calls else ""
