"""Run tokens on a real server: an agent spends only on its own run, until the run is closed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ridges_proxy.auth.run_tokens import RunTokens
from tests.process import expected_holds
from tests.process.event_stream import CHAT, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import EMBEDDING, INFERENCE, Proxy, chat, text
from tests.process.wire import post
from tests.support.app import ADMIN_KEY, PROXY_KEY
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream
    from tests.process.wire import Answer

KEY = "the-secret-of-run-tokens-in-tests"
PRIVATE_KEY = Ed25519PrivateKey.generate()
PUBLIC_PEM = PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
SPENDING = (INFERENCE, EMBEDDING, CHAT, "/v1/embeddings", "/v1/estimate")

FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}
"""Each row of a table has its own run, and a fake Chutes without earlier calls."""

NEW_RUN = {"run": lambda _: uuid4().hex}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_text(PUBLIC_PEM)
    return path


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, keys: Path) -> Iterator[Proxy]:
    with Proxy(
        fake_chutes, RUN_TOKEN_KEY=KEY, RUN_TOKEN_PUBLIC_KEY=str(keys), TRUSTED_PROXY_COUNT="1"
    ) as started:
        yield started


def claims_of(run: str, **changed: object) -> dict[str, Any]:
    now = int(time.time())
    claims = {"sub": run, "aud": "ridges-proxy", "iat": now, "exp": now + 600, **changed}
    return {name: value for name, value in claims.items() if value is not None}


def signed(run: str, **changed: object) -> str:
    return jwt.encode(claims_of(run, **changed), KEY, "HS256")


def body_of(path: str, run: str | None, prompt: str = "hi") -> dict[str, Any]:
    """A body for a spending route. Without a run, the token names it."""
    body = chat(run or "", prompt) if path in {INFERENCE, CHAT, "/v1/estimate"} else text(run or "", prompt)
    return body if run is not None else {name: value for name, value in body.items() if name != "run_id"}


def ask(proxy: Proxy, token: str, path: str, body: dict[str, Any] | None = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    method = "GET" if body is None else "POST"
    return proxy.ask(method, path, body, {"Authorization": f"Bearer {token}", **named})


def code_of(answer: Answer) -> str:
    found = answer.json
    code: str = found["error"]["code"] if "error" in found else found["code"]
    return code


def admin(proxy: Proxy, path: str, body: object = None) -> Answer:
    return proxy.ask("POST", f"/admin/runs{path}", body, {"Authorization": f"Bearer {ADMIN_KEY}"})


# --- spending -----------------------------------------------------------------------------------------------


@each_row("path, names_run", product(SPENDING, (True, False)), before=NEW_RUN)
def test_a_token_spends_on_its_run_on_every_route(
    proxy: Proxy, run: str, path: str, *, names_run: bool
) -> None:
    answer = ask(proxy, signed(run), path, body_of(path, run if names_run else None))
    assert answer.status == 200
    assert (proxy.usage(run).spent > 0) == (path != "/v1/estimate")


FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}
"""Each row of a table has its own run, and a fake Chutes without earlier calls."""

NEW_RUN = {"run": lambda _: uuid4().hex}


def test_a_token_signed_with_the_private_key_spends(proxy: Proxy, run: str) -> None:
    token = jwt.encode(claims_of(run), PRIVATE_KEY, "EdDSA")
    assert ask(proxy, token, CHAT, body_of(CHAT, None)).status == 200
    assert ask(proxy, token, "/agents/usage").json["run_id"] == run


@each_row("budget", ["0.000001", "5.5", 7, 0.25], before=NEW_RUN)
def test_the_budget_of_a_token_replaces_the_default(proxy: Proxy, run: str, budget: object) -> None:
    token = signed(run, budget_usd=budget)
    assert ask(proxy, token, "/agents/usage").json["max_cost_usd"] == float(str(budget))
    answer = ask(proxy, token, CHAT, body_of(CHAT, None))
    assert answer.status == (402 if budget == "0.000001" else 200)


def test_a_token_for_some_models_refuses_others(proxy: Proxy, run: str) -> None:
    answer = ask(proxy, signed(run, models=["another"]), CHAT, body_of(CHAT, None))
    assert (answer.status, code_of(answer)) == (404, "model_not_found")
    refusal = ask(proxy, signed(run, models=["another"]), INFERENCE, body_of(INFERENCE, None)).json
    assert "not supported" in refusal["error"]


def test_a_token_for_two_calls_a_minute_refuses_the_third(proxy: Proxy, chutes: Upstream, run: str) -> None:
    token = signed(run, calls_per_minute=2)
    answers = [ask(proxy, token, CHAT, body_of(CHAT, None)) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert code_of(answers[-1]) == "rate_limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert chutes.wait(idle=1)["count"] == 2


# --- forgeries ----------------------------------------------------------------------------------------------


def unsigned(run: str) -> str:
    header, payload = ({"alg": "none", "typ": "JWT"}, claims_of(run))
    parts = (json.dumps(part).encode() for part in (header, payload))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def hmac_of_the_public_key(run: str) -> str:
    """Sign with the public key as the secret of an HMAC, a well-known attack."""
    return jwt.encode(claims_of(run), base64.b64encode(PUBLIC_PEM.encode()), "HS256")


def tampered(run: str) -> str:
    header, _, signature = signed("another").split(".")
    payload = base64.urlsafe_b64encode(json.dumps(claims_of(run)).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


FORGERIES = {
    "unsigned": unsigned,
    "a wrong key": lambda run: jwt.encode(claims_of(run), "x" * 32, "HS256"),
    "a wrong private key": lambda run: jwt.encode(claims_of(run), Ed25519PrivateKey.generate(), "EdDSA"),
    "another algorithm": lambda run: jwt.encode(claims_of(run), KEY * 2, "HS512"),
    "the public key as a secret": hmac_of_the_public_key,
    "tampered": tampered,
    "expired": lambda run: signed(run, iat=int(time.time()) - 60, exp=int(time.time()) - 1),
    "not yet valid": lambda run: signed(run, nbf=int(time.time()) + 60),
    "issued in the future": lambda run: signed(run, iat=int(time.time()) + 60),
    "a foreign audience": lambda run: signed(run, aud="another-proxy"),
    "no audience": lambda run: signed(run, aud=None),
    "no expiry": lambda run: signed(run, exp=None),
    "a life too long": lambda run: signed(run, exp=int(time.time()) + 8 * 86_400),
    "no run": lambda _: signed("", sub=None),
    "oversized": lambda run: signed(run, padding="x" * 5000),
    "a negative budget": lambda run: signed(run, budget_usd="-1"),
    "the key itself": lambda _: KEY,
    "nothing": lambda _: "",
    "two dots": lambda _: "..",
}


@each_row("forgery", FORGERIES, before=FRESH)
def test_a_forged_token_is_refused_on_every_route_without_a_reason(
    proxy: Proxy, chutes: Upstream, run: str, forgery: str
) -> None:
    token = FORGERIES[forgery](run)  # type: ignore[no-untyped-call] # one line each
    # Every forgery has its own address: after ten invalid keys a minute, an address waits for every answer.
    address = f"203.0.113.{list(FORGERIES).index(forgery)}"
    for path in (*SPENDING, "/agents/usage", "/v1/models"):
        body = body_of(path, run) if path in SPENDING else None
        answer = ask(proxy, token, path, body, X_Forwarded_For=address)
        assert (answer.status, code_of(answer)) == (401, "invalid_api_key")
        assert b"Invalid API key" in answer.body
        assert len(answer.body) < 250
    assert proxy.usage(run).calls == 0
    assert chutes.wait(idle=1)["count"] == 0


@each_row("path", SPENDING, before=FRESH)
def test_a_token_cannot_spend_on_another_run_by_body_header_or_query(
    proxy: Proxy, chutes: Upstream, run: str, path: str
) -> None:
    token, other = signed(run), f"{run}-other"
    attempts = [
        ask(proxy, token, path, body_of(path, other)),
        ask(proxy, token, path, body_of(path, None), X_Run_Id=other),
        ask(proxy, token, path, body_of(path, run), X_Run_Id=other),
        ask(proxy, token, path, body_of(path, other), X_Run_Id=run),
        ask(proxy, token, path, body_of(path, run.upper())),
        ask(proxy, token, path, body_of(path, f"{run} ")),
        ask(proxy, token, path, body_of(path, run), X_Run_Id=f"{run},{other}"),
    ]
    assert {(answer.status, code_of(answer)) for answer in attempts} == {(403, "run_not_allowed")}
    assert ask(proxy, token, f"{path}?run_id={other}", body_of(path, None)).status == 200, "its own run"
    assert proxy.usage(other).calls == 0
    assert [call for call in chutes.calls() if call["path"] == other] == []


def test_a_token_cannot_read_another_run_by_query_or_header(proxy: Proxy, run: str) -> None:
    token, other = signed(run), f"{run}-other"
    attempts = [
        ask(proxy, token, f"/agents/usage?run_id={other}"),
        ask(proxy, token, f"/agents/usage?run_id={run}", X_Run_Id=other),
        ask(proxy, token, "/agents/usage", X_Run_Id=other),
        ask(proxy, token, f"/agents/usage?run_id={quote(run + chr(0x200B))}"),
    ]
    assert {(answer.status, code_of(answer)) for answer in attempts} == {(403, "run_not_allowed")}
    twice = ask(proxy, token, f"/agents/usage?run_id={run}&run_id={other}")
    assert twice.status == 422
    assert ask(proxy, token, "/agents/usage").json["run_id"] == run


@each_row("path", ["", "/{}", "/{}/reset", "/{}/close"])
def test_a_token_is_not_accepted_by_admin_routes(proxy: Proxy, run: str, path: str) -> None:
    answer = proxy.ask(
        "GET" if path in {"", "/{}"} else "POST",
        "/admin/runs" + path.format(run),
        None,
        {"Authorization": f"Bearer {signed(run)}"},
    )
    assert (answer.status, code_of(answer)) == (401, "invalid_api_key")


def test_the_shared_key_is_refused_where_tokens_are_required(fake_chutes: Upstream, run: str) -> None:
    with Proxy(fake_chutes, RUN_TOKEN_KEY=KEY, REQUIRE_RUN_TOKENS="1") as strict:
        for path in SPENDING:
            assert ask(strict, PROXY_KEY, path, body_of(path, run)).status == 401
        assert ask(strict, PROXY_KEY, f"/agents/usage?run_id={run}").status == 401
        assert ask(strict, signed(run), CHAT, body_of(CHAT, None)).status == 200


# --- issuing and closing -----------------------------------------------------------------------------------


def test_an_issued_token_has_exactly_the_requested_permissions(proxy: Proxy, run: str) -> None:
    asked = {"run_id": run, "budget_usd": "0.5", "ttl_seconds": 90, "models": ["m"], "calls_per_minute": 3}
    issued = admin(proxy, "", asked).json
    token = RunTokens(KEY, None).verify(issued.pop("token"))
    assert (token.run_id, token.budget_nanousd, token.models, token.calls_per_minute) == (
        run, 500_000_000, frozenset({"m"}), 3,
    )  # fmt: skip
    assert (
        issued.items() >= {"run_id": run, "budget_usd": 0.5, "models": ["m"], "calls_per_minute": 3}.items()
    )
    assert not [line for line in proxy.lines.raw if "eyJ" in line], "no token in a log"


@each_row(
    "invalid",
    [
        {"budget": 1},
        {"ttl_seconds": 0},
        {"ttl_seconds": 8 * 86_400},
        {"budget_usd": -1},
        {"budget_usd": True},
        {"models": []},
        {"models": "m"},
        {"calls_per_minute": 1.5},
        {"run_id": ""},
    ],
)
def test_an_invalid_request_for_a_token_is_refused(proxy: Proxy, run: str, invalid: dict[str, Any]) -> None:
    answer = admin(proxy, "", {"run_id": run, **invalid})
    assert (answer.status, code_of(answer)) == (422, "invalid_request")
    assert [problem["loc"] for problem in answer.json["detail"]] == [["body", *invalid]]


def flask(proxy: Proxy, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "PROXY_URL": f"http://127.0.0.1:{proxy.port}",
        "ADMIN_API_KEY": ADMIN_KEY,
    }
    command = [str(Path(sys.executable).with_name("flask")), "runs", *arguments]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, cwd="/", timeout=30
    )


def test_the_command_line_issues_tokens_and_closes_runs(proxy: Proxy, run: str) -> None:
    done = flask(proxy, "issue", run, "--budget", "0.5", "--ttl", "40m")
    assert (done.returncode, done.stderr) == (0, "")
    token = done.stdout.strip()
    assert ask(proxy, token, CHAT, body_of(CHAT, None)).status == 200
    closed = flask(proxy, "close", run, "--yes", "--json")
    receipt = json.loads(closed.stdout)
    assert (receipt["closed"], receipt["calls"], receipt["max_cost_usd"]) == (True, 1, 0.5)
    assert ask(proxy, token, CHAT, body_of(CHAT, None)).status == 401
    assert flask(proxy, "issue", run).returncode == 6, "a closed run gets no token"


def test_closing_ends_the_calls_in_flight_and_returns_the_receipt(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    token = signed(run)
    before, amid = directive(gate="close"), directive(gate="close", gate_at=2)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, proxy, token, INFERENCE, body_of(INFERENCE, None, before))
        streamed = stack.enter_context(EventStream(proxy.port, body_of(CHAT, None, amid), key=token))
        streamed.event()
        streamed.words(2)
        chutes.wait(at_gate=2)
        receipt = admin(proxy, f"/{run}/close").json
        assert (streamed.events()[-1]["error"]["code"], waiting.result().status) == ("run_closed", 401)
    # The first call had no answer. Of the second, the role and two words were relayed.
    # What may have been generated after them depends on the time until the close.
    least = expected_holds.hold(before) + expected_holds.bound(amid, 1 + 2 * 6)
    most = expected_holds.hold(before) + expected_holds.hold(amid)
    assert (receipt["closed"], receipt["in_flight"], receipt["held_cost_usd"]) == (True, 0, 0)
    assert least <= round(receipt["used_cost_usd"] * 10**9) == proxy.usage(run).spent <= most
    (line,) = proxy.lines.wait(event="receipt", run=run)
    assert (line["calls"], line["used_cost_usd"]) == (2, receipt["used_cost_usd"])
    for path in SPENDING:
        assert ask(proxy, token, path, body_of(path, None)).status == 401, "the token is refused at once"
        assert code_of(ask(proxy, PROXY_KEY, path, body_of(path, run))) == "run_closed"
    assert ask(proxy, token, "/agents/usage").status == 401
    assert ask(proxy, token, "/v1/models").status == 401


def test_closing_does_not_wait_for_a_client_that_does_not_read(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    body = {**body_of(CHAT, run, directive(events=20_000)), "max_tokens": 20_000, "stream": True}
    with proxy.connect(receive_bytes=4096) as wire:
        wire.send(post(CHAT, body, key=signed(run)))
        chutes.wait(in_flight=1)
        receipt = admin(proxy, f"/{run}/close").json
    assert (receipt["closed"], receipt["in_flight"], receipt["held_cost_usd"]) == (True, 0, 0)


def test_a_run_closed_before_its_first_call_refuses_an_earlier_token(proxy: Proxy, run: str) -> None:
    token = signed(run)
    assert admin(proxy, f"/{run}/close").json["calls"] == 0
    assert ask(proxy, token, CHAT, body_of(CHAT, None)).status == 401
