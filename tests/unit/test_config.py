from __future__ import annotations

import dataclasses
import io
import ipaddress
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dotenv import dotenv_values

from ridges_proxy.billing.budgets import Budget
from ridges_proxy.billing.prices import Price
from ridges_proxy.config import (
    DEFAULT_MODEL,
    REQUIRED,
    ClientSettings,
    PriceSettings,
    Settings,
    SettingsError,
    doubts,
    load_settings,
    read_environment,
    unknown_names,
)
from ridges_proxy.config.dotenv_file import MAX_PROBLEMS
from ridges_proxy.config.file_content import MAX_SETTINGS_BYTES
from ridges_proxy.config.rate_limit import RateLimit
from tests.support.app import ADMIN_KEY, CHUTES_KEY, PROXY_KEY, environ_of, settings_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
REQUIRED_ONLY = {"CHUTES_API_KEY": "chutes", "PROXY_API_KEY": "proxy"}
NAMES = {field.metadata["name"]: field for field in dataclasses.fields(Settings)}


def problems_of(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        settings_of(**environ)
    return raised.value.problems


# --- defaults -----------------------------------------------------------------------------------------------


DEFAULTS: dict[str, Any] = {
    "chutes_api_key": "chutes",
    "proxy_api_key": "proxy",
    "admin_api_key": None,
    "run_token_key": None,
    "run_token_public_key": None,
    "proxy_api_key_previous": None,
    "admin_api_key_previous": None,
    "run_token_key_previous": None,
    "run_token_public_key_previous": None,
    "require_run_tokens": False,
    "allowed_ips": (),
    "trusted_proxy_count": 0,
    "cors_origins": ("*",),
    "max_cost_nanousd": 2_000_000_000,
    "model_prices": {"deepseek-ai/DeepSeek-V3-0324": Price(270_000_000, 270_000_000)},
    "default_model": "deepseek-ai/DeepSeek-V3-0324",
    "embedding_nanousd_per_second": 100_000,
    "embedding_model": "BAAI/bge-large-en-v1.5",
    "max_tokens": 1024,
    "openai_max_tokens": 8192,
    "min_completion_tokens": 16,
    "learned_counts_bytes": 8_388_608,
    "chutes_base_url": "https://llm.chutes.ai/v1",
    "chutes_embedding_url": "https://chutes-baai-bge-large-en-v1-5.chutes.ai/embed",
    "connect_timeout_seconds": 5.0,
    "idle_timeout_seconds": 60.0,
    "whole_idle_timeout_seconds": 3600.0,
    "embedding_idle_timeout_seconds": 60.0,
    "deadline_seconds": 300.0,
    "embedding_batch": 32,
    "embedding_deadline_seconds": 30.0,
    "hold_wait_seconds": 60.0,
    "heartbeat_seconds": 15.0,
    "run_ttl_seconds": 1200.0,
    "sweep_interval_seconds": 300.0,
    "ledger_url": "memory://",
    "ledger_timeout_seconds": 2.0,
    "ledger_wait_replicas": 0,
    "ledger_outbox": None,
    "receipt_days": 30,
    "receipt_calls": False,
    "receipts_file": None,
    "budgets": (),
    "alert_percents": (80, 100),
    "alert_runs": False,
    "alert_webhook_url": None,
    "alert_webhook_key": None,
    "alert_format": "json",
    "max_body_bytes": 4 * 1024 * 1024,
    "body_timeout_seconds": 30.0,
    "write_timeout_seconds": 30.0,
    "settle_timeout_seconds": 30.0,
    "circuit_failures": 10,
    "circuit_open_seconds": 10.0,
    "max_concurrent_calls": 1000,
    "max_concurrent_calls_per_run": 32,
    "rate_limit_per_run": RateLimit(6000, 60),
    "rate_limit_per_ip": RateLimit(60_000, 60),
    "host": "0.0.0.0",
    "port": 8000,
    "workers": 1,
    "graceful_timeout_seconds": 30,
    "log_level": "INFO",
    "log_format": "json",
    "traces_endpoint": None,
    "proxy_url": "http://127.0.0.1:8000",
}


def test_every_setting_has_its_documented_default() -> None:
    settings = load_settings(Settings, REQUIRED_ONLY)

    assert {field.name: getattr(settings, field.name) for field in dataclasses.fields(Settings)} == DEFAULTS


def test_empty_and_blank_values_mean_the_default() -> None:
    empty = {name: " " for name in NAMES if name not in REQUIRED_ONLY}

    assert load_settings(Settings, {**empty, **REQUIRED_ONLY}) == load_settings(Settings, REQUIRED_ONLY)


def test_the_command_line_needs_no_key_of_the_server() -> None:
    assert load_settings(ClientSettings, {}) == ClientSettings(
        proxy_url="http://127.0.0.1:8000", admin_api_key=None
    )


def test_prices_are_read_without_any_key() -> None:
    settings = load_settings(PriceSettings, {"MODEL_PRICES": '{"m": 1}', "DEFAULT_MODEL": "m"})

    assert settings == PriceSettings(
        model_prices={"m": Price(1_000_000_000, 1_000_000_000)},
        default_model="m",
        chutes_base_url="https://llm.chutes.ai/v1",
        connect_timeout_seconds=5.0,
    )
    with pytest.raises(SettingsError, match="DEFAULT_MODEL has no price"):
        load_settings(PriceSettings, {"MODEL_PRICES": '{"m": 1}'})


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in NAMES.items() if not field.metadata["text"].endswith(".")] == []


