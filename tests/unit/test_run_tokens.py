from __future__ import annotations

import base64
import hashlib
import hmac
import json
import traceback
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ridges_proxy.auth.run_tokens import (
    AUDIENCE,
    LEEWAY_SECONDS,
    MAX_CALLS_PER_MINUTE,
    MAX_LIFETIME_SECONDS,
    MAX_MODELS,
    MAX_NAME_CHARACTERS,
    MAX_TOKEN_CHARACTERS,
    RunToken,
    RunTokens,
)
from ridges_proxy.errors import InvalidApiKeyError

if TYPE_CHECKING:
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

steady = settings(deadline=None, derandomize=True, max_examples=300)


def run_tokens(key: str | None = KEY, public_key: str | None = PUBLIC_KEY, now: float = NOW) -> RunTokens:
    return RunTokens(key, public_key, clock=lambda: now)


BOTH, ONLY_SHARED, ONLY_PUBLIC = run_tokens(), run_tokens(public_key=None), run_tokens(key=None)
ACCEPTED = RunToken("run-1", NOW + 600, None, None, None)


def segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(payload: str | bytes, header: dict[str, Any] | bytes = HEADER, key: str = KEY) -> str:
    """A token of any content, under a true HMAC: what PyJWT would not write."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = payload if isinstance(payload, bytes) else payload.encode()
    content = f"{segment(head)}.{segment(body)}"
    return f"{content}.{segment(hmac.digest(key.encode(), content.encode(), hashlib.sha256))}"


def token_with(**claims: object) -> str:
    return signed(json.dumps(CLAIMS | claims))


def token_without(claim: str) -> str:
    return signed(json.dumps({name: value for name, value in CLAIMS.items() if name != claim}))


def token_of_text(claim: str, text: str) -> str:
    """A token whose claim is JSON as written: NaN, 1e999, a fraction of many digits."""
    rest = {name: value for name, value in CLAIMS.items() if name != claim}
    return signed(f'{json.dumps(rest)[:-1]}, "{claim}": {text}}}')


def assert_refused(token: str, tokens: RunTokens = BOTH) -> None:
    with pytest.raises(InvalidApiKeyError):
        tokens.verify(token)


def test_the_tokens_of_these_tests_are_accepted_until_something_is_wrong_with_them() -> None:
    assert BOTH.verify(token_with()) == ACCEPTED
    assert BOTH.verify(token_of_text("exp", str(NOW + 600))) == ACCEPTED


# --- minting ------------------------------------------------------------------------------------------------


def test_a_minted_token_is_verified_as_what_it_was_minted_for() -> None:
    token, minted = BOTH.mint("run-1", 2400, budget_usd="2.5", models=("a", "b"), calls_per_minute=30)

    assert minted == RunToken("run-1", NOW + 2400, 2_500_000_000, frozenset({"a", "b"}), 30)
    assert BOTH.verify(token) == minted


def test_a_token_minted_for_a_run_alone_limits_nothing_else() -> None:
    token, minted = BOTH.mint("run-1", 600)

    assert minted == ACCEPTED
    assert BOTH.verify(token) == minted
    assert set(jwt.decode(token, options={"verify_signature": False})) == {"sub", "aud", "iat", "exp"}


def test_a_budget_of_nothing_is_a_budget() -> None:
    assert BOTH.mint("run-1", 600, budget_usd="0")[1].budget_nanousd == 0


def test_a_token_minted_between_two_seconds_is_good_at_once() -> None:
    tokens = run_tokens(now=NOW + 0.9)

    assert tokens.verify(tokens.mint("run-1", 1)[0]).expires_at == NOW + 1


def test_a_token_for_a_second_is_minted_though_the_clock_moves_on() -> None:
    times = iter([NOW + 0.9, NOW + 1.1])

    assert RunTokens(KEY, None, clock=lambda: next(times)).mint("run-1", 1)[1].expires_at == NOW + 1


def test_only_who_has_the_shared_key_can_mint() -> None:
    assert BOTH.can_mint
    assert ONLY_SHARED.can_mint
    assert not ONLY_PUBLIC.can_mint
    with pytest.raises(ValueError, match="no key"):
        ONLY_PUBLIC.mint("run-1", 600)


@pytest.mark.parametrize(
    ("run_id", "ttl_seconds", "limits"),
    [
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
    ],
)
def test_no_token_is_minted_that_would_be_refused(
    run_id: str, ttl_seconds: int, limits: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        BOTH.mint(run_id, ttl_seconds, **limits)

    assert KEY not in str(caught.value)


# --- tokens minted elsewhere --------------------------------------------------------------------------------


def test_a_token_that_pyjwt_alone_signed_with_the_shared_key_is_accepted() -> None:
    token = jwt.encode(CLAIMS | {"budget_usd": "2"}, KEY, algorithm="HS256")

    assert BOTH.verify(token) == RunToken("run-1", NOW + 600, 2_000_000_000, None, None)


def test_a_token_that_pyjwt_alone_signed_with_the_private_key_is_accepted() -> None:
    token = jwt.encode(CLAIMS | {"models": ["a"]}, PRIVATE_KEY, algorithm="EdDSA")

    for tokens in (BOTH, ONLY_PUBLIC):
        assert tokens.verify(token) == RunToken("run-1", NOW + 600, None, frozenset({"a"}), None)


def test_a_token_from_a_private_key_in_pem_is_accepted() -> None:
    pem = PRIVATE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    assert BOTH.verify(jwt.encode(CLAIMS, pem, algorithm="EdDSA")) == ACCEPTED


@pytest.mark.parametrize("audience", [[AUDIENCE], ["another", AUDIENCE]])
def test_a_token_may_be_for_others_too(audience: list[str]) -> None:
    assert BOTH.verify(token_with(aud=audience)) == ACCEPTED


def test_claims_that_nobody_here_reads_are_ignored() -> None:
    assert BOTH.verify(token_with(iss="main", jti="7", scope={"a": [1.5, None]})) == ACCEPTED


# --- keys and algorithms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", " none", "none\0", ""])
@pytest.mark.parametrize("signature", ["", "AA"])
def test_an_unsigned_token_is_refused(algorithm: str, signature: str) -> None:
    head = json.dumps({"alg": algorithm}).encode()
    token = f"{segment(head)}.{segment(json.dumps(CLAIMS).encode())}.{signature}"

    for tokens in (BOTH, ONLY_SHARED, ONLY_PUBLIC, run_tokens(None, None)):
        assert_refused(token, tokens)


@pytest.mark.parametrize(
    "algorithm", ["none", "hs256", "HS256 ", "", None, 1, True, ["HS256"], {"HS256": 1}, []]
)
def test_a_true_signature_does_not_help_a_header_that_names_it_otherwise(algorithm: object) -> None:
    assert_refused(signed(json.dumps(CLAIMS), {"alg": algorithm}))


def test_a_header_without_an_algorithm_is_refused() -> None:
    assert_refused(signed(json.dumps(CLAIMS), {"typ": "JWT"}))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_the_shared_key_is_for_one_algorithm(algorithm: str) -> None:
    key = KEY * 2  # long enough for the longer hashes
    tokens = run_tokens(key)

    assert tokens.verify(jwt.encode(CLAIMS, key, algorithm="HS256")) == ACCEPTED
    assert_refused(jwt.encode(CLAIMS, key, algorithm=algorithm), tokens)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES256K", "Ed25519"])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    assert_refused(signed(json.dumps(CLAIMS), {"alg": algorithm}))


def test_an_elliptic_curve_of_another_kind_is_refused() -> None:
    assert_refused(jwt.encode(CLAIMS, generate_private_key(SECP256R1()), algorithm="ES256"))


def test_another_shared_key_is_refused() -> None:
    assert_refused(signed(json.dumps(CLAIMS), key=KEY[:-1]))
    assert_refused(signed(json.dumps(CLAIMS), key=""))


def test_another_private_key_is_refused() -> None:
    assert_refused(jwt.encode(CLAIMS, Ed25519PrivateKey.generate(), algorithm="EdDSA"))
    assert_refused(jwt.encode(CLAIMS, Ed448PrivateKey.generate(), algorithm="EdDSA"))


def test_without_the_shared_key_its_algorithm_is_refused() -> None:
    assert_refused(token_with(), ONLY_PUBLIC)


def test_without_the_public_key_its_algorithm_is_refused() -> None:
    assert_refused(jwt.encode(CLAIMS, PRIVATE_KEY, algorithm="EdDSA"), ONLY_SHARED)


def test_without_any_key_all_is_refused() -> None:
    assert_refused(token_with(), run_tokens(None, None))


@pytest.mark.parametrize("key", [PUBLIC_KEY, PUBLIC_KEY.strip(), PUBLIC_KEY.replace("\n", "")])
def test_what_everyone_knows_of_the_public_key_signs_nothing(key: str) -> None:
    for tokens in (BOTH, ONLY_PUBLIC):
        assert_refused(signed(json.dumps(CLAIMS), key=key), tokens)


def test_a_signature_of_one_algorithm_is_none_of_the_other() -> None:
    assert_refused(signed(json.dumps(CLAIMS), {"alg": "EdDSA"}))
    assert_refused(signed(json.dumps(CLAIMS), {"alg": "EdDSA"}, key=PUBLIC_KEY))


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../dev/null"},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"jwk": {"kty": "oct", "k": segment(b"a key of the attacker's own, 32 bytes")}},
    ],
)
def test_a_key_that_the_header_brings_is_not_used(header: dict[str, Any]) -> None:
    assert BOTH.verify(signed(json.dumps(CLAIMS), HEADER | header)) == ACCEPTED
    assert_refused(signed(json.dumps(CLAIMS), HEADER | header, key="a key of the attacker's own, 32 bytes"))
    assert_refused(signed(json.dumps(CLAIMS), HEADER | header, key=""))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": []},
        {"crit": None},
        {"kid": 1},
    ],
)
def test_a_header_that_asks_for_more_than_is_understood_is_refused(header: dict[str, Any]) -> None:
    assert_refused(signed(json.dumps(CLAIMS), HEADER | header))


@pytest.mark.parametrize(
    "key", ["", "short", PUBLIC_KEY, '{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}']
)
def test_a_shared_key_that_signs_nothing_safely_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        run_tokens(key)


@pytest.mark.parametrize("key", ["", "x", "ключ", KEY, pem_of(Ed448PrivateKey.generate().public_key())])
def test_a_public_key_that_is_none_of_ed25519_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        run_tokens(public_key=key)


# --- times --------------------------------------------------------------------------------------------------


def test_a_token_is_good_until_its_last_second_and_no_longer() -> None:
    assert run_tokens(now=NOW + 599.999).verify(token_with()) == ACCEPTED
    assert_refused(token_with(), run_tokens(now=NOW + 600))
    assert_refused(token_with(), run_tokens(now=NOW + 10**6))


def test_a_token_is_good_from_its_first_second_but_for_a_clock_a_little_ahead() -> None:
    early = LEEWAY_SECONDS
    assert_refused(token_with(), run_tokens(now=NOW - early - 0.001))
    assert_refused(token_with(nbf=NOW), run_tokens(now=NOW - early - 0.001))
    assert_refused(token_with(nbf=NOW - 10), run_tokens(now=NOW - early - 0.001))
    assert_refused(token_with(nbf=NOW + 10), run_tokens(now=NOW + 10 - early - 0.001))
    assert run_tokens(now=NOW + 10 - early).verify(token_with(nbf=NOW + 10)) == ACCEPTED
    assert run_tokens(now=NOW - early).verify(token_with()) == ACCEPTED


def test_a_token_is_good_for_seven_days_at_most() -> None:
    assert BOTH.verify(token_with(exp=NOW + MAX_LIFETIME_SECONDS)).expires_at == NOW + 7 * 24 * 3600
    assert_refused(token_with(exp=NOW + MAX_LIFETIME_SECONDS + 1))
    assert_refused(token_with(iat=NOW - MAX_LIFETIME_SECONDS, exp=NOW + 1))
    assert_refused(token_with(iat=0))
    assert_refused(token_with(exp=10**1000))
    assert_refused(token_with(iat=-(10**1000)))
    assert_refused(token_with(nbf=10**1000))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "text",
    [
        f'"{NOW}"',
        f"{NOW}.0",
        f"{NOW}.5",
        "18e8",
        "1e999",
        "1e99999999999999999999",
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
)
def test_a_time_that_is_no_whole_number_is_refused(claim: str, sign: str, text: str) -> None:
    assert_refused(token_of_text(claim, sign + text))


@pytest.mark.parametrize("claim", ["exp", "iat"])
def test_true_is_no_time_even_where_its_number_would_be_one(claim: str) -> None:
    at_the_start = run_tokens(now=1)
    number = signed(json.dumps(CLAIMS | {"iat": 1, "exp": 2} | {claim: 2 if claim == "exp" else 1}))
    switch = signed(json.dumps(CLAIMS | {"iat": 0, "exp": 2} | {claim: True}))

    assert at_the_start.verify(number).expires_at == 2
    assert_refused(switch, run_tokens(now=0.5) if claim == "exp" else at_the_start)


# --- other claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["sub", "aud", "exp", "iat"])
def test_a_claim_that_every_token_needs_is_missed(claim: str) -> None:
    assert_refused(token_without(claim))


@pytest.mark.parametrize(
    "claim", ["sub", "aud", "exp", "iat", "nbf", "budget_usd", "models", "calls_per_minute"]
)
@pytest.mark.parametrize("value", [None, True, False, [], {}, [[]], [None], "", "\0", {"a": 1}])
def test_a_claim_of_another_type_is_refused(claim: str, value: object) -> None:
    assert_refused(token_with(**{claim: value}))


@pytest.mark.parametrize(
    "audience", ["ridges", "ridges-proxy ", "RIDGES-PROXY", "https://ridges-proxy", ["ridges"], [AUDIENCE, 1]]
)
def test_a_token_for_someone_else_is_refused(audience: object) -> None:
    assert_refused(token_with(aud=audience))


@pytest.mark.parametrize("run_id", ["r", "r" * MAX_NAME_CHARACTERS, "a/b ä:1", "日本"])
def test_a_run_id_is_any_printable_text(run_id: str) -> None:
    assert BOTH.verify(token_with(sub=run_id)).run_id == run_id


@pytest.mark.parametrize(
    "run_id", ["r" * (MAX_NAME_CHARACTERS + 1), "a\nb", "\x7f", "a\u200bb", "\ud800", "\u2028"]
)
def test_a_run_id_that_cannot_fake_chutes_a_log_is_refused(run_id: str) -> None:
    assert_refused(token_with(sub=run_id))


@pytest.mark.parametrize(
    ("text", "nanousd"),
    [
        ("0", 0),
        ("2", 2_000_000_000),
        ("2.50", 2_500_000_000),
        ('"2.5"', 2_500_000_000),
        ("1e-3", 1_000_000),
        ("0.1", 100_000_000),
        ("0.30000000000000004", 300_000_001),
        ("1.0000000000000000000001", 1_000_000_001),  # as a float it would be 1
        ("1000000", 10**15),
    ],
)
def test_a_budget_is_read_to_the_digit(text: str, nanousd: int) -> None:
    assert BOTH.verify(token_of_text("budget_usd", text)).budget_nanousd == nanousd


@pytest.mark.parametrize(
    "text",
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
    ],
)
def test_a_budget_that_is_no_amount_is_refused(text: str) -> None:
    assert_refused(token_of_text("budget_usd", text))


def test_models_are_a_list_of_names() -> None:
    most = [f"m{number}" for number in range(MAX_MODELS)]

    assert BOTH.verify(token_with(models=["a", "b", "a"])).models == frozenset({"a", "b"})
    assert BOTH.verify(token_with(models=most)).models == frozenset(most)
    assert BOTH.verify(token_with(models=["m" * MAX_NAME_CHARACTERS])).models == frozenset({"m" * 256})


@pytest.mark.parametrize(
    "models",
    ["a", ["a", ""], ["a", 1], ["a", None], ["a", ["b"]], {"a": 1}, ["m" * 257], ["m"] * 101, ["\ud800"]],
)
def test_models_that_are_no_list_of_names_are_refused(models: object) -> None:
    assert_refused(token_with(models=models))


def test_a_rate_is_a_whole_number_in_bounds() -> None:
    assert BOTH.verify(token_with(calls_per_minute=1)).calls_per_minute == 1
    assert BOTH.verify(token_with(calls_per_minute=MAX_CALLS_PER_MINUTE)).calls_per_minute == 1_000_000


@pytest.mark.parametrize(
    "text", ["0", "-1", "1000001", "1.0", "1.5", "1e3", '"1"', "true", "null", "9" * 2000]
)
def test_a_rate_out_of_bounds_is_refused(text: str) -> None:
    assert_refused(token_of_text("calls_per_minute", text))


# --- form ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        f'{{"sub": "run-2", {json.dumps(CLAIMS)[1:]}',
        f'{json.dumps(CLAIMS)[:-1]}, "sub": "run-1"}}',
        f'{json.dumps(CLAIMS)[:-1]}, "s\\u0075b": "run-2"}}',
        f'{json.dumps(CLAIMS)[:-1]}, "other": {{"a": 1, "a": 1}}}}',
    ],
)
def test_a_name_that_stands_twice_is_refused(payload: str) -> None:
    assert_refused(signed(payload))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]"])
def test_what_is_no_json_is_refused_even_where_nobody_reads_it(text: str) -> None:
    assert_refused(token_of_text("other", text))


@pytest.mark.parametrize(
    "payload",
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
)
def test_a_payload_that_is_no_object_in_utf8_is_refused(payload: bytes) -> None:
    assert_refused(signed(payload))


@pytest.mark.parametrize(
    "header",
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
)
def test_a_header_that_is_no_object_is_refused(header: bytes) -> None:
    assert_refused(signed(json.dumps(CLAIMS), header))


GOOD = token_with()
HEAD, BODY, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
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
)
def test_a_token_that_is_not_whole_is_refused(token: str) -> None:
    assert_refused(token)


def test_a_token_may_have_so_many_characters_and_not_one_more() -> None:
    empty = token_with(padding="")
    longest = next(
        token
        for count in range(MAX_TOKEN_CHARACTERS)
        if len(token := token_with(padding="x" * (MAX_TOKEN_CHARACTERS - len(empty) - count))) == 4096
    )

    assert BOTH.verify(longest) == ACCEPTED
    assert_refused(signed(json.dumps(CLAIMS | {"padding": ""}) + " " * 3000))


def test_an_oversized_token_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BOTH, "_signed_claims", lambda _: pytest.fail("was read"))

    assert_refused("x" * 4097)
    assert_refused("ä")


def test_a_refusal_shows_nothing_of_the_token_or_the_key() -> None:
    token = token_with(sub="a run with a line's end\n")
    with pytest.raises(InvalidApiKeyError) as caught:
        BOTH.verify(token)

    shown = "".join(traceback.format_exception_only(caught.value))
    assert str(caught.value) in {"", InvalidApiKeyError.message}
    assert caught.value.__suppress_context__
    assert token not in shown
    assert "line's end" not in shown


# --- whatever is sent ---------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
claim_names = st.sampled_from(["sub", "aud", "exp", "iat", "nbf", "jti", "iss", "budget_usd", "models"])


def verdict(token: str, tokens: RunTokens = BOTH) -> RunToken | None:
    """What a token is verified as; None if refused. Any other error fails the test that asks."""
    try:
        return tokens.verify(token)
    except InvalidApiKeyError:
        return None


@steady
@given(st.text(max_size=200) | st.text("abcAB01-_=.", max_size=200))
def test_no_text_gets_past_or_breaks_it(text: str) -> None:
    assert verdict(text) is None


@steady
@given(st.integers(0, len(GOOD)), st.integers(0, 8), st.text(max_size=4) | st.text("abAB01-_=.", max_size=4))
def test_a_token_that_was_changed_says_what_was_signed_or_nothing(start: int, count: int, text: str) -> None:
    assert verdict(GOOD[:start] + text + GOOD[start + count :]) in {None, ACCEPTED}


@steady
@given(st.dictionaries(claim_names | st.text(max_size=8), json_values, max_size=6))
def test_signed_claims_of_any_kind_are_read_or_refused(claims: dict[str, Any]) -> None:
    for given_claims in (claims, CLAIMS | claims):
        token = verdict(signed(json.dumps(given_claims)))

        assert token is None or token.run_id == given_claims["sub"]
        assert token is None or NOW < token.expires_at == given_claims["exp"]


@steady
@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_signed_payload_of_any_bytes_is_refused(payload: bytes) -> None:
    assert verdict(signed(payload)) is None


@steady
@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b'{"alg":"EdDSA"}')
def test_a_header_of_any_bytes_brings_no_token_in(header: bytes) -> None:
    assert verdict(signed(json.dumps(CLAIMS), header)) is None


@steady
@given(json_values, json_values)
def test_a_header_of_any_fields_changes_nothing_of_what_was_signed(kid: object, crit: object) -> None:
    assert verdict(signed(json.dumps(CLAIMS), HEADER | {"kid": kid, "crit": crit})) is None
    assert verdict(signed(json.dumps(CLAIMS), HEADER | {"kid": kid})) in {None, ACCEPTED}


@steady
@given(st.binary(max_size=80))
def test_no_bytes_are_a_signature(signature: bytes) -> None:
    for algorithm in ("HS256", "EdDSA"):
        head = segment(json.dumps({"alg": algorithm}).encode())
        assert verdict(f"{head}.{BODY}.{segment(signature)}") is None


# --- keys that change ---------------------------------------------------------------------------------------

NEW_KEY = "another key of these tests, long enough for HS256"
NEW_PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(b"not random either: another key..")
CHANGING = RunTokens(
    NEW_KEY,
    pem_of(NEW_PRIVATE_KEY.public_key()),
    lambda: NOW,
    previous_key=KEY,
    previous_public_key=PUBLIC_KEY,
)


def test_while_keys_change_tokens_of_both_are_good() -> None:
    for key, algorithm in (
        (NEW_KEY, "HS256"),
        (KEY, "HS256"),
        (NEW_PRIVATE_KEY, "EdDSA"),
        (PRIVATE_KEY, "EdDSA"),
    ):
        assert CHANGING.verify(jwt.encode(CLAIMS, key, algorithm)) == ACCEPTED


def test_while_keys_change_the_new_one_signs() -> None:
    token, _ = CHANGING.mint("run-1", 600)
    assert RunTokens(NEW_KEY, None, lambda: NOW).verify(token).run_id == "run-1"
    assert_refused(token, ONLY_SHARED)


def test_a_key_that_was_never_one_is_refused_while_keys_change() -> None:
    assert_refused(jwt.encode(CLAIMS, "a third key of these tests, long enough", "HS256"), CHANGING)
    assert_refused(jwt.encode(CLAIMS, pem_of(NEW_PRIVATE_KEY.public_key())[27:80], "HS256"), CHANGING)
