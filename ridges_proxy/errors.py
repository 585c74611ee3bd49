"""Every error that the proxy answers with: its HTTP status, its stable code, its message.

ProxyError
├── RefusedError                      the caller must correct the request; nothing was held or sent
│   ├── InvalidRequestError           422  invalid fields in the body or the query, each one named
│   ├── BodyTruncatedError            400  shorter than Content-Length, or malformed chunks
│   ├── BodyTimeoutError              408
│   ├── BodyTooLargeError             413
│   ├── BodyTooComplexError           413  too many values in its JSON
│   ├── BodyCompressedError           415
│   ├── InvalidApiKeyError            401
│   ├── StaleFormError                400  a dashboard form without a valid page token
│   ├── AddressNotAllowedError        403
│   ├── RunNotAllowedError            403  a run token is valid for its own run only
│   ├── RunClosedError                403  final: the run was closed (401 with the run's token)
│   ├── RunNotFoundError              404  operators' routes
│   ├── BudgetNotFoundError           404  operators' routes
│   ├── TokensNotIssuedError          409  operators' routes: RUN_TOKEN_KEY is not set
│   ├── ModelNotSupportedError        404  (/agents: 200 with a text that agents expect)
│   ├── BudgetExhaustedError          402  final: do not retry (/agents: as above)
│   ├── RunBusyError                  429  retry: other calls were still in progress
│   │   └── PeriodFullError                until the period of a budget ends, which is soon
│   ├── TooManyInFlightError          429  too many in-flight calls of this run
│   ├── RefusedBytesError             429  retry later: too many bytes of refused requests
│   └── RateLimitedError              429  too many calls of this run
│       └── AddressLimitedError            too many requests from this address
├── UnavailableError                  503  the proxy cannot take the call; nothing was sent
│   ├── OverloadedError                    the maximum number of calls is in flight
│   │   └── DrainingError                  the process is shutting down
│   ├── BodyQueueError                     the large body waited too long, or behind too many others
│   ├── LedgerUnavailableError
│   └── UpstreamDownError                  the model's circuit breaker is open
├── InterruptedCallError              a running call was ended; its hold is still settled
│   ├── ClientGoneError               499  a client that only half-closed can still read it
│   │   └── ClientStalledError                 the client does not read its stream
│   └── DrainedError                  503
├── UpstreamError                     Chutes failed (/agents: 500 with a text that agents expect)
│   ├── UpstreamUnreachableError      502  connection refused, DNS, connect timeout, certificate
│   │   └── NoFilesError                       the process may not open more files
│   ├── UpstreamTimeoutError          504  silent for too long, here or at a gateway
│   │   └── DeadlineExceededError          over the total deadline
│   ├── UpstreamBrokenError           502  incomplete, malformed, or ended with an error
│   │   ├── UpstreamOverranError               longer than max_tokens
│   │   └── AnswerTooLargeError                too large to keep in memory
│   └── UpstreamRefusedError          the upstream answered an error status or object
│       ├── UpstreamAuthError         502  401, 403: the proxy's key
│       ├── UpstreamQuotaError        502  402: the account's balance
│       ├── UpstreamRejectedError     400  400 and other 4xx: the request
│       ├── UpstreamModelError        502  404
│       ├── UpstreamBusyError         429  429: no capacity, or too many requests
│       ├── UpstreamNoInstanceError   503  503
│       └── UpstreamFailedError       502  500 and all other statuses
└── InternalError                     500  a bug in the proxy
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Problem(NamedTuple):
    """One invalid field of a request, in FastAPI's format: its location, a message, and an error type."""

    loc: list[str | int]
    msg: str
    type: str


class RefusingBudget(NamedTuple):
    """The budget that refuses a call."""

    budget: str = "run"
    """Name of the budget; `run` is the run's own."""
    scope: str = "run"
    window: str = "lifetime"
    resets_at: float | None = None
    """End of its period, in seconds since the epoch; None: it never ends."""


class RateLimitStatus(NamedTuple):
    """The state of a caller's rate limit."""

    limit: int
    """Maximum calls in a window."""
    window_seconds: int
    remaining: int
    reset_seconds: int
    """Time until the oldest counted call leaves the window."""