def test_no_two_settings_have_the_same_name() -> None:
    assert len(NAMES) == len(dataclasses.fields(Settings))
    assert [name for name in NAMES if not re.fullmatch(r"[A-Z]+(_[A-Z]+)*", name)] == []


# --- valid values -----------------------------------------------------------------------------------------


def test_a_valid_value_is_read() -> None:
    rows: list[tuple[str, str, object]] = [
        ("CHUTES_API_KEY", " sk-1~! ", "sk-1~!"),
        ("ADMIN_API_KEY", "k", "k"),
        ("TRUSTED_PROXY_COUNT", "10", 10),
        ("CORS_ORIGINS", "https://a.test, https://b.test,", ("https://a.test", "https://b.test")),
        ("MAX_COST_PER_RUN", "0.0000000001", 1),
        ("MAX_COST_PER_RUN", "0", 0),
        ("EMBEDDING_PRICE_PER_SECOND", "1e-4", 100_000),
        ("CHUTES_BASE_URL", "http://localhost:9000/v1/", "http://localhost:9000/v1"),
        ("CHUTES_BASE_URL", "http://[::1]:9000", "http://[::1]:9000"),
        ("MAX_TOKENS", "1000000", 1_000_000),
        ("CONNECT_TIMEOUT_SECONDS", "0.1", 0.1),
        ("DEADLINE_SECONDS", "86400", 86_400.0),
        ("PORT", "0", 0),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("LOG_FORMAT", "TEXT", "text"),
        ("BUDGETS", '[{"name": "a", "usd": 1, "window": "day"}]', (Budget("a", 10**9, "day"),)),
        ("ALERT_PERCENTS", "100, 50 ,80,", (50, 80, 100)),
        ("ALERT_PERCENTS", "OFF", ()),
        ("ALERT_WEBHOOK_URL", "https://hooks.test/a/?wait=true", "https://hooks.test/a/?wait=true"),
        ("ALERT_WEBHOOK_URL", "http://[::1]:9000", "http://[::1]:9000"),
        ("ALERT_WEBHOOK_KEY", "whsec_" + "a" * 26, "whsec_" + "a" * 26),
        ("ALERT_FORMAT", "Slack", "slack"),
        ("ALERT_RUNS", "1", True),
        ("RECEIPT_CALLS", "1", True),
        ("RECEIPTS_FILE", "/var/log/receipts.jsonl", "/var/log/receipts.jsonl"),
    ]

    def check(row: tuple[str, str, object]) -> None:
        name, raw, value = row
        assert getattr(settings_of(**{name: raw}), NAMES[name].name) == value

    check_rows(rows, check)


def test_addresses_and_networks_of_both_families_are_read() -> None:
    read = settings_of(ALLOWED_IPS="10.0.0.1, 10.1.0.0/16,::1 ,2001:db8::/32,").allowed_ips

    assert read == tuple(
        map(ipaddress.ip_network, ("10.0.0.1/32", "10.1.0.0/16", "::1/128", "2001:db8::/32"))
    )


# --- invalid values -----------------------------------------------------------------------------------------


INVALID_SECRETS = ("two words", "tab\tkey", "ключ", "key\x7f", "a\nb")
INVALID_USD = (
    *("x", "-1", "NaN", "Infinity", "1e30", "0x1", "1000000.01", "$2", "2,0"),
    *("\u0662", "\uff12", "1_0", "1_0.5", "inf", "+inf"),
)
INVALID_URLS = (
    "chutes.ai",
    "ftp://chutes.ai",
    "http://",
    "https:///v1",
    "http://user@chutes.ai",
    "http://:secret@chutes.ai",
    "http://a/?x=1",
    "http://a/?",
    "http://a/#x",
    "http://a/#",
    "http://a:port",
    "http://a:99999",
    "http://[::1",
    "http://a b/",
    "http://a\n/",
    "http://é.test",
)


