"""Signatures of webhooks, checked by the library of the standard."""

from __future__ import annotations

import json
import time
from base64 import b64encode

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from ridges_proxy.runtime.webhook_signature import signing_key, webhook_headers
from tests.support.table import check_rows, each_row

KEY = bytes(range(32))
BODY = '{"text":"5 € of 5 €"}'.encode()
BASE64 = b64encode(KEY).decode()


def test_the_library_of_the_standard_accepts_a_signature_with_the_key_in_each_of_its_forms() -> None:
    def check(row: tuple[str, Webhook]) -> None:
        text, receiver = row
        headers = webhook_headers("alert-1", int(time.time()), BODY, signing_key(text))
        assert receiver.verify(BODY, headers) == json.loads(BODY)

    rows = [
        ("a plain key", Webhook(b"a plain key")),
        (f"whsec_{BASE64}", Webhook(f"whsec_{BASE64}")),
        (f"whsec_{BASE64.rstrip('=')}", Webhook(KEY)),
        (BASE64, Webhook(BASE64.encode())),
    ]
    check_rows(rows, check)


@each_row("changed", ["webhook-id", "webhook-timestamp", "body", "key"])
def test_the_signature_covers_the_id_the_time_and_the_body(changed: str) -> None:
    now = int(time.time())
    headers = webhook_headers("alert-1", now, BODY, b"another key" if changed == "key" else KEY)
    headers |= {"webhook-id": "alert-2"} if changed == "webhook-id" else {}
    headers |= {"webhook-timestamp": str(now - 1)} if changed == "webhook-timestamp" else {}
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(KEY).verify(BODY + b" " if changed == "body" else BODY, headers)


def test_the_example_of_the_standard_has_its_signature() -> None:
    """The values come from the tests of the standard's own libraries."""
    headers = webhook_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_key_there_is_no_signature() -> None:
    assert webhook_headers("a", 7, b"{}", None) == {"webhook-id": "a", "webhook-timestamp": "7"}


@each_row("text", ["", "whsec_", "whsec_====", "whsec_A", "whsec_ab!d", "whsec_ab-_", "whsec_YWJj=ZGVm"])
def test_a_key_that_is_empty_or_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        signing_key(text)
