"""The claims of run tokens, as they are read from the payload of a signed token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Self

from ridges_proxy.billing.money import nanousd_from_usd

AUDIENCE = "ridges-proxy"
MAX_LIFETIME_SECONDS = 7 * 24 * 60 * 60
"""Maximum from `iat` to `exp`. The ledger remembers a closed run as long, because of its unexpired tokens."""

LEEWAY_SECONDS = 5
"""How far the issuer's clock may be ahead of the proxy's clock: tokens are often used at once."""

MAX_TOKEN_CHARACTERS = 4096
MAX_NAME_CHARACTERS = 256
MAX_MODELS = 100
MAX_CALLS_PER_MINUTE = 1_000_000
MAX_GROUPS = 8
MAX_GROUP_CHARACTERS = 100

GROUP_PATTERN = rf"[!-)+-~]{{1,{MAX_GROUP_CHARACTERS}}}"
"""Printable ASCII without a space, which joins the parts of a scope, and without the `*` of patterns."""

GROUP_FORM = f"names of 1 to {MAX_GROUP_CHARACTERS} printable ASCII characters without space and *"


MALFORMED = "it is not a run token, or it is malformed"
UNKNOWN_KEY = "the token is not signed with a known key"


class TokenFaultError(ValueError):
    """The reason why a token is refused, for the log. Its text contains nothing of the token."""


@dataclass(frozen=True, slots=True)
class RunToken:
    """The verified claims of a token. None: the token has no such claim, so the settings apply."""

    run_id: str
    expires_at: float
    """Seconds since 1970."""
    budget_nanousd: int | None
    models: frozenset[str] | None
    calls_per_minute: int | None
    groups: tuple[str, ...] = ()
    """Each group once, in the order of the claim."""
    reserve_final_nanousd: int = 0
    """The part of the budget that is kept for the run's final call."""


def token_and_times(claims: dict[str, Any], now: float) -> tuple[RunToken, TokenTimes]:
    """Read signed claims, in an order in which the first fault found is the reason in the log."""
    budget_nanousd, reserve_final_nanousd = _budget_and_reserve(claims)
    run_id, times = _name("sub", claims.get("sub")), TokenTimes.of(claims, now)
    token = RunToken(
        run_id=run_id,
        expires_at=times.expires_at_number,
        budget_nanousd=budget_nanousd,
        models=_models(claims["models"]) if "models" in claims else None,
        calls_per_minute=_rate(claims["calls_per_minute"]) if "calls_per_minute" in claims else None,
        groups=_groups(claims["groups"]) if "groups" in claims else (),
        reserve_final_nanousd=reserve_final_nanousd,
    )
    return token, times


class TokenTimes(NamedTuple):
    """The exact times between which a token is valid, in seconds since 1970."""

    starts_at: int | Decimal
    expires_at: int | Decimal

    @classmethod
    def of(cls, claims: dict[str, Any], now: float) -> Self:
        """Read the times of a token that is valid now. Raises TokenFaultError."""
        expires_at, issued_at = _time("exp", claims.get("exp")), _time("iat", claims.get("iat"))
        starts_at = _time("nbf", claims["nbf"]) if "nbf" in claims else issued_at
        times = cls(max(issued_at, starts_at), expires_at)
        times.check(now)
        if expires_at - issued_at > MAX_LIFETIME_SECONDS:
            raise TokenFaultError(f"a token is valid for at most {MAX_LIFETIME_SECONDS} seconds")
        return times

    def check(self, now: float) -> None:
        """Raise TokenFaultError if the token is not valid now."""
        if self.starts_at > now + LEEWAY_SECONDS:
            raise TokenFaultError("the token is not valid yet")
        if self.expires_at <= now:
            raise TokenFaultError("the token has expired")

    @property
    def expires_at_number(self) -> float:
        """The expiry without exact fractions. The checks of `of` limit its size."""
        return self.expires_at if isinstance(self.expires_at, int) else float(self.expires_at)


def _time(claim: str, value: object) -> int | Decimal:
    """Read a NumericDate: any number of JSON (RFC 7519, 2)."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise TokenFaultError(f"{claim} must be a number of seconds since 1970")
    return value


def _integer(claim: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TokenFaultError(f"{claim} must be an integer")
    return value


def _name(claim: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS or not value.isprintable():
        raise TokenFaultError(f"{claim} must be a name of 1 to {MAX_NAME_CHARACTERS} printable characters")
    return value


def _budget_and_reserve(claims: dict[str, Any]) -> tuple[int | None, int]:
    """Read the budget and the part of it that is kept for the final call, both in nano-USD."""
    budget = _amount("budget_usd", claims["budget_usd"]) if "budget_usd" in claims else None
    if "reserve_final_usd" not in claims:
        return budget, 0
    reserve = _amount("reserve_final_usd", claims["reserve_final_usd"])
    if budget is not None and reserve >= budget:
        raise TokenFaultError("reserve_final_usd must be less than budget_usd")
    return budget, reserve


def _amount(claim: str, value: object) -> int:
    if not isinstance(value, str | int | Decimal):
        raise TokenFaultError(f"{claim} must be an amount in USD")
    try:
        return nanousd_from_usd(str(value))
    except ValueError as error:
        raise TokenFaultError(f"{claim} {error}") from None


def _models(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MODELS:
        raise TokenFaultError(f"models must be a list of 1 to {MAX_MODELS} names")
    return frozenset(_name("models", model) for model in value)


def _rate(value: object) -> int:
    rate = _integer("calls_per_minute", value)
    if not 1 <= rate <= MAX_CALLS_PER_MINUTE:
        raise TokenFaultError(f"calls_per_minute must be from 1 to {MAX_CALLS_PER_MINUTE}")
    return rate


def is_group(value: object) -> bool:
    """Whether a value is a valid name of a group."""
    return isinstance(value, str) and re.fullmatch(GROUP_PATTERN, value) is not None


def _groups(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_GROUPS:
        raise TokenFaultError(f"groups must be a list of 1 to {MAX_GROUPS} names")
    if not all(map(is_group, value)):
        raise TokenFaultError(f"groups must be {GROUP_FORM}")
    return tuple(dict.fromkeys(value))