def invalid_integers(minimum: int, maximum: int) -> tuple[str, ...]:
    return ("x", "1.5", "-1", "+1", "1e3", "0x10", "٣", "1_0", str(minimum - 1), str(maximum + 1), "9" * 5000)


def invalid_seconds(minimum: float, maximum: float) -> tuple[str, ...]:
    least, most = str(minimum * 0.9), str(maximum * 1.01)
    other_forms = ("\u0662", "\uff12", "1_0", "1_0.0", "+inf", "infinity")
    return ("x", "nan", "inf", "-inf", "-1", "1s", "0x1", least, most, "1e999", *other_forms)


INVALID_RATES = (
    "\u0661\u0660/minute",
    "\uff11/minute",
    "1_0/minute",
    "0",
    "none",
    "100",
    "0/minute",
    "-1/minute",
    "1.5/minute",
    "1000001/minute",
    "5/fortnight",
    "5/month",
    "5 per 25 hours",
    "5/minute;1/second",
    "5/minute, 1/second",
    "\u0665/minute",
    "5/\u017fecond",
    "5/m\u0131nute",
    "5/\u00a0minute",
)
INVALID_TOKEN_KEYS = (*INVALID_SECRETS, "x" * 31, "-----BEGIN PUBLIC KEY-----", '{"kty":"oct"}' * 3)
INVALID_PUBLIC_KEYS = ("x", "/", "-----BEGIN PUBLIC KEY-----", "-----BEGIN ключ")
INVALID_VALUES: dict[str, tuple[str, ...]] = {
    "CHUTES_API_KEY": INVALID_SECRETS,
    "PROXY_API_KEY": INVALID_SECRETS,
    "ADMIN_API_KEY": INVALID_SECRETS,
    "PROXY_API_KEY_PREVIOUS": INVALID_SECRETS,
    "ADMIN_API_KEY_PREVIOUS": INVALID_SECRETS,
    "RUN_TOKEN_KEY": INVALID_TOKEN_KEYS,
    "RUN_TOKEN_KEY_PREVIOUS": INVALID_TOKEN_KEYS,
    "RUN_TOKEN_PUBLIC_KEY": INVALID_PUBLIC_KEYS,
    "RUN_TOKEN_PUBLIC_KEY_PREVIOUS": INVALID_PUBLIC_KEYS,
    "REQUIRE_RUN_TOKENS": ("2", "maybe", "-1"),
    "HOLD_WAIT_SECONDS": ("x", "nan", "inf", "-1", "1s", "-0.1", "3601", "1e999"),
    "HEARTBEAT_SECONDS": invalid_seconds(0.05, 3600),
    "OPENAI_MAX_TOKENS": invalid_integers(1, 1_000_000),
    "ALLOWED_IPS": (
        "x",
        "10.0.0.1/8",
        "10.0.0.256",
        "10.0.0.0/33",
        "::1/129",
        "10.0.0.1 10.0.0.2",
        "10.0.0.1,x",
    ),
    "TRUSTED_PROXY_COUNT": invalid_integers(0, 10),
    "MAX_COST_PER_RUN": INVALID_USD,
    "MODEL_PRICES": ("x", "{", "[]", "{}"),  # many more are in test_model_prices.py
    "DEFAULT_MODEL": ("unpriced",),
    "EMBEDDING_PRICE_PER_SECOND": INVALID_USD,
    "MAX_TOKENS": invalid_integers(1, 1_000_000),
    "MIN_COMPLETION_TOKENS": invalid_integers(1, 1_000_000),
    "LEARNED_COUNTS_BYTES": invalid_integers(0, 1 << 34),
    "CHUTES_BASE_URL": INVALID_URLS,
    "CHUTES_EMBEDDING_URL": INVALID_URLS,
    "CONNECT_TIMEOUT_SECONDS": invalid_seconds(0.1, 60),
    "IDLE_TIMEOUT_SECONDS": invalid_seconds(0.1, 3600),
    "WHOLE_IDLE_TIMEOUT_SECONDS": invalid_seconds(0.1, 86_400),
    "EMBEDDING_IDLE_TIMEOUT_SECONDS": invalid_seconds(0.1, 3600),
    "DEADLINE_SECONDS": invalid_seconds(0.1, 86_400),
    "EMBEDDING_BATCH": invalid_integers(1, 2048),
    "EMBEDDING_DEADLINE_SECONDS": invalid_seconds(0.1, 3600),
    "RUN_TTL_SECONDS": invalid_seconds(1, 31_536_000),
    "SWEEP_INTERVAL_SECONDS": invalid_seconds(0.05, 86_400),
    "LEDGER_URL": ("memory", "memory:///", "MEMORY://", "sqlite://", "sqlite:///", "sqlite:///x?mode=ro"),
    "LEDGER_TIMEOUT_SECONDS": invalid_seconds(0.05, 60),
    "LEDGER_WAIT_REPLICAS": invalid_integers(0, 10),
    "LEDGER_OUTBOX": ("outbox/", "a\0b", ":memory:", "file::memory:"),
    "RECEIPT_DAYS": invalid_integers(0, 36_500),
    "RECEIPT_CALLS": ("2", "maybe"),
    "RECEIPTS_FILE": ("receipts/", "a\0b", ":memory:"),
    "BUDGETS": (
        "x",
        "{",
        "{}",
        '[{"name": "run", "usd": 1, "window": "day"}]',
    ),  # more: test_budget_entries.py
    "ALERT_PERCENTS": (
        "x",
        "0",
        "101",
        "80,80",
        "80%",
        "1.5",
        "none",
        ",",
        "9" * 5000,
        "1,2,3,4,5,6,7,8,9,10,11",
    ),
    "ALERT_RUNS": ("2", "maybe"),
    "ALERT_WEBHOOK_URL": (
        *(raw for raw in INVALID_URLS if "?" not in raw),
        *("http://*.a/", "http://.a/", "http://[v1.a]/", "http://a\\b/"),
    ),
    "ALERT_WEBHOOK_KEY": (*INVALID_SECRETS, "x" * 31, "whsec_" + "a-" * 20),
    "ALERT_FORMAT": ("xml", "json,slack"),
    "MAX_BODY_BYTES": invalid_integers(1024, 1 << 30),
    "BODY_TIMEOUT_SECONDS": invalid_seconds(0.1, 3600),
    "WRITE_TIMEOUT_SECONDS": invalid_seconds(0.1, 3600),
    "SETTLE_TIMEOUT_SECONDS": invalid_seconds(0.1, 3600),
    "CIRCUIT_FAILURES": invalid_integers(0, 10_000),
    "CIRCUIT_OPEN_SECONDS": invalid_seconds(0.1, 3600),
    "MAX_CONCURRENT_CALLS": invalid_integers(1, 100_000),
    "MAX_CONCURRENT_CALLS_PER_RUN": invalid_integers(1, 100_000),
    "RATE_LIMIT_PER_RUN": INVALID_RATES,
    "RATE_LIMIT_PER_IP": INVALID_RATES,
    "PORT": invalid_integers(0, 65_535),
    "WORKERS": invalid_integers(1, 256),
    "GRACEFUL_TIMEOUT_SECONDS": invalid_integers(6, 86_400),
    "LOG_LEVEL": ("loud", "10", "INFO,DEBUG"),
    "LOG_FORMAT": ("xml", "jso"),
    "PROXY_URL": INVALID_URLS,
    "OTEL_EXPORTER_OTLP_ENDPOINT": INVALID_URLS,
    "CORS_ORIGINS": (
        "a.test",
        "https://*.a.test",
        "*, https://a.test",
        "https://a.test/",
        "https://a.test/x",
        "null",
    ),
}
FREE_TEXT = {"EMBEDDING_MODEL", "HOST"}
"""Settings of which any text is a valid value."""