class ProxyError(Exception):
    """Base class. `message` is safe to show: it never contains text of a request or an answer."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    message: ClassVar[str] = "Internal Server Error"
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        return self.message


class RefusedError(ProxyError):
    """The caller must correct the request. Nothing was held and nothing was sent."""

    status = 400
    code = "invalid_request"
    message = "Bad Request"


class InvalidRequestError(RefusedError):
    """Invalid fields in the request. `problems` names each of them, `cause` the fault in invalid JSON."""

    status = 422
    message = "The request has invalid fields"

    def __init__(self, problems: list[Problem], cause: str = "") -> None:
        super().__init__()
        self.problems, self.cause = problems, cause


class BodyTruncatedError(RefusedError):
    """The body is shorter than its Content-Length, or its chunks are malformed."""

    code = "body_truncated"
    message = "The request body is incomplete or its chunks are malformed"


class BodyTimeoutError(RefusedError):
    """The body did not arrive in time."""

    status = 408
    code = "body_timeout"
    message = "The request body did not arrive in time"


class BodyTooLargeError(RefusedError):
    """The body is larger than MAX_BODY_BYTES."""

    status = 413
    code = "body_too_large"
    message = "The request body is too large"


class BodyTooComplexError(RefusedError):
    """The body has more values than the proxy checks and counts, whatever its size."""

    status = 413
    code = "body_too_complex"
    message = "The request body has too many JSON values: send fewer lists, objects and fields"


class BodyCompressedError(RefusedError):
    """The body has a Content-Encoding, which is not read here."""

    status = 415
    code = "body_compressed"
    message = "The request body is compressed: send it as plain JSON, without Content-Encoding"


class InvalidApiKeyError(RefusedError):
    """The API key is missing or wrong."""

    status = 401
    code = "invalid_api_key"
    message = "Invalid API key"
    reason: str | None = None
    """Why a run token was refused. Only for the log: the answer must not help to guess."""
    is_missing = False
    """Whether the request has no key at all. Code and message stay the same: agents in use know them."""


class StaleFormError(RefusedError):
    """A dashboard form without a valid page token: the page is too old, or comes from another site."""

    status = 400
    code = "stale_form"
    message = "This page has expired. Reload it and try again"


class AddressNotAllowedError(RefusedError):
    """The caller's address is outside ALLOWED_IPS."""

    status = 403
    code = "ip_not_allowed"
    message = "IP not allowed"


class RunNotAllowedError(RefusedError):
    """The run in the request differs from the run in the run token."""

    status = 403
    code = "run_not_allowed"
    message = "The run token is for another run: name the run of the token, or no run at all"


class RunClosedError(RefusedError):
    """The run was closed, which is final. In-flight calls of the run end with this error too."""

    status = 403
    code = "run_closed"
    message = "The run is closed"


class RunNotFoundError(RefusedError):
    """The ledger does not know the run."""

    status = 404
    code = "run_not_found"
    message = "Run not found"


class BudgetNotFoundError(RefusedError):
    """BUDGETS has no budget of this name, and no amount is set for one."""

    status = 404
    code = "budget_not_found"
    message = "Budget not found"


class TokensNotIssuedError(RefusedError):
    """RUN_TOKEN_KEY is not set, so this server has no key to sign run tokens with."""

    status = 409
    code = "tokens_not_minted"
    message = "RUN_TOKEN_KEY is not set, so this server issues no run tokens"


class ModelNotSupportedError(RefusedError):
    """The model has no price, so the cost of a call to it has no bound."""

    status = 404
    code = "model_not_found"
    message = "Model not supported: GET /v1/models lists those that are"

    def __init__(self, model: str, supported: list[str]) -> None:
        super().__init__()
        self.model = model
        self.supported = supported


class BudgetExhaustedError(RefusedError):
    """The rest of a budget is too small for the minimum of the quote. This is final."""

    status = 402
    code = "budget_exhausted"
    message = "The run's budget is exhausted: what remains does not pay for this call. Do not retry it"

    def __init__(self, budget: RefusingBudget | None = None) -> None:
        super().__init__()
        self.budget = budget or RefusingBudget()
        self.keeps_final_part = False
        """Whether a part of the run's budget is kept for its final call, which this call was not."""

    @property
    def is_of_run(self) -> bool:
        """Whether the run's own budget refuses, and not one above it."""
        return self.budget == RefusingBudget()


