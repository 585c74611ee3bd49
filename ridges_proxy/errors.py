"""Every error that the proxy answers with: its status, its stable code, its words.

ProxyError
├── RefusedError                      the caller's to mend; nothing was held, nothing was sent
│   ├── InvalidRequestError           422  the body's or the query's fields, each named
│   ├── BodyTruncatedError            400  shorter than announced, or chunks that do not parse
│   ├── BodyTimeoutError              408
│   ├── BodyTooLargeError             413
│   ├── InvalidApiKeyError            401
│   ├── StaleFormError                400  the dashboard's: no token of a page of ours
│   ├── AddressNotAllowedError        403
│   ├── RunNotAllowedError            403  a run token speaks for its own run only
│   ├── RunClosedError                403  final: the run was closed (with its token: 401)
│   ├── RunNotFoundError              404  operators' routes
│   ├── TokensNotMintedError          409  operators' routes: RUN_TOKEN_KEY is not set
│   ├── ModelNotSupportedError        404  (/agents: 200 with the guide's text)
│   ├── BudgetExhaustedError          402  final: never retry (/agents: 200 with the guide's text)
│   ├── BudgetHeldError               429  fits once calls in flight settle
│   ├── TooManyInFlightError          429  this run's calls
│   └── RateLimitedError              429  more calls than the run may make
│       └── AddressLimitedError            more requests than an address may make
├── UnavailableError                  503  ours; nothing was sent
│   ├── OverloadedError                    all calls in flight
│   │   └── DrainingError                  shutting down
│   ├── LedgerUnavailableError
│   └── UpstreamDownError                  its circuit is open: nobody asks until it has had time
├── InterruptedCallError              a call cut short from outside; the hold is settled all the same
│   ├── ClientGoneError               499  seen in the log only
│   │   └── ClientStalledError                 it does not read its stream
│   └── DrainedError                  503
├── UpstreamError                     Chutes' (/agents: 500 with the guide's text)
│   ├── UpstreamUnreachableError      502  never reached: refused, DNS, connect timeout, certificate
│   │   └── NoFilesError                       we may open no more files
│   ├── UpstreamTimeoutError          504  silent for too long
│   │   └── DeadlineExceededError          too long in all
│   ├── UpstreamBrokenError           502  cut, malformed, or an error inside a 200
│   │   ├── UpstreamOverranError               went on past max_tokens
│   │   └── AnswerTooLargeError                more than is kept of an answer in one piece
│   └── UpstreamRefusedError          it answered an error status
│       ├── UpstreamAuthError         502  401, 403: our key
│       ├── UpstreamQuotaError        502  402: our balance
│       ├── UpstreamRejectedError     400  400 and other 4xx: the request
│       ├── UpstreamModelError        502  404
│       ├── UpstreamBusyError         429  429: no capacity, or asked to slow down
│       ├── UpstreamNoInstanceError   503  503
│       └── UpstreamFailedError       502  500 and all else
└── InternalError                     500  a bug of ours
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Problem(NamedTuple):
    """One fault of a request, in the form agents know: where, in words, and as a type."""

    loc: list[str | int]
    msg: str
    type: str


class RateLimitStatus(NamedTuple):
    """Where a caller stands with a rate limit."""

    limit: int
    """Calls in a window."""
    window_seconds: int
    remaining: int
    reset_seconds: int
    """Until the oldest call that counts does no longer."""


class ProxyError(Exception):
    """The root: `message` is safe to show; nothing of a request or an answer is ever put in it."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    message: ClassVar[str] = "Internal Server Error"
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        return self.message


class RefusedError(ProxyError):
    """The caller's to mend; nothing was held and nothing was sent."""

    status = 400
    code = "invalid_request"
    message = "Bad Request"


class InvalidRequestError(RefusedError):
    """Fields that do not fit, every one named in `problems`."""

    status = 422
    message = "The request has invalid fields"

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


class BodyTruncatedError(RefusedError):
    """The body ended before its announced end."""

    code = "body_truncated"
    message = "The request body is shorter than announced or badly framed"


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