def test_the_table_of_invalid_values_has_every_setting() -> None:
    assert INVALID_VALUES.keys() | FREE_TEXT == NAMES.keys()
    assert not INVALID_VALUES.keys() & FREE_TEXT


def test_an_invalid_value_is_one_problem_that_begins_with_its_setting() -> None:
    def check(row: tuple[str, str]) -> None:
        name, raw = row
        (problem,) = problems_of(**{name: raw})
        assert problem.startswith(f"{name} ")

    check_rows([(name, raw) for name, values in INVALID_VALUES.items() for raw in values], check)


def test_a_problem_never_shows_a_key() -> None:
    for name in ("CHUTES_API_KEY", "PROXY_API_KEY", "ADMIN_API_KEY"):
        assert "hush" not in "".join(problems_of(**{name: "hush hush"}))


def test_a_missing_required_setting_is_a_problem() -> None:
    def check(row: tuple[str, str | None]) -> None:
        name, raw = row
        environ = {key: value for key, value in {**REQUIRED_ONLY, name: raw}.items() if value is not None}
        with pytest.raises(SettingsError, match=f"{name} is required") as raised:
            load_settings(Settings, environ)
        assert len(raised.value.problems) == 1

    check_rows([(name, raw) for name in REQUIRED_ONLY for raw in (None, "", "  ")], check)


