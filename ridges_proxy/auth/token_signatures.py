"""Signatures of run tokens: HS256 with a shared key, EdDSA with an Ed25519 key.

Each key is bound to its algorithm. The token's header must name that algorithm, and cannot choose another.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Never

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ridges_proxy.auth.token_claims import AUDIENCE, MALFORMED, UNKNOWN_KEY, TokenFaultError

_SHARED, _PUBLIC = "HS256", "EdDSA"

_FAULTS = (jwt.PyJWTError, ValueError, RecursionError)
"""All errors that a hostile token can cause here: PyJWT's, invalid text, deep JSON."""


class TokenSignatures:
    """The keys that tokens may be signed with."""

    def __init__(self, shared_keys: list[str], public_keys: list[str]) -> None:
        """Check the keys: raises ValueError for one that cannot be used."""
        self._keys: list[tuple[str, str | Ed25519PublicKey]] = [
            *((_SHARED, _shared_key(key)) for key in shared_keys),
            *((_PUBLIC, _ed25519_key(key)) for key in public_keys),
        ]
        # These claims are checked elsewhere: with another clock, as integers, and with one type of error.
        self._jwt = _StrictJWT(
            {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_sub": False}
        )

    def sign(self, claims: dict[str, Any], shared_key: str) -> str:
        """Return a token with these claims."""
        return self._jwt.encode(claims, shared_key, _SHARED)

    def claims_of(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that one of the keys has signed. Raises TokenFaultError."""
        for algorithm, key in self._keys:
            try:
                return self._jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE)
            except (jwt.InvalidAlgorithmError, jwt.InvalidSignatureError):
                continue
            except _FAULTS as fault:
                raise TokenFaultError(_reason(fault)) from None
        raise TokenFaultError(UNKNOWN_KEY)


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
    return MALFORMED


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
