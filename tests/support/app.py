"""Settings and apps for tests; every value can be overridden by its setting's name."""

from __future__ import annotations

from ridges_proxy.config import Settings, load_settings

PROXY_KEY = "proxy-key-of-the-tests"
ADMIN_KEY = "admin-key-of-the-tests"
CHUTES_KEY = "chutes-key-of-the-tests"

AGENT = {"Authorization": f"Bearer {PROXY_KEY}"}
OPERATOR = {"Authorization": f"Bearer {ADMIN_KEY}"}


def environ_of(**overrides: str) -> dict[str, str]:
    """The environment of a service under test."""
    return {
        "CHUTES_API_KEY": CHUTES_KEY,
        "PROXY_API_KEY": PROXY_KEY,
        "ADMIN_API_KEY": ADMIN_KEY,
        "CHUTES_BASE_URL": "http://chutes.test/v1",
        "CHUTES_EMBEDDING_URL": "http://embed.test/embed",
        **overrides,
    }


def settings_of(**overrides: str) -> Settings:
    """Checked settings of a service under test."""
    return load_settings(Settings, environ_of(**overrides))