def test_all_problems_are_reported_at_once() -> None:
    raw_values = {name: values[0] for name, values in INVALID_VALUES.items()} | {"DEFAULT_MODEL": "fine"}

    with pytest.raises(SettingsError) as raised:
        load_settings(Settings, raw_values)

    assert {line.split()[0] for line in raised.value.problems} == INVALID_VALUES.keys() - {"DEFAULT_MODEL"}
    assert all(f"  {line}" in str(raised.value) for line in raised.value.problems)


def test_missing_and_invalid_and_contradicting_values_are_reported_together() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(Settings, {"CHUTES_API_KEY": "a", "PORT": "x", "WORKERS": "4"})

    assert [line.split()[0] for line in raised.value.problems] == ["PROXY_API_KEY", "PORT", "WORKERS"]


KEYS_DIFFER = "CHUTES_API_KEY, PROXY_API_KEY, ADMIN_API_KEY, RUN_TOKEN_KEY and ALERT_WEBHOOK_KEY must differ"


EMBEDDING_MODEL = str(DEFAULTS["embedding_model"])


def budget_of(model: str, kind: str | None = None) -> dict[str, str]:
    """BUDGETS with one budget of a model, and perhaps of a kind."""
    entry = {"name": "b", "usd": 1, "window": "day", "model": model, **({"kind": kind} if kind else {})}
    return {"BUDGETS": json.dumps([entry])}


ALIAS_OF_REAL = {"input": 1, "output": 1, "upstream": "real"}


# --- contradictions -----------------------------------------------------------------------------------------


def test_settings_that_contradict_each_other_are_one_problem() -> None:
    rows = [
        ({"WORKERS": "2"}, "WORKERS must be 1 with LEDGER_URL=memory://"),
        ({"DEFAULT_MODEL": "other"}, "DEFAULT_MODEL has no price in MODEL_PRICES"),
        ({"MODEL_PRICES": '{"other": 1}'}, "DEFAULT_MODEL has no price in MODEL_PRICES"),
        ({"MIN_COMPLETION_TOKENS": "17", "MAX_TOKENS": "16"}, "MIN_COMPLETION_TOKENS is above MAX_TOKENS"),
        (
            {"CHUTES_API_KEY": PROXY_KEY},
            KEYS_DIFFER,
        ),
        (
            {"ADMIN_API_KEY": PROXY_KEY},
            KEYS_DIFFER,
        ),
        (
            {"ADMIN_API_KEY": CHUTES_KEY},
            KEYS_DIFFER,
        ),
        ({"REQUIRE_RUN_TOKENS": "1"}, "REQUIRE_RUN_TOKENS needs RUN_TOKEN_KEY or RUN_TOKEN_PUBLIC_KEY"),
        ({"RUN_TOKEN_KEY": "k" * 32, "ALERT_WEBHOOK_KEY": "k" * 32}, KEYS_DIFFER),
        ({"RECEIPT_CALLS": "1", "RECEIPT_DAYS": "0"}, "RECEIPT_CALLS needs RECEIPT_DAYS above 0"),
        ({"RECEIPTS_FILE": "./a", "LEDGER_OUTBOX": "a"}, "RECEIPTS_FILE must differ from LEDGER_OUTBOX"),
        ({"RECEIPTS_FILE": "a.db", "LEDGER_URL": "sqlite:///a.db"}, "RECEIPTS_FILE must differ from"),
        (budget_of("gone"), "BUDGETS entry 1 ('b'): model has no price in MODEL_PRICES, and is not"),
        (budget_of("gone", "inference"), "BUDGETS entry 1 ('b'): model has no price in MODEL_PRICES"),
        (budget_of("gone", "embedding"), "BUDGETS entry 1 ('b'): model is not EMBEDDING_MODEL"),
        (budget_of(EMBEDDING_MODEL, "inference"), "BUDGETS entry 1 ('b'): model has no price in"),
        (budget_of(DEFAULT_MODEL, "embedding"), "BUDGETS entry 1 ('b'): model is not EMBEDDING_MODEL"),
    ]

    def check(row: tuple[dict[str, str], str]) -> None:
        environ, expected = row
        (problem,) = problems_of(**environ)
        assert problem.startswith(expected)

    check_rows(rows, check)


