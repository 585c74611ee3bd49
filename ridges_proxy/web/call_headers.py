"""The headers by which a caller says how a call may end its run's budget: X-Final-Call and X-Min-Tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FINAL_CALL = "X-Final-Call"
MIN_TOKENS = "X-Min-Tokens"
MAX_MIN_TOKENS = 1_000_000

NO_SWITCH = "Input should be 1 (a final call) or 0"
NO_TOKENS = f"Input should be a whole number from 1 to {MAX_MIN_TOKENS}"

_SWITCH = {None: False, "0": False, "1": True}


class CallHeaders(NamedTuple):
    """The content of the two headers."""

    is_final: bool
    """Whether the call may use the part of the budget that is kept for the run's final call."""
    min_tokens: int
    """The fewest tokens to which `max_tokens` of the call may be cut; 0: the caller names none."""

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> CallHeaders:
        """Read the headers of a request. Raises InvalidRequestError, which names each invalid one."""
        final, tokens = environ.get("HTTP_X_FINAL_CALL"), environ.get("HTTP_X_MIN_TOKENS")
        problems = []
        if final not in _SWITCH:
            problems.append(Problem(["header", FINAL_CALL], NO_SWITCH, "value_error"))
        if tokens is not None and not _is_count(tokens):
            problems.append(Problem(["header", MIN_TOKENS], NO_TOKENS, "value_error"))
        if problems:
            raise InvalidRequestError(problems)
        return cls(_SWITCH[final], 0 if tokens is None else int(tokens))


def _is_count(text: str) -> bool:
    is_short = len(text) <= len(str(MAX_MIN_TOKENS))
    return is_short and text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_MIN_TOKENS
