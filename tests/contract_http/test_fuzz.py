"""Requests generated from `/openapi.json`: each response conforms to it, and refusals change no usage.

FUZZ_EXAMPLES sets the number of requests for each operation with a key (default: a tenth of the profile's
examples). Without a key there are a third as many, because most of them are refused unread.
"""

from __future__ import annotations

import os
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    ignored_auth,
    positive_data_acceptance,
    unsupported_method,
)

from ridges_proxy.auth.key_throttle import KeyThrottle
from ridges_proxy.server.service import EXTENSION
from tests.contract_http.service import app_of, services_of, usage_in
from tests.process.fake_chutes_control import Upstream
from tests.support.app import ADMIN_KEY, PROXY_KEY
from tests.support.loggers import as_before
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from schemathesis import CheckFunction
    from schemathesis.schemas import APIOperation

    Case = schemathesis.Case[Any]
    Operation = APIOperation[Any, Any, Any, Any]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", settings().max_examples // 10))

EXCLUDED = [
    # Some refusals cannot be expressed in JSON Schema: a run id given twice, an amount that is no number.
    positive_data_acceptance,
    # A run id may have slashes: GET …/reset answers the usage of a run whose id ends in /reset.
    allow_header_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def app() -> Iterator[Flask]:
    with as_before(), Upstream() as upstream:
        made = app_of(
            RUN_TOKEN_KEY="fuzz-run-token-key-0123456789abcdef0123",
            CHUTES_BASE_URL=upstream.chat_url,
            CHUTES_EMBEDDING_URL=upstream.embed_url,
            RATE_LIMIT_PER_RUN="off",
            RATE_LIMIT_PER_IP="off",
            RUN_TTL_SECONDS="86400",  # a run that is forgotten between two looks would seem changed
            LOG_LEVEL="ERROR",
        )
        services = replace(services_of(made), key_throttle=KeyThrottle(sleep=lambda _: None))
        services.sweeper.start()
        made.extensions[EXTENSION] = services
        yield made
        services.sweeper.stop()


@pytest.fixture(autouse=True)
def upstream() -> None:
    """Replaces the faked upstream: the fake Chutes answers here."""


@pytest.fixture(scope="module")
def operations() -> list[Operation]:
    """All operations of the document, which is the same for every app."""
    with as_before():
        schema = schemathesis.openapi.from_wsgi("/openapi.json", app_of())
    results = list(schema.get_all_operations())
    operations = [result.ok() for result in results if isinstance(result, Ok)]
    assert len(operations) == len(results)
    return operations


def test_with_a_key(app: Flask, operations: list[Operation], request: pytest.FixtureRequest) -> None:
    def send(case: Case) -> None:
        key = ADMIN_KEY if case.path.startswith(("/admin", "/metrics")) else PROXY_KEY
        check(app, case, {"Authorization": f"Bearer {key}"}, ignored_auth)

    sent = fuzz(operations, EXAMPLES, send)
    request.node.user_properties.append(("requests", sent))


def test_without_a_key(app: Flask, operations: list[Operation], request: pytest.FixtureRequest) -> None:
    sent = fuzz(operations, max(1, EXAMPLES // 3), lambda case: check(app, case, None))
    request.node.user_properties.append(("requests", sent))


def fuzz(operations: list[Operation], examples: int, send: Callable[[Case], None]) -> int:
    """Send requests that are generated for each operation. Reports every operation that fails.

    Returns how many were sent.
    """
    profile = settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    sent = 0

    def count_and_send(case: Case) -> None:
        nonlocal sent
        sent += 1
        send(case)

    def check_operation(operation: Operation) -> None:
        profile(given(case=operation.as_strategy())(count_and_send))()

    check_rows(operations, check_operation)
    return sent


def check(app: Flask, case: Case, headers: dict[str, str] | None, *not_checked: CheckFunction) -> None:
    """Send the request. Its response must conform to the document; a refusal must not change any usage."""
    before = used_in(app)
    response = case.call(headers=headers, app=app)
    assert b"Traceback" not in response.content
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        assert used_in(app) == before
    case.validate_response(response, excluded_checks=[*EXCLUDED, *not_checked])


def used_in(app: Flask) -> dict[str, tuple[int, int, int]]:
    """The usage of the runs that have used something. The others may have had calls that were refused."""
    return {run: usage for run, usage in usage_in(app).items() if any(usage)}