def test_settings_just_short_of_a_contradiction_are_valid() -> None:
    rows = [
        {"WORKERS": "1"},
        {"MODEL_PRICES": '{"other": 1}', "DEFAULT_MODEL": "other"},
        {"MIN_COMPLETION_TOKENS": "16", "MAX_TOKENS": "16"},
        {"ADMIN_API_KEY": ""},
        {"RECEIPT_CALLS": "1", "RECEIPT_DAYS": "1"},
        {"RECEIPTS_FILE": "a", "LEDGER_OUTBOX": "b", "LEDGER_URL": "sqlite:///c"},
        {**budget_of(DEFAULT_MODEL), "EMBEDDING_MODEL": "gone"},
        budget_of(DEFAULT_MODEL, "inference"),
        {**budget_of("real"), "MODEL_PRICES": json.dumps({DEFAULT_MODEL: ALIAS_OF_REAL})},
        budget_of(EMBEDDING_MODEL),
        budget_of(EMBEDDING_MODEL, "embedding"),
    ]

    check_rows(rows, lambda environ: settings_of(**environ))


def test_a_webhook_without_a_signature_is_a_warning() -> None:
    url = {"ALERT_WEBHOOK_URL": "https://hooks.test"}

    (warning,) = doubts(settings_of(**url))

    assert warning.startswith("ALERT_WEBHOOK_URL is set without ALERT_WEBHOOK_KEY")
    assert doubts(settings_of(**url, ALERT_WEBHOOK_KEY="k" * 32)) == []
    assert doubts(settings_of(**url, ALERT_FORMAT="slack")) == [], "Slack checks no signature"
    assert doubts(settings_of()) == []


def test_single_calls_in_the_memory_of_a_server_are_a_warning() -> None:
    (warning,) = doubts(settings_of(RECEIPT_CALLS="1"))

    assert warning.startswith("RECEIPT_CALLS is set with LEDGER_URL=memory://")
    assert doubts(settings_of(RECEIPT_CALLS="1", LEDGER_URL="sqlite:///ledger.db")) == []


def test_a_file_of_receipts_in_no_folder_is_a_warning(tmp_path: Path) -> None:
    (warning,) = doubts(settings_of(RECEIPTS_FILE=f"{tmp_path}/none/receipts"))

    assert warning == f"RECEIPTS_FILE cannot be written: there is no folder {tmp_path}/none"
    assert doubts(settings_of(RECEIPTS_FILE=f"{tmp_path}/receipts")) == []


def test_an_invalid_value_is_not_also_a_contradiction() -> None:
    assert len(problems_of(MODEL_PRICES="{", DEFAULT_MODEL="other")) == 1
    assert len(problems_of(MODEL_PRICES="{", **budget_of("gone"))) == 1
    assert len(problems_of(MAX_TOKENS="x", MIN_COMPLETION_TOKENS="1000000")) == 1


# --- secrets ------------------------------------------------------------------------------------------------


def test_no_key_is_in_the_text_of_the_settings() -> None:
    settings = load_settings(Settings, environ_of())

    assert (settings.chutes_api_key, settings.proxy_api_key) == (CHUTES_KEY, PROXY_KEY)
    assert settings.admin_api_key == ADMIN_KEY
    for key in (CHUTES_KEY, PROXY_KEY, ADMIN_KEY):
        assert key not in repr(settings) + str(settings)
        assert key not in repr(load_settings(ClientSettings, environ_of()))


def test_every_setting_that_may_have_a_secret_is_hidden() -> None:
    assert {name for name, field in NAMES.items() if not field.repr} == {
        *(name for name in NAMES if "_KEY" in name and "PUBLIC" not in name),
        "LEDGER_URL",  # it may have a password
        "ALERT_WEBHOOK_URL",  # a receiver may know its senders by a secret in the path
    }


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(Settings, environ_of())

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc] # the point of the test
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.model_prices = {}  # type: ignore[misc] # the same, of a base without slots
    with pytest.raises(TypeError):
        settings.model_prices["free"] = Price(0, 0)  # type: ignore[index] # the point of the test


# --- the environment and .env -------------------------------------------------------------------------------


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("clean_environment")
def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=1\nHOST=from-file\n")
    monkeypatch.setenv("PORT", "2")

    environ = read_environment(tmp_path)

    assert (environ["PORT"], environ["HOST"]) == ("2", "from-file")
    assert environ.items() >= os.environ.items()


