"""Run tokens: signed JWTs that let an agent spend on its own run only.

    sub                the run's id
    aud                "ridges-proxy"
    iat, exp           time of issue and expiry: at most MAX_LIFETIME_SECONDS apart
    nbf                optional: start of validity (times may have fractions, as in RFC 7519, 2)
    budget_usd         optional: the run's budget, instead of MAX_COST_PER_RUN
    models             optional: the only models that the run may use
    calls_per_minute   optional: a rate limit of the run
    groups             optional: the groups of the run, for budgets that many runs share
    reserve_final_usd  optional: part of the budget that is kept for the run's final call

The holder of a signing key can issue tokens without calling the proxy: HS256 with RUN_TOKEN_KEY, or EdDSA
with the private key that belongs to RUN_TOKEN_PUBLIC_KEY. Each key is bound to its algorithm here. The
token's header must name that algorithm, and cannot choose another.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Never, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.errors import InvalidApiKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AUDIENCE = "ridges-proxy"
MAX_LIFETIME_SECONDS = 7 * 24 * 60 * 60
"""Maximum from `iat` to `exp`. The ledger remembers a closed run as long, because of its unexpired tokens."""

LEEWAY_SECONDS = 5
"""How far the issuer's clock may be ahead of the proxy's clock: tokens are often used at once."""

MAX_TOKEN_CHARACTERS = 4096
MAX_ACCEPTED = 1_000
"""Tokens whose claims are kept, so that only their times are checked again. To verify one takes 60 µs, and
1 µs if it is kept."""

MAX_NAME_CHARACTERS = 256
MAX_MODELS = 100
MAX_CALLS_PER_MINUTE = 1_000_000
MAX_GROUPS = 8
MAX_GROUP_CHARACTERS = 100

GROUP_PATTERN = rf"[!-)+-~]{{1,{MAX_GROUP_CHARACTERS}}}"
"""Printable ASCII without a space, which joins the parts of a scope, and without the `*` of patterns."""

GROUP_FORM = f"names of 1 to {MAX_GROUP_CHARACTERS} printable ASCII characters without space and *"

_SHARED, _PUBLIC = "HS256", "EdDSA"

_FAULTS = (jwt.PyJWTError, ValueError, ArithmeticError, RecursionError)
"""All errors that a hostile token can cause: PyJWT's, invalid text, Decimal's exponents, deep JSON."""


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


class RunTokens:
    """Issue and verify run tokens with shared keys (HS256), public keys (EdDSA), or both.

    Each kind may have a previous key: it verifies tokens that it has signed, but signs no new ones.
    """

    def __init__(
        self,
        key: str | None,
        public_key: str | None,
        clock: Callable[[], float] = time.time,
        *,
        previous_key: str | None = None,
        previous_public_key: str | None = None,
    ) -> None:
        self._key = None if key is None else _shared_key(key)
        self._keys: list[tuple[str, str | Ed25519PublicKey]] = [
            (_SHARED, _shared_key(each)) for each in (key, previous_key) if each is not None
        ]
        for each in (public_key, previous_public_key):
            if each is not None:
                self._keys.append((_PUBLIC, _ed25519_key(each)))
        self._clock = clock
        self._accepted: dict[bytes, tuple[RunToken, _Times]] = {}
        # These claims are checked below: with this object's clock, as integers, and with one type of error.
        self._jwt = _StrictJWT(
            {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_sub": False}
        )

    @property
    def can_issue(self) -> bool:
        """Whether there is a key to sign with. A public key only verifies."""
        return self._key is not None

    def issue(  # noqa: PLR0913 - one parameter for each claim
        self,
        run_id: str,
        ttl_seconds: int,
        *,
        budget_usd: str | None = None,
        models: Sequence[str] | None = None,
        calls_per_minute: int | None = None,
        groups: Sequence[str] | None = None,
        reserve_final_usd: str | None = None,
    ) -> tuple[str, RunToken]:
        """Sign a token for a run, valid from now on. Raises ValueError for one that would be refused."""
        if self._key is None:
            raise ValueError("there is no key to sign with")
        now = int(self._clock())
        optional = {
            "budget_usd": budget_usd,
            "models": models,
            "calls_per_minute": calls_per_minute,
            "groups": groups,
            "reserve_final_usd": reserve_final_usd,
        }
        claims = {"sub": run_id, "aud": AUDIENCE, "iat": now, "exp": now + ttl_seconds}
        claims |= {name: value for name, value in optional.items() if value is not None}
        token = self._jwt.encode(claims, self._key, _SHARED)
        return token, self._read(token, now)

    def verify(self, token: str) -> RunToken:
        """Return the claims of a token. Every fault raises the same InvalidApiKeyError.

        Its message does not say why the token is refused. Its `reason` does, and is only for the log.
        """
        try:
            return self._read(token, self._clock())
        except _FAULTS as fault:
            refusal = InvalidApiKeyError()
            refusal.reason = _reason(fault)
        raise refusal from None

    def _read(self, token: str, now: float) -> RunToken:
        if not token:
            raise TokenFaultError("there is no bearer token")
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise TokenFaultError(f"the token must be ASCII of at most {MAX_TOKEN_CHARACTERS} characters")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._accepted.get(digest)
        if known is None:
            known = _token_and_times(self._signed_claims(token), now)
            self._keep(digest, known)
        accepted, times = known
        times.check(now)
        return accepted

    def _keep(self, digest: bytes, accepted: tuple[RunToken, _Times]) -> None:
        """Keep the claims of a token under its digest: an agent sends the same one with each of its calls."""
        self._accepted[digest] = accepted
        if len(self._accepted) > MAX_ACCEPTED:
            self._accepted.pop(next(iter(self._accepted)), None)

    def _signed_claims(self, token: str) -> dict[str, Any]:
        for algorithm, key in self._keys:
            try:
                return self._jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE)
            except (jwt.InvalidAlgorithmError, jwt.InvalidSignatureError):
                continue
        raise TokenFaultError("the token is not signed with a known key")


def _token_and_times(claims: dict[str, Any], now: float) -> tuple[RunToken, _Times]:
    """Read signed claims, in an order in which the first fault found is the reason in the log."""
    budget_nanousd, reserve_final_nanousd = _budget_and_reserve(claims)
    run_id, times = _name("sub", claims.get("sub")), _Times.of(claims, now)
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


class _StrictJWT(jwt.PyJWT):
    """PyJWT with strict parsing: fractions as Decimal, no duplicate names, no NaN, no extensions."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        if "crit" in decoded["header"]:
            raise TokenFaultError("critical extensions are not supported")
        claims = json.loads(
            decoded["payload"].decode(),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_duplicates,
        )
        if not isinstance(claims, dict):
            raise TokenFaultError("the payload must be an object")
        return claims


