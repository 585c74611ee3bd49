"""Signatures of webhooks, as Standard Webhooks 1.0 defines them (https://www.standardwebhooks.com). Pure.

Libraries for most languages check them, so a receiver needs no code for this service.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode

BASE64_PREFIX = "whsec_"
"""Before a key in base64, as the standard writes keys."""


def signing_key(text: str) -> bytes:
    """Return the key that a setting names: in base64 after `whsec_`, else the text itself in UTF-8.

    Raises ValueError if it is empty or not valid base64. The padding of base64 may be missing.
    """
    if not text.startswith(BASE64_PREFIX):
        key = text.encode()
    else:
        encoded = text.removeprefix(BASE64_PREFIX).rstrip("=")
        try:
            key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            raise ValueError(f"must be base64 after {BASE64_PREFIX}") from None
    if not key:
        raise ValueError("must not be empty")
    return key


def webhook_headers(message_id: str, timestamp: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """Return the headers that identify a message, with its signature if there is a key.

    `timestamp` is the time of this delivery, in seconds since the epoch. The id must not contain a full stop.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if key is not None:
        signed = f"{message_id}.{timestamp}.".encode() + body
        digest = hmac.digest(key, signed, "sha256")
        headers["webhook-signature"] = f"v1,{b64encode(digest).decode()}"
    return headers