def test_a_line_of_the_file_that_sets_nothing_is_a_problem(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_text(
        "# fine\nPORT=1\nMAX_COST_PER_RUN: 0.5\nWORKERS\nexport HOST=a\n\nPORT=2\n"
    )

    with pytest.raises(SettingsError) as raised:
        read_environment(tmp_path)

    assert raised.value.problems == [
        "line 3 of .env is not NAME=value",
        "line 4 of .env is not NAME=value",
        "line 7 of .env sets PORT again",
    ]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\n")

    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        read_environment(tmp_path)


@pytest.mark.usefixtures("clean_environment")
def test_the_file_is_optional_and_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_environment() == dict(os.environ)
    assert unknown_names() == []

    (tmp_path / ".env").write_text("PORT=1\nPROT=1\n")
    assert read_environment()["PORT"] == "1"
    assert len(unknown_names()) == 1


@pytest.mark.usefixtures("clean_environment")
def test_reading_the_file_changes_no_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\n")
    before = dict(os.environ)

    read_environment(tmp_path)

    assert dict(os.environ) == before


@pytest.mark.usefixtures("clean_environment")
def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# keys\nCHUTES_API_KEY='a'\nexport PROXY_API_KEY=\"b\"\n"
        'MODEL_PRICES={"m": {"input": 0.1, "output": 0.2}}\nDEFAULT_MODEL=m # a comment\nMAX_COST_PER_RUN=\n'
    )

    settings = load_settings(Settings, read_environment(tmp_path))

    assert (settings.chutes_api_key, settings.proxy_api_key, settings.default_model) == ("a", "b", "m")
    assert settings.model_prices == {"m": Price(100_000_000, 200_000_000)}
    assert settings.max_cost_nanousd == 2_000_000_000


def test_a_misspelt_name_in_the_file_is_a_warning_with_the_likely_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\nMAX_COST_PER_RUNS=1\nZZZ=1\nadmin_api_key=1\n")

    assert unknown_names(tmp_path) == [
        "MAX_COST_PER_RUNS in .env is not a setting of this service; did you mean MAX_COST_PER_RUN?",
        "ZZZ in .env is not a setting of this service",
        "admin_api_key in .env is not a setting of this service",
    ]


