"""API keys that the settings name."""

from __future__ import annotations

from ridges_proxy.auth.api_keys import ApiKeys


def test_each_of_the_keys_is_known_and_no_other() -> None:
    keys = ApiKeys("present", "previous", None)
    known = ["present", "previous"]
    given = [*known, "", "Present", "present ", "presentprevious", "None"]
    assert [key for key in given if keys.has(key)] == known
    assert not ApiKeys(None).has("")


def test_a_key_may_have_bytes_that_are_no_utf_8() -> None:
    """The server reads headers and the environment so that such bytes become lone surrogates."""
    keys = ApiKeys(b"k\xff".decode("utf-8", "surrogateescape"))
    assert keys.has("k\udcff")
    assert not keys.has("k\udcfe")
    assert not keys.has("k")
