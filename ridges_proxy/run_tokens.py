"""Run tokens: signed JWTs by which an agent may spend on one run, and on no other.

    sub               the run's id
    aud               "ridges-proxy"
    iat, exp          when it was minted, and when it ends: at most MAX_LIFETIME_SECONDS apart
    nbf               optional: not valid before
    budget_usd        optional: the run's cap instead of MAX_COST_PER_RUN
    models            optional: the only models that it may use
    calls_per_minute  optional

Signed with HS256 by RUN_TOKEN_KEY, which mints and verifies, or with EdDSA by whoever has the private key
to RUN_TOKEN_PUBLIC_KEY. Which of the two is looked at follows from the token's `alg`, and nothing else of
its header counts.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jwt
from jwt.exceptions import DecodeError, PyJWTError

from ridges_proxy.errors import InvalidApiKeyError, TokensNotMintedError
from ridges_proxy.pricing import nanousd_from_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AUDIENCE = "ridges-proxy"

MAX_LIFETIME_SECONDS = 7 * 86_400
"""From `iat` to `exp`. A closed run is remembered for as long, as a token of it might come all that time."""

LEEWAY_SECONDS = 5
"""By how much the clock of whoever mints may be ahead of ours."""

MAX_TOKEN_CHARACTERS = 4_096
MAX_NAME_CHARACTERS = 256
MAX_MODELS = 100
MAX_CALLS_PER_MINUTE = 1_000_000


@dataclass(frozen=True, slots=True)
class RunToken:
    """What a token allows; `expires_at` in seconds since the epoch, what is None is as without a token."""

    run_id: str
    expires_at: int
    budget_nanousd: int | None = None
    models: frozenset[str] | None = None
    calls_per_minute: int | None = None


class RunTokens:
    """Mints and verifies, with the keys that there are."""

    def __init__(
        self, key: str | None, public_key: str | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = {
            alg: given for alg, given in (("HS256", key), ("EdDSA", public_key)) if given is not None
        }
        self._clock = clock
        self._jwt = _ExactJWT()

    def verify(self, token: str) -> RunToken:
        """What the token allows. Raises InvalidApiKeyError for every fault, and says no more of any."""
        try:
            return self._verified(token)
        except (PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise InvalidApiKeyError from None

    def mint(
        self,
        run_id: str,
        ttl_seconds: int,
        *,
        budget_usd: str | None = None,
        models: Sequence[str] | None = None,
        calls_per_minute: int | None = None,
    ) -> tuple[str, RunToken]:
        """A token for a run, and what it allows.

        Raises TokensNotMintedError without RUN_TOKEN_KEY, and ValueError for what `verify` would refuse.
        """
        if "HS256" not in self._keys:
            raise TokensNotMintedError
        now = int(self._clock())
        given = {"budget_usd": budget_usd, "models": models, "calls_per_minute": calls_per_minute}
        claims = {"sub": run_id, "aud": AUDIENCE, "iat": now, "exp": now + ttl_seconds}
        claims |= {name: value for name, value in given.items() if value is not None}
        token = jwt.encode(claims, self._keys["HS256"], algorithm="HS256")
        try:
            return token, self._verified(token)
        except PyJWTError as error:
            raise ValueError(str(error)) from None

    def _verified(self, token: str) -> RunToken:
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise ValueError("too long, or no token")
        alg = jwt.get_unverified_header(token).get("alg")
        if not isinstance(alg, str) or alg not in self._keys:
            raise ValueError("not signed in a way that is accepted here")
        claims = self._jwt.decode(
            token,
            self._keys[alg],
            algorithms=[alg],
            audience=AUDIENCE,
            # The times are checked here, by our clock, and as the whole numbers that they must be.
            options={
                "require": ["sub", "aud", "iat", "exp"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        self._check_times(claims)
        return _token_of(claims)

    def _check_times(self, claims: dict[str, Any]) -> None:
        issued_at, expires_at, valid_from = (
            _whole(claims[name], 0, 1 << 53) for name in ("iat", "exp", "nbf" if "nbf" in claims else "iat")
        )
        now = self._clock()
        if max(issued_at, valid_from) > now + LEEWAY_SECONDS or now >= expires_at:
            raise ValueError("not valid now")
        if expires_at - issued_at > MAX_LIFETIME_SECONDS:
            raise ValueError(f"may live for {MAX_LIFETIME_SECONDS} seconds at most")


class _ExactJWT(jwt.PyJWT):
    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        """Read the claims with amounts as they are written, and none twice."""
        claims = json.loads(
            decoded["payload"],
            parse_float=Decimal,
            parse_constant=_refuse,
            object_pairs_hook=_without_duplicates,
        )
        if not isinstance(claims, dict):
            raise DecodeError("the claims are no object")
        return claims


def _token_of(claims: dict[str, Any]) -> RunToken:
    budget, models, pace = (claims.get(name) for name in ("budget_usd", "models", "calls_per_minute"))
    _refuse_nulls(claims)
    return RunToken(
        run_id=_name(claims["sub"]),
        expires_at=claims["exp"],
        budget_nanousd=None if budget is None else _nanousd(budget),
        models=None if models is None else _names(models),
        calls_per_minute=None if pace is None else _whole(pace, 1, MAX_CALLS_PER_MINUTE),
    )


def _refuse_nulls(claims: dict[str, Any]) -> None:
    """A limit that is null may be one that was lost on its way."""
    if any(value is None for value in claims.values()):
        raise ValueError("a claim is null")


def _nanousd(budget: object) -> int:
    if isinstance(budget, bool) or not isinstance(budget, str | int | Decimal):
        raise ValueError("budget_usd is no amount")  # noqa: TRY004 - one error for every fault of a claim
    return nanousd_from_usd(str(budget))


def _names(models: object) -> frozenset[str]:
    if not isinstance(models, list) or not 1 <= len(models) <= MAX_MODELS:
        raise ValueError(f"models must be a list of 1 to {MAX_MODELS} names")
    return frozenset(map(_name, models))


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_CHARACTERS or not value.isprintable():
        raise ValueError(f"a name must have 1 to {MAX_NAME_CHARACTERS} printable characters")
    return value


def _whole(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"must be a whole number from {least} to {most}")
    return value


def _refuse(constant: str) -> Any:  # noqa: ANN401 - it never returns
    raise ValueError(f"{constant} is no number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    claims = dict(pairs)
    if len(claims) < len(pairs):
        raise ValueError("a claim stands twice")
    return claims