def test_every_name_of_a_setting_is_known(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("".join(f"{name}=1\n" for name in NAMES))

    assert unknown_names(tmp_path) == []


def test_the_settings_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "env"
    (tmp_path / ".env").write_text("PORT=1\n")
    path.write_text("PORT=2\nPROT=3\n")
    monkeypatch.setenv("SETTINGS_FILE", str(path))
    monkeypatch.delenv("PORT", raising=False)
    assert read_environment(tmp_path)["PORT"] == "2"
    assert unknown_names() == [f"PROT in {path} is not a setting of this service; did you mean PORT?"]

    path.write_text("PORT 2\n")
    with pytest.raises(SettingsError) as raised:
        read_environment()
    assert raised.value.problems == [f"line 1 of {path} is not NAME=value"]

    path.unlink()
    with pytest.raises(SettingsError) as raised:
        read_environment()
    assert raised.value.problems == [f"{path} cannot be read: No such file or directory"]


def problems_of_file(
    write: Callable[[Path], object], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The problems of a settings file, with `FILE` for its path."""
    path = folder / "env"
    path.unlink(missing_ok=True)
    write(path)
    monkeypatch.setenv("SETTINGS_FILE", str(path))
    with pytest.raises(SettingsError) as raised:
        read_environment()
    return [problem.replace(str(path), "FILE") for problem in raised.value.problems]


def test_a_settings_file_of_another_kind_is_a_problem_and_nothing_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(row: tuple[Callable[[Path], object], str]) -> None:
        write, problem = row
        assert problems_of_file(write, tmp_path, monkeypatch) == [problem]

    check_rows(
        [
            (os.mkfifo, "FILE cannot be read: It is not a regular file"),
            (lambda path: path.symlink_to("/dev/zero"), "FILE cannot be read: It is not a regular file"),
            (lambda path: path.symlink_to(tmp_path), "FILE cannot be read: Is a directory"),
            (
                lambda path: path.write_text("#" * MAX_SETTINGS_BYTES + "\n"),
                f"FILE cannot be read: It has more than {MAX_SETTINGS_BYTES:,} bytes",
            ),
        ],
        check,
    )


def test_of_a_file_that_has_no_settings_only_the_first_problems_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = problems_of_file(lambda path: path.write_text("word\n" * 100), tmp_path, monkeypatch)
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == f"FILE has more problems from line {MAX_PROBLEMS + 1} on"


def test_a_byte_order_mark_is_no_part_of_the_first_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "env"
    path.write_bytes(b"\xef\xbb\xbfMAX_COST_PER_RUN=0.5\r\nPORT=9\r\n")
    monkeypatch.setenv("SETTINGS_FILE", str(path))
    for name in ("MAX_COST_PER_RUN", "PORT"):
        monkeypatch.delenv(name, raising=False)
    environ = read_environment()
    assert (environ["MAX_COST_PER_RUN"], environ["PORT"]) == ("0.5", "9")


# --- .env.example -------------------------------------------------------------------------------------------


LEDGER_OF_THE_EXAMPLE = {"LEDGER_URL": "sqlite:///ridges-proxy.db"}


def test_the_example_file_has_every_setting_with_its_default_and_no_other_name() -> None:
    """Only LEDGER_URL has another value, because a restart must not give a run its budget again."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    settings_lines = [line.removeprefix("# ") for line in lines if re.match(r"(# )?[A-Z][A-Z0-9_]*=", line)]
    shown = dotenv_values(stream=io.StringIO("\n".join(settings_lines)), interpolate=False)
    defaults = {name: field.metadata["default"] for name, field in NAMES.items()}

    expected = {name: "" if default is REQUIRED else default for name, default in defaults.items()}
    assert shown == expected | LEDGER_OF_THE_EXAMPLE
    assert len(settings_lines) == len(shown), "each once"


def test_the_example_file_leaves_only_the_required_names_to_fill_in() -> None:
    to_fill_in = dotenv_values(ROOT / ".env.example", interpolate=False)

    required = {name: "" for name, field in NAMES.items() if field.metadata["default"] is REQUIRED}
    assert to_fill_in == required | LEDGER_OF_THE_EXAMPLE


def test_a_rate_limit_is_a_number_of_calls_in_a_number_of_seconds() -> None:
    rows = [
        ("100/minute", 100, 60),
        ("10 per second", 10, 1),
        ("500/hour", 500, 3600),
        ("3 per 5 minutes", 3, 300),
        ("1/day", 1, 86_400),
    ]

    def check(row: tuple[str, int, int]) -> None:
        raw, calls, seconds = row
        limit = settings_of(RATE_LIMIT_PER_RUN=raw).rate_limit_per_run
        assert limit is not None
        assert limit == (calls, seconds)

    check_rows(rows, check)


def test_a_rate_limit_can_be_off() -> None:
    settings = settings_of(RATE_LIMIT_PER_RUN="off", RATE_LIMIT_PER_IP="OFF")
    assert settings.rate_limit_per_run is settings.rate_limit_per_ip is None


# --- previous keys ------------------------------------------------------------------------------------------

PREVIOUS = "a-key-of-32-characters-or-more-before"


def test_a_previous_key_without_a_current_key_is_a_problem() -> None:
    for name in ("ADMIN_API_KEY", "RUN_TOKEN_KEY"):
        problems = problems_of(**{name: "", f"{name}_PREVIOUS": PREVIOUS})
        assert problems == [f"{name}_PREVIOUS is set without {name}"]


def test_a_previous_key_must_differ_from_the_other_keys() -> None:
    (problem,) = problems_of(ADMIN_API_KEY="new", ADMIN_API_KEY_PREVIOUS=PROXY_KEY)
    assert problem.startswith(KEYS_DIFFER)


# --- credentials of systemd ---------------------------------------------------------------------------------


def test_a_credential_of_systemd_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "CHUTES_API_KEY").write_text("credential\n")
    (credentials / "SOMETHING_ELSE").write_text("x")
    (tmp_path / ".env").write_text("CHUTES_API_KEY=from-file\nPROXY_API_KEY=from-file\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("CHUTES_API_KEY", "from-environment")
    monkeypatch.delenv("PROXY_API_KEY", raising=False)
    environ = read_environment(tmp_path)
    settings = load_settings(Settings, environ)
    assert (settings.chutes_api_key, settings.proxy_api_key) == ("credential", "from-file")
    assert "SOMETHING_ELSE" not in environ


def test_a_credential_of_systemd_must_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "PROXY_API_KEY"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    cannot_be_read = "CREDENTIALS_DIRECTORY has a file that cannot be read: .*PROXY_API_KEY"

    def check(write: Callable[[], object]) -> None:
        path.unlink(missing_ok=True)
        write()
        with pytest.raises(SettingsError, match=cannot_be_read):
            read_environment(tmp_path)

    check_rows(
        [lambda: os.mkfifo(path), lambda: path.write_bytes(b"\xff"), lambda: path.symlink_to(tmp_path)], check
    )


def test_the_folder_of_credentials_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="CREDENTIALS_DIRECTORY names a folder that does not exist"):
        read_environment(tmp_path)


def test_a_misspelt_credential_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROXY_API_KEY", "PROXY_API_KEYS", "PROXY_API_KEY.new", "..data", "README"):
        (tmp_path / name).write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    similar = "; did you mean PROXY_API_KEY?"
    assert unknown_names(tmp_path) == [
        f"PROXY_API_KEYS in CREDENTIALS_DIRECTORY is not a setting of this service{similar}",
        "README in CREDENTIALS_DIRECTORY is not a setting of this service",
    ]
