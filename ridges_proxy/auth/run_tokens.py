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
import time
from typing import TYPE_CHECKING, Any

from ridges_proxy.auth.token_claims import (
    AUDIENCE,
    MALFORMED,
    MAX_TOKEN_CHARACTERS,
    UNKNOWN_KEY,
    RunToken,
    TokenFaultError,
    TokenTimes,
    token_and_times,
)
from ridges_proxy.errors import InvalidApiKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ridges_proxy.auth.token_signatures import TokenSignatures

MAX_ACCEPTED = 1_000
"""Tokens whose claims are kept, so that only their times are checked again. To verify one takes 60 µs, and
1 µs if it is kept."""


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
        shared_keys = [each for each in (key, previous_key) if each is not None]
        public_keys = [each for each in (public_key, previous_public_key) if each is not None]
        self._key = key
        self._signatures = _signatures(shared_keys, public_keys) if shared_keys or public_keys else None
        self._clock = clock
        self._accepted: dict[bytes, tuple[RunToken, TokenTimes]] = {}

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
        if self._key is None or self._signatures is None:
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
        token = self._signatures.sign(claims, self._key)
        return token, self._read(token, now)

    def verify(self, token: str) -> RunToken:
        """Return the claims of a token. Every fault raises the same InvalidApiKeyError.

        Its message does not say why the token is refused. Its `reason` does, and is only for the log.
        """
        try:
            return self._read(token, self._clock())
        except (ValueError, ArithmeticError) as fault:  # ArithmeticError: exponents of Decimal
            refusal = InvalidApiKeyError()
            refusal.reason = str(fault) if isinstance(fault, TokenFaultError) else MALFORMED
        raise refusal from None

    def _read(self, token: str, now: float) -> RunToken:
        if not token:
            raise TokenFaultError("there is no bearer token")
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise TokenFaultError(f"the token must be ASCII of at most {MAX_TOKEN_CHARACTERS} characters")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._accepted.get(digest)
        if known is None:
            known = token_and_times(self._signed_claims(token), now)
            self._keep(digest, known)
        accepted, times = known
        times.check(now)
        return accepted

    def _keep(self, digest: bytes, accepted: tuple[RunToken, TokenTimes]) -> None:
        """Keep the claims of a token under its digest: an agent sends the same one with each of its calls."""
        self._accepted[digest] = accepted
        if len(self._accepted) > MAX_ACCEPTED:
            self._accepted.pop(next(iter(self._accepted)), None)

    def _signed_claims(self, token: str) -> dict[str, Any]:
        if self._signatures is None:
            raise TokenFaultError(UNKNOWN_KEY)
        return self._signatures.claims_of(token)


def _signatures(shared_keys: list[str], public_keys: list[str]) -> TokenSignatures:
    # The libraries take 9 MB and 60 ms, which a server without run tokens does not need.
    from ridges_proxy.auth.token_signatures import TokenSignatures  # noqa: PLC0415

    return TokenSignatures(shared_keys, public_keys)