class InvalidApiKeyError(RefusedError):
    """No key, or not the one."""

    status = 401
    code = "invalid_api_key"
    message = "Invalid API key"


class StaleFormError(RefusedError):
    """A form of the dashboard without its page's token: the page is too old, or not ours."""

    status = 400
    code = "stale_form"
    message = "This page is too old: load it again, and try once more"


class AddressNotAllowedError(RefusedError):
    """The caller's address is outside ALLOWED_IPS."""

    status = 403
    code = "ip_not_allowed"
    message = "IP not allowed"


class RunNotAllowedError(RefusedError):
    """The request names another run than its run token does."""

    status = 403
    code = "run_not_allowed"
    message = "The run token is for another run"


class RunClosedError(RefusedError):
    """The run was closed: final. Calls in flight end with it too."""

    status = 403
    code = "run_closed"
    message = "The run is closed"


class RunNotFoundError(RefusedError):
    """The ledger does not know the run."""

    status = 404
    code = "run_not_found"
    message = "Run not found"


class TokensNotMintedError(RefusedError):
    """RUN_TOKEN_KEY is not set: this server has nothing to sign with."""

    status = 409
    code = "tokens_not_minted"
    message = "RUN_TOKEN_KEY is not set, so no run tokens are minted here"


class ModelNotSupportedError(RefusedError):
    """The model has no price, so no call to it can be bounded."""

    status = 404
    code = "model_not_found"
    message = "Model not supported"

    def __init__(self, model: str, supported: list[str]) -> None:
        super().__init__()
        self.model = model
        self.supported = supported


class BudgetExhaustedError(RefusedError):
    """Less than the smallest useful call is left of the cap: final."""

    status = 402
    code = "budget_exhausted"
    message = "The run's budget is exhausted"


class BudgetHeldError(RefusedError):
    """Calls in flight hold what this call would need; it may fit once they settle."""

    status = 429
    code = "budget_held"
    message = "The run's budget is held by its calls in flight"
    retry_after_seconds = 2


class TooManyInFlightError(RefusedError):
    """The run has MAX_CONCURRENT_CALLS_PER_RUN calls in flight."""

    status = 429
    code = "too_many_in_flight"
    message = "The run has too many calls in flight"
    retry_after_seconds = 1


class RateLimitedError(RefusedError):
    """The run has made as many calls in the window as RATE_LIMIT_PER_RUN, or its run token, allows."""

    status = 429
    code = "rate_limited"
    message = "The run makes too many calls"
    retry_after_seconds = 60

    def __init__(self, standing: RateLimitStatus) -> None:
        super().__init__()
        self.standing = standing
        self.retry_after_seconds = standing.reset_seconds


class AddressLimitedError(RateLimitedError):
    """RATE_LIMIT_PER_IP, or more bad keys than anybody sends by mistake."""

    message = "Too many requests come from this address"


class UnavailableError(ProxyError):
    """Ours, and passing; nothing was sent."""

    status = 503
    code = "overloaded"
    message = "The proxy is overloaded"
    retry_after_seconds = 2


class OverloadedError(UnavailableError):
    """MAX_CONCURRENT_CALLS calls are in flight."""


class DrainingError(OverloadedError):
    """The process is shutting down and takes no new calls."""

    message = "The proxy is shutting down"
    retry_after_seconds = 5


class LedgerUnavailableError(UnavailableError):
    """The books do not answer: no call without them."""

    code = "ledger_unavailable"
    message = "The ledger is unavailable"
    retry_after_seconds = 5


class UpstreamDownError(UnavailableError):
    """The model's circuit is open: calls in a row have failed, so the upstream is spared for a while."""

    code = "upstream_down"
    message = "The upstream is down"
    retry_after_seconds = 10

    def __init__(self, retry_after_seconds: int = retry_after_seconds) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class InterruptedCallError(ProxyError):
    """A call cut short from outside. Raised inside the waiting call, so that its hold settles."""

    code = "interrupted"
    message = "The call was interrupted"


class ClientGoneError(InterruptedCallError):
    """The client hung up. The status is nginx's, for the log: nobody is there to read it."""

    status = 499
    code = "client_gone"
    message = "The client closed the connection"