class RunBusyError(RefusedError):
    """Other calls hold what this call needs, or wait before it. Its texts have no word that sounds final."""

    status = 429
    code = "run_busy"
    message = "Other calls are still in progress: try again soon"
    retry_after_seconds = 2
    place: int | None = None
    """In the queue of its run: a smaller one is served earlier. None: it does not wait."""


class PeriodFullError(RunBusyError):
    """A budget above the run is used up until its period ends, which is soon. No text sounds final."""

    message = "No more such calls are possible in this period: try again when the next one begins"

    def __init__(self, budget: RefusingBudget, retry_after_seconds: int) -> None:
        super().__init__()
        self.budget, self.retry_after_seconds = budget, retry_after_seconds


class TooManyInFlightError(RefusedError):
    """The run has MAX_CONCURRENT_CALLS_PER_RUN in-flight calls."""

    status = 429
    code = "too_many_in_flight"
    message = "The run has too many calls in flight: try again when one of them has ended"
    retry_after_seconds = 1


class RefusedBytesError(RefusedError):
    """Requests of the run, or of the address, that were refused had too many bytes together."""

    status = 429
    code = "too_many_refused_bytes"
    message = "Too many large requests were invalid or refused: correct them, and try again after Retry-After"
    retry_after_seconds = 60

    def __init__(self, retry_after_seconds: int = retry_after_seconds) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class RateLimitedError(RefusedError):
    """The run has reached RATE_LIMIT_PER_RUN, or the rate limit in its run token."""

    status = 429
    code = "rate_limited"
    message = "The run makes too many calls: try again after Retry-After seconds"
    retry_after_seconds = 60

    def __init__(self, rate_limit_status: RateLimitStatus) -> None:
        super().__init__()
        self.rate_limit_status = rate_limit_status
        self.retry_after_seconds = rate_limit_status.reset_seconds


class AddressLimitedError(RateLimitedError):
    """The address has reached RATE_LIMIT_PER_IP, or has sent too many invalid API keys."""

    message = "Too many requests come from this address"


class UnavailableError(ProxyError):
    """The proxy cannot take the call at the moment. Nothing was sent; a retry may succeed."""

    status = 503
    code = "overloaded"
    message = "The proxy is overloaded"
    retry_after_seconds = 2


class OverloadedError(UnavailableError):
    """The process has MAX_CONCURRENT_CALLS in-flight calls."""


class DrainingError(OverloadedError):
    """The process ends in a moment: it accepts no new calls, and ends those that wait for a hold."""

    code = "shutting_down"
    message = "The proxy is shutting down"
    retry_after_seconds = 5


class BodyQueueError(UnavailableError):
    """Large bodies are checked one after another. This one waited too long, or too many wait before it."""

    code = "bodies_waiting"
    message = "Other large requests are still being checked: try again soon"


class LedgerUnavailableError(UnavailableError):
    """The ledger does not answer. The proxy accepts no call without it."""

    code = "ledger_unavailable"
    message = "The ledger is unavailable"
    retry_after_seconds = 5


class UpstreamDownError(UnavailableError):
    """The model's circuit breaker is open after repeated failures, so no call is sent for some time."""

    code = "upstream_down"
    message = "The upstream is down"
    retry_after_seconds = 10

    def __init__(self, retry_after_seconds: int = retry_after_seconds) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class InterruptedCallError(ProxyError):
    """A running call was ended. Raised inside the waiting call, so that its hold is settled."""

    code = "interrupted"
    message = "The call was interrupted"


class ClientGoneError(InterruptedCallError):
    """The client closed the connection. The status is nginx's. Only a client that half-closed can read it."""

    status = 499
    code = "client_gone"
    message = "The client closed the connection"


class ClientStalledError(ClientGoneError):
    """The client reads its stream too slowly."""

    code = "client_stalled"
    message = "The client did not read its answer in time"


