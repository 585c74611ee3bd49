"""Digests of settings: two processes compare their settings without showing any value."""

from __future__ import annotations

import dataclasses
import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ridges_proxy.billing.prices import Price
from ridges_proxy.config.tokenizer_file import TokenizerFile

if TYPE_CHECKING:
    from ridges_proxy.config.settings import Settings

DIGEST_CHARACTERS = 16
"""Hexadecimal digits of a digest: enough to notice a difference."""

ADMIN_KEY = "ADMIN_API_KEY"

NOT_OF_THE_SERVER = {"PROXY_URL"}
"""Only the commands use it, and each machine may have another value."""


def digests_of(settings: Settings, key: str) -> dict[str, str]:
    """Return the digest of each setting by name. `key` is ADMIN_API_KEY, so that no value can be guessed.

    The parsed values are compared: `1` and `true` are the same switch. A file counts by its content.
    """
    fields = dataclasses.fields(settings)
    return {
        field.metadata["name"]: digest(key, field.metadata["name"], getattr(settings, field.name))
        for field in fields
        if field.metadata["name"] not in NOT_OF_THE_SERVER
    }


def digest(key: str, name: str, value: object) -> str:
    """Return the digest of a name and a value, HMAC-SHA256 cut to 16 hexadecimal digits."""
    text = json.dumps([name, value], default=_plain)
    return hmac.digest(key.encode(), text.encode(), "sha256").hex()[:DIGEST_CHARACTERS]


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ. Without ADMIN_API_KEY in common, nothing can be compared."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return [ADMIN_KEY] if len(names) == len({**one, **other}) else names


def _plain(value: object) -> object:
    """Return what JSON can express. The order of prices counts: `GET /v1/models` shows it."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, Price):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, TokenizerFile):
        return value.content_digest
    return str(value)