class ClientStalledError(ClientGoneError):
    """The client is too far behind in reading its stream."""

    code = "client_stalled"
    message = "The client did not read its answer in time"


class DrainedError(InterruptedCallError):
    """The process is shutting down and the grace time is over."""

    status = 503
    code = "overloaded"
    message = "The proxy is shutting down"
    retry_after_seconds = 5


class UpstreamError(ProxyError):
    """Chutes' failure, or the way to it."""

    status = 502
    code = "upstream_error"
    message = "The upstream failed"
    may_be_outage: ClassVar[bool] = False
    """Whether an upstream that is down fails like this; circuits.py counts what does."""


class UpstreamUnreachableError(UpstreamError):
    """No byte of the request reached the upstream."""

    may_be_outage = True
    code = "upstream_unreachable"
    message = "The upstream cannot be reached"


class NoFilesError(UpstreamUnreachableError):
    """We may open no more files: our own fault."""

    may_be_outage = False


class UpstreamTimeoutError(UpstreamError):
    """The upstream was silent for IDLE_TIMEOUT_SECONDS."""

    may_be_outage = True
    status = 504
    code = "upstream_timeout"
    message = "The upstream took too long"


class DeadlineExceededError(UpstreamTimeoutError):
    """The call ran into its total deadline, as a long answer may; circuits.py tells it from a silent one."""


class UpstreamBrokenError(UpstreamError):
    """The answer was cut, malformed, too large, or an error inside a 200."""

    may_be_outage = True
    code = "upstream_broken"
    message = "The upstream's answer broke off or was not understood"


class UpstreamOverranError(UpstreamBrokenError):
    """The answer went on past the max_tokens that its hold pays for, and was cut off."""

    may_be_outage = False
    code = "upstream_overran"
    message = "The upstream did not keep to max_tokens"


class AnswerTooLargeError(UpstreamBrokenError):
    """The answer is larger than one may be that is kept until it is whole, or there was no room for it."""

    may_be_outage = False
    message = "The upstream's answer was too large"


class UpstreamRefusedError(UpstreamError):
    """The upstream answered an error status: it did no work that it bills."""

    code = "upstream_refused"
    message = "The upstream refused the call"

    def __init__(self, upstream_status: int) -> None:
        super().__init__()
        self.upstream_status = upstream_status


class UpstreamAuthError(UpstreamRefusedError):
    """401, 403: the proxy's own key is not accepted."""

    code = "upstream_auth"
    message = "The upstream does not accept the proxy's key"


class UpstreamQuotaError(UpstreamRefusedError):
    """402: the account's quota or balance is used up."""

    code = "upstream_quota"
    message = "The upstream account is out of quota"


class UpstreamRejectedError(UpstreamRefusedError):
    """400 and other 4xx: the upstream finds fault with the request, so it is the caller's to mend."""

    status = 400
    code = "upstream_rejected"
    message = "The upstream rejected the request"

    def __init__(self, upstream_status: int, detail: str = "") -> None:
        super().__init__(upstream_status)
        self.detail = detail
        """The upstream's own words, for the caller of `/v1` alone: they may quote the request."""


class UpstreamModelError(UpstreamRefusedError):
    """404: a priced model that the upstream does not have."""

    code = "upstream_model"
    message = "The upstream does not have the model"


class UpstreamBusyError(UpstreamRefusedError):
    """429: no capacity, under maintenance, or asked to slow down."""

    status = 429
    code = "upstream_busy"
    message = "The upstream is at capacity"
    retry_after_seconds = 5


class UpstreamNoInstanceError(UpstreamRefusedError):
    """503: nothing serves the model right now."""

    may_be_outage = True
    status = 503
    code = "upstream_no_instance"
    message = "The upstream has no instance for the model"
    retry_after_seconds = 10


class UpstreamFailedError(UpstreamRefusedError):
    """500 and every status without a class of its own."""

    may_be_outage = True
    code = "upstream_failed"
    message = "The upstream failed"


class InternalError(ProxyError):
    """A bug of ours; the log has the place."""
