"""API keys that the settings name."""

from __future__ import annotations

import hashlib
import hmac


class ApiKeys:
    """The present key of a group of callers, and its previous one if there is one."""

    def __init__(self, *keys: str | None) -> None:
        self._digests = [_digest(key) for key in keys if key is not None]

    def has(self, given: str) -> bool:
        """Whether `given` is one of the keys. Compares it with each, in constant time."""
        digest, found = _digest(given), False
        for each in self._digests:
            found |= hmac.compare_digest(digest, each)
        return found


def _digest(key: str) -> bytes:
    """Return a digest. All have the same length, so a comparison's time does not reveal a key's length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
