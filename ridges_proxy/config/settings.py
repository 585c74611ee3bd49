"""Every setting of the service: its name, its parser, its default and its description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.config import ledger_url, parsers
from ridges_proxy.config.field import REQUIRED, setting
from ridges_proxy.config.model_prices import read_prices

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

    from limits import RateLimitItem

    from ridges_proxy.billing.prices import Price

DEFAULT_MODEL = "deepseek-ai/DeepSeek-V3-0324"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientSettings:
    """What the command line needs to reach a running server."""

    proxy_url: str = setting(
        "PROXY_URL", parsers.url, "http://127.0.0.1:8000", "Where the command line finds the running server."
    )
    admin_api_key: str | None = setting(
        "ADMIN_API_KEY",
        parsers.optional(parsers.secret),
        "",
        "Key of the operators' routes (/admin) and of the command line. Empty: these routes do not exist.",
        secret=True,
    )


@dataclass(frozen=True, kw_only=True)  # no slots: only one of the bases of Settings can have them
class PriceSettings:
    """What the command line needs to compare prices with the upstream's."""

    model_prices: Mapping[str, Price] = setting(
        "MODEL_PRICES",
        read_prices,
        f'{{"{DEFAULT_MODEL}": 0.27}}',
        "USD per million tokens by model, as JSON or as the path of a JSON or TOML file. A price is one"
        ' number, or {"input": 0.27, "output": 1.1}; that form may also have "cached_input": 0.07 (for what'
        ' the upstream had cached of a prompt; at most input) and "upstream": "NAME" (what the upstream'
        " calls the model, where its name here is an alias). Models without a price are refused.",
    )
    default_model: str = setting(
        "DEFAULT_MODEL", parsers.text, DEFAULT_MODEL, "The model of calls that name none. It needs a price."
    )
    chutes_base_url: str = setting(
        "CHUTES_BASE_URL", parsers.url, "https://llm.chutes.ai/v1", "Where chat completions are asked for."
    )
    connect_timeout_seconds: float = setting(
        "CONNECT_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 60),
        "5",
        "Seconds for one try to connect to the upstream.",
    )


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """What is needed to open the books."""

    run_ttl_seconds: float = setting(
        "RUN_TTL_SECONDS",
        parsers.seconds(1, 31_536_000),
        "1200",
        "Seconds after its last activity that a run is forgotten; never with a call in flight.",
    )
    sweep_interval_seconds: float = setting(
        "SWEEP_INTERVAL_SECONDS",
        parsers.seconds(0.05, 86_400),
        "300",
        "Seconds between two sweeps of the ledger.",
    )
    ledger_url: str = setting(
        "LEDGER_URL",
        ledger_url.check,
        "memory://",
        "Where the books are kept. memory:// is one process's memory: one worker, and a restart forgets."
        " sqlite:///PATH is a file that all workers of one machine share and that survives; an absolute"
        " path makes it four slashes (sqlite:////var/lib/ridges-proxy/ledger.db). Several machines share a"
        " Redis or Valkey: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE],"
        " redis+sentinel://HOST[:PORT][,HOST…]/SERVICE, redis+cluster://HOST[:PORT][,HOST…]; each with TLS as"
        " rediss….",
        secret=True,
    )
    ledger_timeout_seconds: float = setting(
        "LEDGER_TIMEOUT_SECONDS",
        parsers.seconds(0.05, 60),
        "2",
        "Seconds for a Redis to be connected to, and to answer.",
    )
    ledger_wait_replicas: int = setting(
        "LEDGER_WAIT_REPLICAS",
        parsers.integer(0, 10),
        "0",
        "Replicas of a Redis that must have a hold before its call is made (WAIT): at 1, nothing can be"
        " overspent when a replica takes over.",
    )
    ledger_outbox: str | None = setting(
        "LEDGER_OUTBOX",
        parsers.optional(parsers.file_path),
        "",
        "Path of a file for settlements that the ledger cannot take right now. Empty: they are kept in"
        " memory, and what a restart loses of them is charged at its hold.",
    )
    receipt_days: int = setting(
        "RECEIPT_DAYS",
        parsers.integer(0, 36_500),
        "30",
        "Days that the receipts of forgotten runs are kept; 0: none. memory:// keeps none.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings(ClientSettings, PriceSettings, LedgerSettings):
    """What the server needs, checked as a whole."""

    chutes_api_key: str = setting(
        "CHUTES_API_KEY", parsers.secret, REQUIRED, "The key that pays. It goes to Chutes only.", secret=True
    )
    proxy_api_key: str = setting(
        "PROXY_API_KEY", parsers.secret, REQUIRED, "The key that callers send as a bearer token.", secret=True
    )
    proxy_api_key_previous: str | None = setting(
        "PROXY_API_KEY_PREVIOUS",
        parsers.optional(parsers.secret),
        "",
        "Taken as well as PROXY_API_KEY, until all callers have the new one.",
        secret=True,
    )
    admin_api_key_previous: str | None = setting(
        "ADMIN_API_KEY_PREVIOUS",
        parsers.optional(parsers.secret),
        "",
        "Taken as well as ADMIN_API_KEY, until all operators and monitors have the new one.",
        secret=True,
    )
    run_token_key: str | None = setting(
        "RUN_TOKEN_KEY",
        parsers.optional(parsers.token_key),
        "",
        "Secret of run tokens signed with HS256: mints and verifies them. At least 32 characters.",
        secret=True,
    )
    run_token_public_key: str | None = setting(
        "RUN_TOKEN_PUBLIC_KEY",
        parsers.optional(parsers.ed25519_public_key),
        "",
        "Public key of run tokens signed with EdDSA (Ed25519): PEM, or the path of its file. Only verifies.",
    )
    run_token_key_previous: str | None = setting(
        "RUN_TOKEN_KEY_PREVIOUS",
        parsers.optional(parsers.token_key),
        "",
        "Verifies tokens as well as RUN_TOKEN_KEY, until those that it signed have ended.",
        secret=True,
    )
    run_token_public_key_previous: str | None = setting(
        "RUN_TOKEN_PUBLIC_KEY_PREVIOUS",
        parsers.optional(parsers.ed25519_public_key),
        "",
        "Verifies tokens as well as RUN_TOKEN_PUBLIC_KEY, until those of the key before have ended.",
    )
    require_run_tokens: bool = setting(
        "REQUIRE_RUN_TOKENS",
        parsers.flag,
        "0",
        "1: only run tokens may spend; PROXY_API_KEY may not.",
    )
    allowed_ips: tuple[IPv4Network | IPv6Network, ...] = setting(
        "ALLOWED_IPS",
        parsers.networks,
        "",
        "Addresses and networks (IPv4, IPv6, CIDR; comma-separated) that may call. Empty: all.",
    )
    trusted_proxy_count: int = setting(
        "TRUSTED_PROXY_COUNT",
        parsers.integer(0, 10),
        "0",
        "How many reverse proxies of yours stand in front, each adding to X-Forwarded-For.",
    )
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS", parsers.origins, "*", "Origins that a browser may call from (comma-separated), or *."
    )
    max_cost_nanousd: int = setting(
        "MAX_COST_PER_RUN", parsers.usd, "2.0", "The cap of a run in USD, inference and embedding together."
    )
    embedding_nanousd_per_second: int = setting(
        "EMBEDDING_PRICE_PER_SECOND", parsers.usd, "0.0001", "USD per second of an embedding call."
    )
    embedding_model: str = setting(
        "EMBEDDING_MODEL", parsers.text, "BAAI/bge-large-en-v1.5", "The name of the embedding model on /v1."
    )
    max_tokens: int = setting(
        "MAX_TOKENS",
        parsers.integer(1, 1_000_000),
        "1024",
        "The most tokens of an answer on /agents/inference.",
    )
    openai_max_tokens: int = setting(
        "OPENAI_MAX_TOKENS",
        parsers.integer(1, 1_000_000),
        "8192",
        "The most tokens of an answer on /v1/chat/completions when the call names no limit.",
    )
    min_completion_tokens: int = setting(
        "MIN_COMPLETION_TOKENS",
        parsers.integer(1, 1_000_000),
        "16",
        "A call is refused when the budget cannot pay for an answer of this many tokens.",
    )
    chutes_embedding_url: str = setting(
        "CHUTES_EMBEDDING_URL",
        parsers.url,
        "https://chutes-baai-bge-large-en-v1-5.chutes.ai/embed",
        "Where embeddings are asked for.",
    )
    idle_timeout_seconds: float = setting(
        "IDLE_TIMEOUT_SECONDS", parsers.seconds(0.1, 3600), "60", "Seconds that the upstream may be silent."
    )
    deadline_seconds: float = setting(
        "DEADLINE_SECONDS", parsers.seconds(0.1, 86_400), "300", "Seconds for an inference call in all."
    )
    embedding_deadline_seconds: float = setting(
        "EMBEDDING_DEADLINE_SECONDS",
        parsers.seconds(0.1, 3600),
        "30",
        "Seconds for an embedding call in all.",
    )
    heartbeat_seconds: float = setting(
        "HEARTBEAT_SECONDS",
        parsers.seconds(0.05, 3600),
        "15",
        "Seconds of silence after which a stream on /v1 gets a comment, so that nobody in between hangs up.",
    )
    max_body_bytes: int = setting(
        "MAX_BODY_BYTES", parsers.integer(1024, 1 << 30), str(4 << 20), "The largest request body, in bytes."
    )
    body_timeout_seconds: float = setting(
        "BODY_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 3600),
        "30",
        "Seconds for a request body to arrive whole.",
    )
    write_timeout_seconds: float = setting(
        "WRITE_TIMEOUT_SECONDS", parsers.seconds(0.1, 3600), "30", "Seconds for a client to take its answer."
    )
    settle_timeout_seconds: float = setting(
        "SETTLE_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 3600),
        "30",
        "Seconds for a call to settle after its deadline and twice WRITE_TIMEOUT_SECONDS. Then a sweep takes"
        " its hold for that of a dead worker, and charges it.",
    )
    circuit_failures: int = setting(
        "CIRCUIT_FAILURES",
        parsers.integer(0, 10_000),
        "10",
        "Times in a row that a model's upstream was not reached, after which its calls are refused at once"
        " (503). Failures that a request may have brought about: three times as many, a third of them of one"
        " run at most. 0: never. Counted by each worker.",
    )
    circuit_open_seconds: float = setting(
        "CIRCUIT_OPEN_SECONDS",
        parsers.seconds(0.1, 3600),
        "10",
        "Seconds for which they are refused; then one call after another tries whether the upstream answers.",
    )
    max_concurrent_calls: int = setting(
        "MAX_CONCURRENT_CALLS", parsers.integer(1, 100_000), "1000", "Calls in flight; above it: 503."
    )
    max_concurrent_calls_per_run: int = setting(
        "MAX_CONCURRENT_CALLS_PER_RUN",
        parsers.integer(1, 100_000),
        "32",
        "Calls in flight of one run; above it: 429.",
    )
    rate_limit_per_run: RateLimitItem | None = setting(
        "RATE_LIMIT_PER_RUN",
        parsers.rate_limit,
        "6000/minute",
        "Calls of one run, in a moving window (10/second, 100/minute, 500/hour); above it: 429. off: any."
        " Counted by each worker, or in the Redis of LEDGER_URL by all.",
    )
    rate_limit_per_ip: RateLimitItem | None = setting(
        "RATE_LIMIT_PER_IP",
        parsers.rate_limit,
        "60000/minute",
        "Requests from one address (IPv6: from one /64 network), as RATE_LIMIT_PER_RUN. A validator's"
        " sandboxes share one.",
    )
    host: str = setting("HOST", parsers.text, "0.0.0.0", "The address that the server listens on.")  # nosec B104 # the usual default
    port: int = setting("PORT", parsers.integer(0, 65_535), "8000", "The port that the server listens on.")
    workers: int = setting(
        "WORKERS", parsers.integer(1, 256), "1", "Server processes. memory:// allows only 1."
    )
    graceful_timeout_seconds: int = setting(
        "GRACEFUL_TIMEOUT_SECONDS",
        parsers.integer(6, 86_400),
        "30",
        "Seconds for calls in flight to end after SIGTERM or SIGHUP; in the last 3 the rest are cut off.",
    )
    log_level: str = setting(
        "LOG_LEVEL",
        parsers.choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "DEBUG, INFO, WARNING or ERROR.",
    )
    log_format: str = setting("LOG_FORMAT", parsers.choice("json", "text"), "json", "json or text.")
    traces_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        parsers.optional(parsers.otlp_url),
        "",
        "Where an OpenTelemetry collector takes OTLP over HTTP, such as http://127.0.0.1:4318: a span for"
        " every call. Empty: none. Needs pip install 'ridges-proxy[traces]'.",
    )
