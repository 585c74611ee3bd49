"""The settings in deploy/ are valid for the service."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotenv import dotenv_values

from ridges_proxy.config import Settings, SettingsError, load_settings

FILE = Path(__file__).parents[2] / "deploy" / "production.env"


def test_the_production_settings_need_only_their_keys() -> None:
    shipped = {name: value or "" for name, value in dotenv_values(FILE).items()}
    with pytest.raises(SettingsError) as error:
        load_settings(Settings, shipped)
    assert [problem.split()[0] for problem in error.value.problems] == ["CHUTES_API_KEY", "PROXY_API_KEY"]
    keys = {"CHUTES_API_KEY": "a", "PROXY_API_KEY": "b", "ADMIN_API_KEY": "c"}
    settings = load_settings(Settings, shipped | keys)
    assert settings.ledger_url == "sqlite:////var/lib/ridges-proxy/ledger.db"
    assert settings.workers == 2
