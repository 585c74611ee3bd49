from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import traceback
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.auth.run_tokens import MAX_ACCEPTED, RunTokens
from ridges_proxy.auth.token_claims import (
    AUDIENCE,
    LEEWAY_SECONDS,
    MAX_CALLS_PER_MINUTE,
    MAX_LIFETIME_SECONDS,
    MAX_MODELS,
    MAX_NAME_CHARACTERS,
    MAX_TOKEN_CHARACTERS,
    RunToken,
)
from ridges_proxy.errors import InvalidApiKeyError
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from decimal import Decimal

    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY = "the key of these tests, long enough for HS256"
NOW = 1_800_000_000
CLAIMS = {"sub": "run-1", "aud": "ridges-proxy", "iat": NOW, "exp": NOW + 600}
HEADER = {"alg": "HS256", "typ": "JWT"}


def pem_of(public_key: Ed25519PublicKey | Ed448PublicKey) -> str:
    return public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(b"not random, so that runs repeat.")
PUBLIC_KEY = pem_of(PRIVATE_KEY.public_key())


def run_tokens(key: str | None = KEY, public_key: str | None = PUBLIC_KEY, now: float = NOW) -> RunTokens:
    return RunTokens(key, public_key, clock=lambda: now)


BOTH, SHARED_ONLY, PUBLIC_ONLY = run_tokens(), run_tokens(public_key=None), run_tokens(key=None)
ACCEPTED = RunToken("run-1", NOW + 600, None, None, None)


def segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(payload: str | bytes, header: dict[str, Any] | bytes = HEADER, key: str = KEY) -> str:
    """Return a token of any content with a valid HMAC. PyJWT refuses to create some of them."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = payload if isinstance(payload, bytes) else payload.encode()
    content = f"{segment(head)}.{segment(body)}"
    return f"{content}.{segment(hmac.digest(key.encode(), content.encode(), hashlib.sha256))}"


def token_with(**claims: object) -> str:
    return signed(json.dumps(CLAIMS | claims))


def token_without(claim: str) -> str:
    return signed(json.dumps({name: value for name, value in CLAIMS.items() if name != claim}))


def token_of_text(claim: str, text: str) -> str:
    """Return a token with a claim in literal JSON: NaN, 1e999, or a fraction with many digits."""
    rest = {name: value for name, value in CLAIMS.items() if name != claim}
    return signed(f'{json.dumps(rest)[:-1]}, "{claim}": {text}}}')


def assert_refused(token: str, tokens: RunTokens = BOTH) -> None:
    with pytest.raises(InvalidApiKeyError):
        tokens.verify(token)


def test_the_unchanged_tokens_of_these_tests_are_accepted() -> None:
    assert BOTH.verify(token_with()) == ACCEPTED
    assert BOTH.verify(token_of_text("exp", str(NOW + 600))) == ACCEPTED


# --- issuing --------------------------------------------------------------------------------------------


def test_an_issued_token_verifies_with_its_claims() -> None:
    token, issued = BOTH.issue("run-1", 2400, budget_usd="2.5", models=("a", "b"), calls_per_minute=30)

    assert issued == RunToken("run-1", NOW + 2400, 2_500_000_000, frozenset({"a", "b"}), 30)
    assert BOTH.verify(token) == issued


def test_an_issued_token_has_its_groups_and_what_is_kept_for_the_final_call() -> None:
    token, issued = BOTH.issue("run-1", 600, groups=("miner:a", "b"), reserve_final_usd="0.25")

    assert (issued.groups, issued.reserve_final_nanousd) == (("miner:a", "b"), 250_000_000)
    assert BOTH.verify(token) == issued


def test_a_token_issued_without_limits_has_only_the_required_claims() -> None:
    token, issued = BOTH.issue("run-1", 600)

    assert issued == ACCEPTED
    assert BOTH.verify(token) == issued
    assert set(jwt.decode(token, options={"verify_signature": False})) == {"sub", "aud", "iat", "exp"}


def test_a_budget_of_zero_is_kept() -> None:
    assert BOTH.issue("run-1", 600, budget_usd="0")[1].budget_nanousd == 0


def test_a_token_issued_within_a_second_is_valid_at_once() -> None:
    tokens = run_tokens(now=NOW + 0.9)

    assert tokens.verify(tokens.issue("run-1", 1)[0]).expires_at == NOW + 1


def test_issuing_reads_the_clock_once() -> None:
    times = iter([NOW + 0.9, NOW + 1.1])

    assert RunTokens(KEY, None, clock=lambda: next(times)).issue("run-1", 1)[1].expires_at == NOW + 1


def test_issuing_needs_the_shared_key() -> None:
    assert BOTH.can_issue
    assert SHARED_ONLY.can_issue
    assert not PUBLIC_ONLY.can_issue
    with pytest.raises(ValueError, match="no key"):
        PUBLIC_ONLY.issue("run-1", 600)


REFUSED_GRANTS: list[tuple[str, int, dict[str, Any]]] = [
    ("", 600, {}),
    ("r" * 257, 600, {}),
    ("run\n1", 600, {}),
    ("run\ud8001", 600, {}),
    ("\U0001f600" * 256, 600, {}),
    ("run-1", 0, {}),
    ("run-1", -1, {}),
    ("run-1", MAX_LIFETIME_SECONDS + 1, {}),
    ("run-1", 10**400, {}),
    ("run-1", 600, {"budget_usd": ""}),
    ("run-1", 600, {"budget_usd": "-1"}),
    ("run-1", 600, {"budget_usd": "NaN"}),
    ("run-1", 600, {"budget_usd": "1000000.1"}),
    ("run-1", 600, {"models": []}),
    ("run-1", 600, {"models": "a-name-alone"}),
    ("run-1", 600, {"models": [""]}),
    ("run-1", 600, {"calls_per_minute": 0}),
    ("run-1", 600, {"calls_per_minute": True}),
    ("run-1", 600, {"groups": []}),
    ("run-1", 600, {"groups": ["a b"]}),
    ("run-1", 600, {"reserve_final_usd": "-1"}),
    ("run-1", 600, {"budget_usd": "1", "reserve_final_usd": "1"}),
]


def test_a_token_that_would_be_refused_is_not_issued() -> None:
    def check(row: tuple[str, int, dict[str, Any]]) -> None:
        run_id, ttl_seconds, limits = row
        with pytest.raises(ValueError, match=r".") as caught:
            BOTH.issue(run_id, ttl_seconds, **limits)

        assert KEY not in str(caught.value)

    check_rows(REFUSED_GRANTS, check)


# --- tokens issued elsewhere -----------------------------------------------------------------------------


def test_a_token_signed_by_pyjwt_with_the_shared_key_is_accepted() -> None:
    token = jwt.encode(CLAIMS | {"budget_usd": "2"}, KEY, algorithm="HS256")

    assert BOTH.verify(token) == RunToken("run-1", NOW + 600, 2_000_000_000, None, None)


def test_a_token_signed_by_pyjwt_with_the_private_key_is_accepted() -> None:
    token = jwt.encode(CLAIMS | {"models": ["a"]}, PRIVATE_KEY, algorithm="EdDSA")

    for tokens in (BOTH, PUBLIC_ONLY):
        assert tokens.verify(token) == RunToken("run-1", NOW + 600, None, frozenset({"a"}), None)


def test_a_token_signed_with_a_private_key_in_pem_is_accepted() -> None:
    pem = PRIVATE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    assert BOTH.verify(jwt.encode(CLAIMS, pem, algorithm="EdDSA")) == ACCEPTED


def test_a_token_may_name_further_audiences() -> None:
    def check(audience: list[str]) -> None:
        assert BOTH.verify(token_with(aud=audience)) == ACCEPTED

    check_rows([[AUDIENCE], ["another", AUDIENCE]], check)


def test_unknown_claims_are_ignored() -> None:
    assert BOTH.verify(token_with(iss="main", jti="7", scope={"a": [1.5, None]})) == ACCEPTED


# --- keys and algorithms ---------------------------------------------------------------------------------


def test_an_unsigned_token_is_refused() -> None:
    def check(row: tuple[str, str]) -> None:
        algorithm, signature = row
        head = json.dumps({"alg": algorithm}).encode()
        token = f"{segment(head)}.{segment(json.dumps(CLAIMS).encode())}.{signature}"

        for tokens in (BOTH, SHARED_ONLY, PUBLIC_ONLY, run_tokens(None, None)):
            assert_refused(token, tokens)

    check_rows(itertools.product(["none", "None", "NONE", "nOnE", " none", "none\0", ""], ["", "AA"]), check)


def test_a_valid_signature_with_a_wrong_algorithm_in_the_header_is_refused() -> None:
    def check(algorithm: object) -> None:
        assert_refused(signed(json.dumps(CLAIMS), {"alg": algorithm}))

    check_rows(["none", "hs256", "HS256 ", "", None, 1, True, ["HS256"], {"HS256": 1}, []], check)


def test_a_header_without_an_algorithm_is_refused() -> None:
    assert_refused(signed(json.dumps(CLAIMS), {"typ": "JWT"}))


def test_the_shared_key_verifies_only_hs256() -> None:
    def check(algorithm: str) -> None:
        key = KEY * 2  # long enough for SHA-512
        tokens = run_tokens(key)

        assert tokens.verify(jwt.encode(CLAIMS, key, algorithm="HS256")) == ACCEPTED
        assert_refused(jwt.encode(CLAIMS, key, algorithm=algorithm), tokens)

    check_rows(["HS384", "HS512"], check)


def test_other_algorithms_are_refused() -> None:
    def check(algorithm: str) -> None:
        assert_refused(signed(json.dumps(CLAIMS), {"alg": algorithm}))

    check_rows(["RS256", "PS256", "ES256", "ES256K", "Ed25519"], check)


def test_another_elliptic_curve_is_refused() -> None:
    assert_refused(jwt.encode(CLAIMS, generate_private_key(SECP256R1()), algorithm="ES256"))


def test_another_shared_key_is_refused() -> None:
    assert_refused(signed(json.dumps(CLAIMS), key=KEY[:-1]))
    assert_refused(signed(json.dumps(CLAIMS), key=""))


def test_another_private_key_is_refused() -> None:
    assert_refused(jwt.encode(CLAIMS, Ed25519PrivateKey.generate(), algorithm="EdDSA"))
    assert_refused(jwt.encode(CLAIMS, Ed448PrivateKey.generate(), algorithm="EdDSA"))


def test_hs256_is_refused_without_a_shared_key() -> None:
    assert_refused(token_with(), PUBLIC_ONLY)


def test_eddsa_is_refused_without_a_public_key() -> None:
    assert_refused(jwt.encode(CLAIMS, PRIVATE_KEY, algorithm="EdDSA"), SHARED_ONLY)


def test_every_token_is_refused_without_keys() -> None:
    assert_refused(token_with(), run_tokens(None, None))


def test_the_public_key_is_not_accepted_as_a_shared_key() -> None:
    def check(key: str) -> None:
        for tokens in (BOTH, PUBLIC_ONLY):
            assert_refused(signed(json.dumps(CLAIMS), key=key), tokens)

    check_rows([PUBLIC_KEY, PUBLIC_KEY.strip(), PUBLIC_KEY.replace("\n", "")], check)


def test_an_hs256_signature_is_refused_under_eddsa() -> None:
    assert_refused(signed(json.dumps(CLAIMS), {"alg": "EdDSA"}))
    assert_refused(signed(json.dumps(CLAIMS), {"alg": "EdDSA"}, key=PUBLIC_KEY))


KEYS_IN_HEADERS: list[dict[str, Any]] = [
    {"kid": "../../dev/null"},
    {"jku": "http://127.0.0.1:1/keys"},
    {"x5u": "http://127.0.0.1:1/cert"},
    {"jwk": {"kty": "oct", "k": segment(b"a key of the attacker's own, 32 bytes")}},
]


def test_a_key_in_the_header_is_not_used() -> None:
    def check(header: dict[str, Any]) -> None:
        assert BOTH.verify(signed(json.dumps(CLAIMS), HEADER | header)) == ACCEPTED
        assert_refused(
            signed(json.dumps(CLAIMS), HEADER | header, key="a key of the attacker's own, 32 bytes")
        )
        assert_refused(signed(json.dumps(CLAIMS), HEADER | header, key=""))

    check_rows(KEYS_IN_HEADERS, check)


UNSUPPORTED_HEADERS: list[dict[str, Any]] = [
    {"crit": ["exp"]},
    {"crit": ["b64"], "b64": True},
    {"crit": ["b64"], "b64": False},
    {"b64": False},
    {"crit": []},
    {"crit": None},
    {"kid": 1},
]


def test_a_header_with_unsupported_extensions_is_refused() -> None:
    def check(header: dict[str, Any]) -> None:
        assert_refused(signed(json.dumps(CLAIMS), HEADER | header))

    check_rows(UNSUPPORTED_HEADERS, check)


def test_an_unsafe_shared_key_is_refused_at_creation() -> None:
    def check(key: str) -> None:
        with pytest.raises(ValueError, match=r"cannot be used: .*key"):
            run_tokens(key)

    check_rows(["", "short", PUBLIC_KEY, '{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}'], check)


def test_a_public_key_other_than_ed25519_is_refused_at_creation() -> None:
    def check(key: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            run_tokens(public_key=key)

    check_rows(["", "x", "ключ", KEY, pem_of(Ed448PrivateKey.generate().public_key())], check)


# --- times -----------------------------------------------------------------------------------------------


def test_a_token_is_valid_until_its_expiry() -> None:
    assert run_tokens(now=NOW + 599.999).verify(token_with()) == ACCEPTED
    assert_refused(token_with(), run_tokens(now=NOW + 600))
    assert_refused(token_with(), run_tokens(now=NOW + 10**6))


def found(tokens: RunTokens, token: str) -> RunToken | str | None:
    """Verify a token. Returns its claims, or the reason of the refusal."""
    try:
        return tokens.verify(token)
    except InvalidApiKeyError as refusal:
        return refusal.reason


TIMES = st.integers(NOW - 1000, NOW + 1000) | st.decimals(NOW - 10, NOW + 10, places=3)


@given(starts_at=TIMES, expires_at=TIMES, moments=st.lists(st.floats(NOW - 1010, NOW + 1010), min_size=2))
@example(NOW, NOW + 600, [NOW, NOW + 600, NOW + 599.999, NOW - LEEWAY_SECONDS - 0.001])
def test_a_token_that_is_known_is_checked_as_a_new_one(
    starts_at: int | Decimal, expires_at: int | Decimal, moments: list[float]
) -> None:
    clock = Clock()
    tokens = RunTokens(KEY, PUBLIC_KEY, clock)
    times = f'"iat": {NOW - 1000}, "nbf": {starts_at}, "exp": {expires_at}'
    token = signed(f'{{"sub": "run-1", "aud": "ridges-proxy", {times}}}')
    for clock.now in moments:
        assert found(tokens, token) == found(run_tokens(now=clock.now), token)


def test_a_known_token_with_another_signature_is_refused() -> None:
    tokens, token = run_tokens(), token_with()
    tokens.verify(token)
    head, claims, _ = token.split(".")
    assert_refused(f"{head}.{claims}.{segment(b'x' * 32)}", tokens)


def test_few_tokens_are_kept_and_none_as_it_is() -> None:
    tokens = run_tokens()
    for number in range(MAX_ACCEPTED + 1):
        tokens.verify(token_with(number=number))
    assert len(tokens._accepted) == MAX_ACCEPTED
    assert {len(key) for key in tokens._accepted} == {32}, "digests"


def test_a_token_is_valid_from_its_start_less_the_leeway() -> None:
    leeway = LEEWAY_SECONDS
    assert_refused(token_with(), run_tokens(now=NOW - leeway - 0.001))
    assert_refused(token_with(nbf=NOW), run_tokens(now=NOW - leeway - 0.001))
    assert_refused(token_with(nbf=NOW - 10), run_tokens(now=NOW - leeway - 0.001))
    assert_refused(token_with(nbf=NOW + 10), run_tokens(now=NOW + 10 - leeway - 0.001))
    assert run_tokens(now=NOW + 10 - leeway).verify(token_with(nbf=NOW + 10)) == ACCEPTED
    assert run_tokens(now=NOW - leeway).verify(token_with()) == ACCEPTED


def test_a_token_is_valid_for_at_most_seven_days() -> None:
    assert BOTH.verify(token_with(exp=NOW + MAX_LIFETIME_SECONDS)).expires_at == NOW + 7 * 24 * 3600
    assert_refused(token_with(exp=NOW + MAX_LIFETIME_SECONDS + 1))
    assert_refused(token_with(iat=NOW - MAX_LIFETIME_SECONDS, exp=NOW + 1))
    assert_refused(token_with(iat=0))
    assert_refused(token_with(exp=10**1000))
    assert_refused(token_with(iat=-(10**1000)))
    assert_refused(token_with(nbf=10**1000))


def test_a_time_is_any_number_of_seconds() -> None:
    """RFC 7519, 2: a NumericDate is a JSON number, and may have a fraction."""

    def check(row: tuple[str, str, float]) -> None:
        claim, text, expires_at = row
        assert BOTH.verify(token_of_text(claim, text)).expires_at == expires_at

    check_rows(
        [
            ("exp", f"{NOW}.5", NOW + 0.5),
            ("exp", f"{NOW + 600}.0", NOW + 600),
            ("exp", f"{NOW}.000001", NOW + 0.000001),
            ("exp", "1800000.6e3", NOW + 600),
            ("exp", "18.000006E+8", NOW + 600),
            ("exp", f"{NOW + 1}.{'3' * 900}", NOW + 1 + 1 / 3),
            ("iat", f"{NOW}.5", NOW + 600),
            ("iat", f"{NOW}.0", NOW + 600),
            ("iat", "18e8", NOW + 600),
            ("nbf", f"{NOW}.9", NOW + 600),
            ("nbf", "18e8", NOW + 600),
            ("nbf", "-0.5", NOW + 600),
            ("nbf", "1e-999", NOW + 600),
        ],
        check,
    )


def test_an_expiry_in_whole_seconds_stays_an_integer() -> None:
    """The route that issues tokens answers it as JSON: 1800000600, not 1800000600.0."""
    assert isinstance(BOTH.verify(token_with()).expires_at, int)


def test_fractions_count_at_every_limit_of_a_time() -> None:
    assert_refused(token_of_text("exp", f"{NOW}.5"), run_tokens(now=NOW + 0.5))
    assert_refused(token_of_text("exp", f"{NOW}.0"))
    assert_refused(token_of_text("exp", f"{NOW + MAX_LIFETIME_SECONDS}.5"))
    assert BOTH.verify(token_of_text("iat", f"{NOW + LEEWAY_SECONDS}.0")) == ACCEPTED
    assert_refused(token_of_text("iat", f"{NOW + LEEWAY_SECONDS}.000001"))
    assert_refused(token_of_text("nbf", f"{NOW + LEEWAY_SECONDS}.000001"))


def test_a_time_that_is_no_number_is_refused() -> None:
    def check(row: tuple[str, str, str]) -> None:
        claim, sign, text = row
        assert_refused(token_of_text(claim, sign + text))

    check_rows(
        itertools.product(
            ["exp", "iat", "nbf"],
            ["", "-"],
            [
                f'"{NOW}"',
                "NaN",
                "Infinity",
                "null",
                "true",
                "false",
                "[]",
                "{}",
                '""',
                f"[{NOW}]",
            ],
        ),
        check,
    )


def test_a_time_that_is_far_from_now_is_refused() -> None:
    def check(row: tuple[str, str]) -> None:
        assert_refused(token_of_text(*row))

    numbers = [f"1{NOW}.5", "18e9", "1e999", "1e999999999", "1e999999999999999999", "1e99999999999999999999"]
    past = itertools.product(["exp", "iat"], [f"-{number}" for number in numbers])
    check_rows([*itertools.product(["exp", "iat", "nbf"], numbers), *past], check)


def test_true_is_refused_as_a_time_although_python_equates_it_with_1() -> None:
    def check(claim: str) -> None:
        at_second_1 = run_tokens(now=1)
        number = signed(json.dumps(CLAIMS | {"iat": 1, "exp": 2} | {claim: 2 if claim == "exp" else 1}))
        boolean = signed(json.dumps(CLAIMS | {"iat": 0, "exp": 2} | {claim: True}))

        assert at_second_1.verify(number).expires_at == 2
        assert_refused(boolean, run_tokens(now=0.5) if claim == "exp" else at_second_1)

    check_rows(["exp", "iat"], check)


# --- other claims ----------------------------------------------------------------------------------------


def test_a_missing_required_claim_is_refused() -> None:
    def check(claim: str) -> None:
        assert_refused(token_without(claim))

    check_rows(["sub", "aud", "exp", "iat"], check)


LIMITS = ("models", "calls_per_minute", "groups", "reserve_final_usd")


def test_a_claim_of_a_wrong_type_is_refused() -> None:
    def check(row: tuple[str, object]) -> None:
        claim, value = row
        assert_refused(token_with(**{claim: value}))

    check_rows(
        itertools.product(
            [*("sub", "aud", "exp", "iat", "nbf", "budget_usd"), *LIMITS],
            [None, True, False, [], {}, [[]], [None], "", "\0", {"a": 1}],
        ),
        check,
    )


def test_a_token_for_another_audience_is_refused() -> None:
    def check(audience: object) -> None:
        assert_refused(token_with(aud=audience))

    check_rows(
        ["ridges", "ridges-proxy ", "RIDGES-PROXY", "https://ridges-proxy", ["ridges"], [AUDIENCE, 1]], check
    )


def test_a_run_id_may_be_any_printable_text() -> None:
    def check(run_id: str) -> None:
        assert BOTH.verify(token_with(sub=run_id)).run_id == run_id

    check_rows(["r", "r" * MAX_NAME_CHARACTERS, "a/b ä:1", "日本"], check)


def test_a_run_id_that_is_too_long_or_not_printable_is_refused() -> None:
    def check(run_id: str) -> None:
        assert_refused(token_with(sub=run_id))

    check_rows(["r" * (MAX_NAME_CHARACTERS + 1), "a\nb", "\x7f", "a\u200bb", "\ud800", "\u2028"], check)


def test_a_budget_is_parsed_exactly() -> None:
    def check(row: tuple[str, int]) -> None:
        text, nanousd = row
        assert BOTH.verify(token_of_text("budget_usd", text)).budget_nanousd == nanousd

    check_rows(
        [
            ("0", 0),
            ("2", 2_000_000_000),
            ("2.50", 2_500_000_000),
            ('"2.5"', 2_500_000_000),
            ("1e-3", 1_000_000),
            ("0.1", 100_000_000),
            ("0.30000000000000004", 300_000_001),
            ("1.0000000000000000000001", 1_000_000_001),  # a float would round it to 1
            ("1000000", 10**15),
        ],
        check,
    )


def test_an_invalid_budget_is_refused() -> None:
    def check(text: str) -> None:
        assert_refused(token_of_text("budget_usd", text))

    check_rows(
        [
            "-0.01",
            "-1",
            "1000000.01",
            "1e999",
            "1e99999999999999999999",
            "-1e999",
            "9" * 2000,
            "NaN",
            "Infinity",
            "-Infinity",
            '"NaN"',
            '"sNaN"',
            '"Infinity"',
            '"1e99999999999999999999"',
            '"two"',
            '"0x2"',
            '"$2"',
            '"\u0662"',
            '"\\u0662"',
            '"\uff12.5"',
            '"1_0"',
            '"inf"',
            '"\u00a02"',
        ],
        check,
    )


def test_models_are_a_list_of_names() -> None:
    most = [f"m{number}" for number in range(MAX_MODELS)]

    assert BOTH.verify(token_with(models=["a", "b", "a"])).models == frozenset({"a", "b"})
    assert BOTH.verify(token_with(models=most)).models == frozenset(most)
    assert BOTH.verify(token_with(models=["m" * MAX_NAME_CHARACTERS])).models == frozenset({"m" * 256})


def test_invalid_models_are_refused() -> None:
    def check(models: object) -> None:
        assert_refused(token_with(models=models))

    check_rows(
        ["a", ["a", ""], ["a", 1], ["a", None], ["a", ["b"]], {"a": 1}, ["m" * 257], ["m"] * 101, ["\ud800"]],
        check,
    )


def test_a_rate_limit_is_an_integer_within_its_bounds() -> None:
    assert BOTH.verify(token_with(calls_per_minute=1)).calls_per_minute == 1
    assert BOTH.verify(token_with(calls_per_minute=MAX_CALLS_PER_MINUTE)).calls_per_minute == 1_000_000


def test_an_invalid_rate_limit_is_refused() -> None:
    def check(text: str) -> None:
        assert_refused(token_of_text("calls_per_minute", text))

    check_rows(["0", "-1", "1000001", "1.0", "1.5", "1e3", '"1"', "true", "null", "9" * 2000], check)


def test_groups_are_names_of_which_each_counts_once() -> None:
    most = [f"{number}" + "g" * 99 for number in range(8)]
    printable = "".join(map(chr, range(0x21, 0x7F))).replace("*", "")

    assert BOTH.verify(token_with(groups=["b", "a", "b"])).groups == ("b", "a")
    assert BOTH.verify(token_with(groups=most)).groups == tuple(most)
    assert BOTH.verify(token_with(groups=[printable])).groups == (printable,)


def test_invalid_groups_are_refused() -> None:
    def check(groups: object) -> None:
        assert_refused(token_with(groups=groups))

    names = ["", "g" * 101, "a b", "miner:*", "a\n", "a\x7f", "ä", "\ud800", 1, None, ["a"]]
    check_rows(["a", ["a"] * 9, *([name] for name in names), *(["a", name] for name in names)], check)


def test_what_is_kept_for_the_final_call_is_less_than_the_budget() -> None:
    def check(row: tuple[str, int | None]) -> None:
        claims, kept_nanousd = row
        token = signed(f"{json.dumps(CLAIMS)[:-1]}, {claims}}}")
        if kept_nanousd is None:
            assert_refused(token)
        else:
            assert BOTH.verify(token).reserve_final_nanousd == kept_nanousd

    check_rows(
        [
            ('"reserve_final_usd": 5', 5_000_000_000),
            ('"reserve_final_usd": "0.30000000000000004"', 300_000_001),
            ('"reserve_final_usd": 0, "budget_usd": 1', 0),
            ('"budget_usd": 0.5, "reserve_final_usd": 0.499999999', 499_999_999),
            ('"budget_usd": 0.5, "reserve_final_usd": 0.4999999991', None),  # both are the same in nano-USD
            ('"budget_usd": 0.5, "reserve_final_usd": "0.5"', None),
            ('"budget_usd": 0, "reserve_final_usd": 0', None),
            ('"reserve_final_usd": -1', None),
            ('"reserve_final_usd": 1000001', None),
            ('"reserve_final_usd": NaN', None),
        ],
        check,
    )


# --- format ----------------------------------------------------------------------------------------------


def test_a_duplicate_name_is_refused() -> None:
    def check(payload: str) -> None:
        assert_refused(signed(payload))

    check_rows(
        [
            f'{{"sub": "run-2", {json.dumps(CLAIMS)[1:]}',
            f'{json.dumps(CLAIMS)[:-1]}, "sub": "run-1"}}',
            f'{json.dumps(CLAIMS)[:-1]}, "s\\u0075b": "run-2"}}',
            f'{json.dumps(CLAIMS)[:-1]}, "other": {{"a": 1, "a": 1}}}}',
        ],
        check,
    )


def test_invalid_json_is_refused_even_in_an_unknown_claim() -> None:
    def check(text: str) -> None:
        assert_refused(token_of_text("other", text))

    check_rows(["NaN", "Infinity", "-Infinity", "[NaN]"], check)


def test_a_payload_that_is_no_utf8_json_object_is_refused() -> None:
    def check(payload: bytes) -> None:
        assert_refused(signed(payload))

    check_rows(
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b'"run-1"',
            json.dumps([CLAIMS]).encode(),
            json.dumps(CLAIMS).encode() + b"x",
            b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode(),
            json.dumps(CLAIMS).encode("utf-16"),
            json.dumps(CLAIMS).encode("utf-16-le"),
            json.dumps(CLAIMS | {"sub": "ä"}, ensure_ascii=False).encode("latin-1"),
            b"[" * 2900,
            b'{"a":' * 580,
            b'{"a":' + b"[" * 1400 + b"]" * 1400 + b"}",
        ],
        check,
    )


def test_a_header_that_is_no_json_object_is_refused() -> None:
    def check(header: bytes) -> None:
        assert_refused(signed(json.dumps(CLAIMS), header))

    check_rows(
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b'"HS256"',
            b"\xff",
            b'{"alg": NaN}',
            b'{"alg":1e999}',
            b"[" * 2500,
            b'{"a":' * 500,
        ],
        check,
    )


GOOD = token_with()
HEAD, BODY, SIGNATURE = GOOD.split(".")


def test_a_malformed_token_is_refused() -> None:
    def check(token: str) -> None:
        assert_refused(token)

    check_rows(
        [
            "",
            ".",
            "..",
            "...",
            HEAD,
            f"{HEAD}.{BODY}",
            f"{HEAD}.{BODY}.",
            f"{HEAD}..{SIGNATURE}",
            f".{BODY}.{SIGNATURE}",
            f"{GOOD}.",
            f"{GOOD}.{SIGNATURE}",
            f"{HEAD}.{BODY}.{BODY}.{SIGNATURE}.x",
            f" {GOOD}",
            f"{GOOD}\n",
            f"{GOOD}\0",
            f"{GOOD}!",
            f"{GOOD}====",
            f"{HEAD}.{BODY}.{SIGNATURE[:-1]}",
            f"{HEAD}.{BODY}.{'+' * 43}",
            f"{HEAD}.{segment(json.dumps(CLAIMS | {'sub': 'run-2'}).encode())}.{SIGNATURE}",
            GOOD.replace(".", "\u2024"),
            GOOD + "ä",
            GOOD + "\ud800",
        ],
        check,
    )


def test_a_token_of_the_maximum_length_is_accepted_and_a_longer_one_refused() -> None:
    empty = token_with(padding="")
    longest = next(
        token
        for count in range(MAX_TOKEN_CHARACTERS)
        if len(token := token_with(padding="x" * (MAX_TOKEN_CHARACTERS - len(empty) - count))) == 4096
    )

    assert BOTH.verify(longest) == ACCEPTED
    assert_refused(signed(json.dumps(CLAIMS | {"padding": ""}) + " " * 3000))


def test_a_token_that_is_too_long_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BOTH, "_signed_claims", lambda _: pytest.fail("the token was parsed"))

    assert_refused("x" * 4097)
    assert_refused("ä")


def test_a_refusal_contains_nothing_of_the_token() -> None:
    token = token_with(sub="a run with a line's end\n")
    with pytest.raises(InvalidApiKeyError) as caught:
        BOTH.verify(token)

    traceback_text = "".join(traceback.format_exception_only(caught.value))
    assert str(caught.value) in {"", InvalidApiKeyError.message}
    assert caught.value.__suppress_context__
    assert token not in traceback_text
    assert "line's end" not in traceback_text


def test_the_reason_of_a_refusal_is_for_the_log() -> None:
    def check(row: tuple[str, str]) -> None:
        token, reason = row
        with pytest.raises(InvalidApiKeyError) as caught:
            BOTH.verify(token)
        assert caught.value.reason == reason
        assert str(caught.value) == InvalidApiKeyError.message

    other = "it is not a run token, or it is malformed"
    unsigned = "the token is not signed with a known key"
    check_rows(
        [
            ("", "there is no bearer token"),
            ("sk-some-key", other),
            ("a.b.c", other),
            (signed(json.dumps(CLAIMS), b"\xff"), other),
            (signed(b"\xff\xfe"), other),
            (signed("{"), other),
            (signed("[]"), "the payload must be an object"),
            (signed(json.dumps(CLAIMS), HEADER | {"crit": ["x"]}), other),
            (
                signed(json.dumps(CLAIMS), HEADER | {"crit": ["b64"], "b64": True}),
                "critical extensions are not supported",
            ),
            (signed(json.dumps(CLAIMS), key="another key, which the proxy does not know"), unsigned),
            (signed(json.dumps(CLAIMS), HEADER | {"alg": "none"}), unsigned),
            ("x" * 5000, "the token must be ASCII of at most 4096 characters"),
            (token_with(aud="other"), "aud must be ridges-proxy"),
            (token_without("aud"), "a required claim is missing"),
            (token_with(exp=NOW), "the token has expired"),
            (token_of_text("exp", f"{NOW}.0"), "the token has expired"),
            (token_with(nbf=NOW + 60), "the token is not valid yet"),
            (token_with(iat=NOW + 60), "the token is not valid yet"),
            (token_with(exp=NOW + 10**6), "a token is valid for at most 604800 seconds"),
            (token_with(exp="soon"), "exp must be a number of seconds since 1970"),
            (token_without("iat"), "iat must be a number of seconds since 1970"),
            (token_with(nbf="soon"), "nbf must be a number of seconds since 1970"),
            (token_of_text("exp", "1e99999999999"), other),  # Decimal cannot subtract from it
            (token_of_text("exp", "1e9999999999999999999"), other),
            (token_with(sub=7), "sub must be a name of 1 to 256 printable characters"),
            (token_with(sub="a\nb"), "sub must be a name of 1 to 256 printable characters"),
            (token_with(budget_usd="two"), "budget_usd is not an amount in USD"),
            (token_with(budget_usd=[2]), "budget_usd must be an amount in USD"),
            (token_with(models="a"), "models must be a list of 1 to 100 names"),
            (token_with(models=["a", ""]), "models must be a name of 1 to 256 printable characters"),
            (token_with(calls_per_minute="10"), "calls_per_minute must be an integer"),
            (token_with(calls_per_minute=0), "calls_per_minute must be from 1 to 1000000"),
            (token_with(groups="a"), "groups must be a list of 1 to 8 names"),
            (
                token_with(groups=["*"]),
                "groups must be names of 1 to 100 printable ASCII characters without space and *",
            ),
            (token_with(reserve_final_usd="two"), "reserve_final_usd is not an amount in USD"),
            (
                token_with(budget_usd=1, reserve_final_usd=1),
                "reserve_final_usd must be less than budget_usd",
            ),
            (signed(json.dumps(CLAIMS)[:-1] + ', "sub": "x"}'), "an object has a duplicate name"),
            (token_of_text("x", "NaN"), "NaN is not valid JSON"),
        ],
        check,
    )


# --- random input ----------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
claim_names = st.sampled_from(
    ["sub", "aud", "exp", "iat", "nbf", "jti", "iss", "budget_usd", "models", "groups"]
)


def verified_or_none(token: str, tokens: RunTokens = BOTH) -> RunToken | None:
    """Return the verified token, None if it is refused. Any other error fails the test."""
    try:
        return tokens.verify(token)
    except InvalidApiKeyError:
        return None


@given(st.text(max_size=200) | st.text("abcAB01-_=.", max_size=200))
def test_no_random_text_is_accepted(text: str) -> None:
    assert verified_or_none(text) is None


@given(st.integers(0, len(GOOD)), st.integers(0, 8), st.text(max_size=4) | st.text("abAB01-_=.", max_size=4))
def test_a_changed_token_is_refused_or_has_the_signed_claims(start: int, count: int, text: str) -> None:
    assert verified_or_none(GOOD[:start] + text + GOOD[start + count :]) in {None, ACCEPTED}


@given(st.dictionaries(claim_names | st.text(max_size=8), json_values, max_size=3))
def test_any_signed_claims_are_read_correctly_or_refused(claims: dict[str, Any]) -> None:
    for given_claims in (claims, CLAIMS | claims):
        token = verified_or_none(signed(json.dumps(given_claims)))

        assert token is None or token.run_id == given_claims["sub"]
        assert token is None or NOW < token.expires_at == given_claims["exp"]


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_other_signed_payload_is_refused(payload: bytes) -> None:
    assert verified_or_none(signed(payload)) is None


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b'{"alg":"EdDSA"}')
def test_no_token_with_any_other_header_is_accepted(header: bytes) -> None:
    assert verified_or_none(signed(json.dumps(CLAIMS), header)) is None


@given(json_values, json_values)
def test_further_header_fields_never_change_the_signed_claims(kid: object, crit: object) -> None:
    assert verified_or_none(signed(json.dumps(CLAIMS), HEADER | {"kid": kid, "crit": crit})) is None
    assert verified_or_none(signed(json.dumps(CLAIMS), HEADER | {"kid": kid})) in {None, ACCEPTED}


@given(st.binary(max_size=80))
def test_no_random_signature_is_accepted(signature: bytes) -> None:
    for algorithm in ("HS256", "EdDSA"):
        head = segment(json.dumps({"alg": algorithm}).encode())
        assert verified_or_none(f"{head}.{BODY}.{segment(signature)}") is None


# --- key rotation ----------------------------------------------------------------------------------------

NEW_KEY = "another key of these tests, long enough for HS256"
NEW_PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(b"not random either: another key..")
ROTATING = RunTokens(
    NEW_KEY,
    pem_of(NEW_PRIVATE_KEY.public_key()),
    lambda: NOW,
    previous_key=KEY,
    previous_public_key=PUBLIC_KEY,
)


def test_tokens_of_the_previous_and_the_new_keys_are_accepted() -> None:
    for key, algorithm in (
        (NEW_KEY, "HS256"),
        (KEY, "HS256"),
        (NEW_PRIVATE_KEY, "EdDSA"),
        (PRIVATE_KEY, "EdDSA"),
    ):
        assert ROTATING.verify(jwt.encode(CLAIMS, key, algorithm)) == ACCEPTED


def test_the_new_key_signs_while_a_previous_one_is_accepted() -> None:
    token, _ = ROTATING.issue("run-1", 600)
    assert RunTokens(NEW_KEY, None, lambda: NOW).verify(token).run_id == "run-1"
    assert_refused(token, SHARED_ONLY)


def test_an_unknown_key_is_refused_while_a_previous_one_is_accepted() -> None:
    assert_refused(jwt.encode(CLAIMS, "a third key of these tests, long enough", "HS256"), ROTATING)
    assert_refused(jwt.encode(CLAIMS, pem_of(NEW_PRIVATE_KEY.public_key())[27:80], "HS256"), ROTATING)
