"""What is known of one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridges_proxy.calls.budget_state import budget_state
from ridges_proxy.ledger import CallRecord
from ridges_proxy.runtime.turn_queue import Caller
from ridges_proxy.upstream import Attempt

if TYPE_CHECKING:
    from ridges_proxy.calls.budget_state import BudgetState
    from ridges_proxy.calls.in_flight import Client
    from ridges_proxy.calls.rate_limits import Hit
    from ridges_proxy.calls.refused_amounts import RefusedAmounts
    from ridges_proxy.errors import ProxyError, RateLimitStatus
    from ridges_proxy.ledger import Run, RunUsage


@dataclass(slots=True)
class Call:
    """One call of one run: the request's facts, and the results for the answer and the log."""

    run: Run
    client: Client
    model: str | None = None
    upstream_model: str | None = None
    """The upstream's name of the model, if `model` is an alias. Set with the price of the call."""
    models: frozenset[str] | None = None
    """The only models that the run may use. None: all models that have a price."""
    calls_per_minute: int | None = None
    min_tokens: int = 0
    """The fewest tokens to which the caller lets `max_tokens` be cut. 0: as few as the settings allow."""
    needs_time: bool = False
    """Whether the prompt is so large that computations over it need a turn."""
    turn: Caller = field(init=False)
    """Whose turn its computations take."""
    rate_limit: RateLimitStatus | None = None
    """The status of the run's rate limit with the fewest remaining calls."""
    rate_limit_hits: list[Hit] = field(default_factory=list)
    """What was counted in the run's rate limits."""
    attempt: Attempt = field(default_factory=Attempt)
    requested_nanousd: int = 0
    """The amount that the ledger was asked to hold."""
    minimum_nanousd: int = 0
    """The smallest hold that it accepts."""
    prompt_tokens: int = 0
    """The maximum tokens of the prompt, for all choices together."""
    hold_wait_seconds: float = 0.0
    """Time for which it waited for its hold, behind other calls."""
    cost_nanousd: int = 0
    refused: RefusedAmounts | None = None
    """What was left for it, if the ledger has refused its hold."""
    run_usage: RunUsage | None = None
    """The run's usage after this call. None until the call has settled."""
    failure: ProxyError | None = None
    """The error that ended a stream after its status had been sent."""

    def __post_init__(self) -> None:
        self.turn = Caller(self.run.id, self.run.id)

    @property
    def budget_state(self) -> BudgetState | None:
        """What is left for the next call like this one. None until the call has settled."""
        if self.run_usage is None:
            return None
        return budget_state(self.run_usage, self.minimum_nanousd, self.run.reserved_nanousd)

    @property
    def record(self) -> CallRecord:
        """The facts of the call that the ledger keeps beside its cost."""
        attempt, usage = self.attempt, self.attempt.usage
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return CallRecord(*tokens, attempt.answer_id, attempt.invocation_id)

    @property
    def rate_limit_status(self) -> RateLimitStatus | None:
        """The status of the run's rate limit. A call that was refused is not in it."""
        if self.rate_limit is None or self.rate_limit_hits:
            return self.rate_limit
        return self.rate_limit._replace(remaining=self.rate_limit.remaining + 1)