def _reason(fault: Exception) -> str:
    """The reason for the log. Texts of other libraries are left out: they may quote the token."""
    if isinstance(fault, TokenFaultError):
        return str(fault)
    if isinstance(fault, jwt.InvalidAudienceError):
        return f"aud must be {AUDIENCE}"
    if isinstance(fault, jwt.MissingRequiredClaimError):
        return "a required claim is missing"
    return "it is not a run token, or it is malformed"


def _refuse_constant(name: str) -> Never:
    raise TokenFaultError(f"{name} is not valid JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise TokenFaultError("an object has a duplicate name")
    return result


def _shared_key(key: str) -> str:
    """Check the key once, at the start. PyJWT would refuse every token if it is too short or a public key."""
    algorithm = jwt.get_algorithm_by_name(_SHARED)
    try:
        weakness = algorithm.check_key_length(algorithm.prepare_key(key))
    except jwt.InvalidKeyError as error:
        weakness = str(error)
    if weakness:
        raise ValueError(f"the shared key of run tokens cannot be used: {weakness}")
    return key


def _ed25519_key(pem: str) -> Ed25519PublicKey:
    """Parse the key once, and allow only Ed25519. PyJWT would parse it per token, and allow any curve."""
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the public key of run tokens must be an Ed25519 key")  # noqa: TRY004 - one error for all faults of a key
    return key


class _Times(NamedTuple):
    """The exact times between which a token is valid, in seconds since 1970."""

    starts_at: int | Decimal
    expires_at: int | Decimal

    @classmethod
    def of(cls, claims: dict[str, Any], now: float) -> Self:
        expires_at, issued_at = _time("exp", claims.get("exp")), _time("iat", claims.get("iat"))
        starts_at = _time("nbf", claims["nbf"]) if "nbf" in claims else issued_at
        times = cls(max(issued_at, starts_at), expires_at)
        times.check(now)
        if expires_at - issued_at > MAX_LIFETIME_SECONDS:
            raise TokenFaultError(f"a token is valid for at most {MAX_LIFETIME_SECONDS} seconds")
        return times

    def check(self, now: float) -> None:
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