class DrainedError(InterruptedCallError):
    """The process is shutting down, and its grace period is over."""

    status = 503
    code = "shutting_down"
    message = "The proxy is shutting down"
    retry_after_seconds = 5


class UpstreamError(ProxyError):
    """A failure of Chutes, or of the network between."""

    status = 502
    code = "upstream_error"
    message = "The upstream failed"
    may_be_outage: ClassVar[bool] = False
    """Whether an outage of the upstream causes such errors. The circuit breaker counts only these."""
    detail: str = ""
    """The upstream's message. Shown only to the caller on `/v1`, as it may quote the request."""


class UpstreamUnreachableError(UpstreamError):
    """No byte of the request reached the upstream."""

    may_be_outage = True
    code = "upstream_unreachable"
    message = "The upstream cannot be reached"


class NoFilesError(UpstreamUnreachableError):
    """The limit of open files was reached. This is no failure of the upstream."""

    may_be_outage = False


class UpstreamTimeoutError(UpstreamError):
    """The upstream was silent for too long, or a gateway there reported that."""

    may_be_outage = True
    status = 504
    code = "upstream_timeout"
    message = "The upstream took too long"


class DeadlineExceededError(UpstreamTimeoutError):
    """The call exceeded its total deadline. The circuit breaker does not count it if the answer was long."""


class UpstreamBrokenError(UpstreamError):
    """The answer was incomplete, malformed, too large, or ended with an error."""

    may_be_outage = True
    code = "upstream_broken"
    message = "The upstream's answer broke off or was not understood"


class UpstreamOverranError(UpstreamBrokenError):
    """The answer was longer than the max_tokens that its hold pays for, and was cut off."""

    may_be_outage = False
    code = "upstream_overran"
    message = "The upstream did not keep to max_tokens"


class AnswerTooLargeError(UpstreamBrokenError):
    """The answer exceeds the size limit of a buffered answer, or the memory for all of them is used up."""

    may_be_outage = False
    message = "The upstream's answer was too large"


class UpstreamRefusedError(UpstreamError):
    """The upstream answered an error status or an error object. It bills nothing for such a call."""

    code = "upstream_refused"
    message = "The upstream refused the call"

    def __init__(self, upstream_status: int) -> None:
        super().__init__()
        self.upstream_status = upstream_status


class UpstreamAuthError(UpstreamRefusedError):
    """401, 403: the upstream rejected the proxy's API key."""

    code = "upstream_auth"
    message = "The upstream rejected the proxy's API key"


class UpstreamQuotaError(UpstreamRefusedError):
    """402: the account's quota or balance is used up."""

    code = "upstream_quota"
    message = "The upstream account is out of quota"


class UpstreamRejectedError(UpstreamRefusedError):
    """400 and other 4xx: the upstream rejected the request. The caller must correct it."""

    status = 400
    code = "upstream_rejected"
    message = "The upstream rejected the request"

    upstream_code: str | None = None
    """The upstream's code, shown as the detail is. Clients know a prompt that is too long by it."""
    param: str | None = None
    """The field of the request that the upstream names."""

    def __init__(self, upstream_status: int, detail: str = "") -> None:
        super().__init__(upstream_status)
        self.detail = detail


class UpstreamModelError(UpstreamRefusedError):
    """404: the upstream does not have the model, although it has a price here."""

    code = "upstream_model"
    message = "The upstream does not have the model"


class UpstreamBusyError(UpstreamRefusedError):
    """429: no capacity, maintenance, or too many requests."""

    status = 429
    code = "upstream_busy"
    message = "The upstream is at capacity"
    retry_after_seconds = 5


class UpstreamNoInstanceError(UpstreamRefusedError):
    """503: no instance serves the model at the moment."""

    may_be_outage = True
    status = 503
    code = "upstream_no_instance"
    message = "The upstream has no instance for the model"
    retry_after_seconds = 10


class UpstreamFailedError(UpstreamRefusedError):
    """500, and every status without its own class."""

    may_be_outage = True
    code = "upstream_failed"
    message = "The upstream failed"


class InternalError(ProxyError):
    """A bug in the proxy. The log has the traceback."""
