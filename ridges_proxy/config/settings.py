"""Every setting of the service: its name, its parser, its default and its description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.config import parsers
from ridges_proxy.config.alert_settings import AlertSettings
from ridges_proxy.config.budget_settings import BudgetSettings
from ridges_proxy.config.client_settings import ClientSettings
from ridges_proxy.config.field import REQUIRED, setting
from ridges_proxy.config.ledger_settings import LedgerSettings
from ridges_proxy.config.rate_limit import RateLimit, rate_limit

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings(ClientSettings, AlertSettings, BudgetSettings, LedgerSettings):
    """All settings of the server, checked together."""

    chutes_api_key: str = setting(
        "CHUTES_API_KEY",
        parsers.secret,
        REQUIRED,
        "Key for the Chutes API, to which calls are billed. It is sent to Chutes only.",
        secret=True,
    )
    proxy_api_key: str = setting(
        "PROXY_API_KEY", parsers.secret, REQUIRED, "Key that callers send as a bearer token.", secret=True
    )
    proxy_api_key_previous: str | None = setting(
        "PROXY_API_KEY_PREVIOUS",
        parsers.optional(parsers.secret),
        "",
        "Previous PROXY_API_KEY. It is accepted as well, until all callers have the new one.",
        secret=True,
    )
    admin_api_key_previous: str | None = setting(
        "ADMIN_API_KEY_PREVIOUS",
        parsers.optional(parsers.secret),
        "",
        "Previous ADMIN_API_KEY. It is accepted as well, until all operators and monitors have the new one.",
        secret=True,
    )
    run_token_key: str | None = setting(
        "RUN_TOKEN_KEY",
        parsers.optional(parsers.token_key),
        "",
        "Secret that signs and verifies run tokens with HS256. At least 32 characters.",
        secret=True,
    )
    run_token_public_key: str | None = setting(
        "RUN_TOKEN_PUBLIC_KEY",
        parsers.optional(parsers.ed25519_public_key),
        "",
        "Public key that verifies run tokens signed with EdDSA (Ed25519): PEM, or the path of a PEM file.",
    )
    run_token_key_previous: str | None = setting(
        "RUN_TOKEN_KEY_PREVIOUS",
        parsers.optional(parsers.token_key),
        "",
        "Previous RUN_TOKEN_KEY. It verifies tokens as well, until the last token that it signed has"
        " expired.",
        secret=True,
    )
    run_token_public_key_previous: str | None = setting(
        "RUN_TOKEN_PUBLIC_KEY_PREVIOUS",
        parsers.optional(parsers.ed25519_public_key),
        "",
        "Previous RUN_TOKEN_PUBLIC_KEY. It verifies tokens as well, until the last token of its private"
        " key has expired.",
    )
    require_run_tokens: bool = setting(
        "REQUIRE_RUN_TOKENS", parsers.flag, "0", "1: only run tokens may spend. PROXY_API_KEY may not."
    )
    allowed_ips: tuple[IPv4Network | IPv6Network, ...] = setting(
        "ALLOWED_IPS",
        parsers.networks,
        "",
        "Addresses and networks that may call (IPv4, IPv6, CIDR), separated by commas. If it is empty,"
        " all may call.",
    )
    trusted_proxy_count: int = setting(
        "TRUSTED_PROXY_COUNT",
        parsers.integer(0, 10),
        "0",
        "Number of your own reverse proxies in front of the server. Each of them must add to"
        " X-Forwarded-For.",
    )
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS",
        parsers.origins,
        "*",
        "Origins from which a browser may call, separated by commas, or * for all. With *, browsers send no"
        " cookies and no stored passwords.",
    )
    max_cost_nanousd: int = setting(
        "MAX_COST_PER_RUN",
        parsers.usd,
        "2.0",
        "Budget of a run in USD (its cap), for inference and embedding together.",
    )
    embedding_nanousd_per_second: int = setting(
        "EMBEDDING_PRICE_PER_SECOND", parsers.usd, "0.0001", "Price of an embedding call in USD per second."
    )
    embedding_batch: int = setting(
        "EMBEDDING_BATCH", parsers.integer(1, 2048), "32", "Most texts in one embedding request upstream."
    )
    max_tokens: int = setting(
        "MAX_TOKENS",
        parsers.integer(1, 1_000_000),
        "1024",
        "Maximum number of completion tokens on /agents/inference, and on /api/inference with run_id.",
    )
    openai_max_tokens: int = setting(
        "OPENAI_MAX_TOKENS",
        parsers.integer(1, 1_000_000),
        "8192",
        "The same on /v1 if a call sets no limit, and on /api/inference with evaluation_run_id.",
    )
    min_completion_tokens: int = setting(
        "MIN_COMPLETION_TOKENS",
        parsers.integer(1, 1_000_000),
        "16",
        "A call is refused if the remaining budget cannot pay for a completion of this many tokens.",
    )
    learned_counts_bytes: int = setting(
        "LEARNED_COUNTS_BYTES",
        parsers.integer(0, 1 << 34),
        "8388608",
        "Memory for learned counts of prompt tokens, in bytes, shared by all workers. One step of a"
        " conversation takes about 250 bytes. With learned counts, holds are smaller, so that a run can use"
        " its whole budget. 0: bounds follow from the size of the text only.",
    )
    chutes_embedding_url: str = setting(
        "CHUTES_EMBEDDING_URL",
        parsers.url,
        "https://chutes-baai-bge-large-en-v1-5.chutes.ai/embed",
        "URL of the upstream for embeddings.",
    )
    idle_timeout_seconds: float = setting(
        "IDLE_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 3600),
        "60",
        "Time limit for silence of the upstream in a streamed inference, in seconds. Any byte ends the"
        " silence, such as a comment that keeps the connection open.",
    )
    whole_idle_timeout_seconds: float = setting(
        "WHOLE_IDLE_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 86_400),
        "3600",
        "The same for an inference that is answered in one piece: the upstream is silent until the answer is"
        " complete, so usually DEADLINE_SECONDS ends it earlier.",
    )
    embedding_idle_timeout_seconds: float = setting(
        "EMBEDDING_IDLE_TIMEOUT_SECONDS", parsers.seconds(0.1, 3600), "60", "The same for an embedding."
    )
    deadline_seconds: float = setting(
        "DEADLINE_SECONDS",
        parsers.seconds(0.1, 86_400),
        "300",
        "Time limit for a whole inference call, in seconds. A wait for its hold does not count.",
    )
    embedding_deadline_seconds: float = setting(
        "EMBEDDING_DEADLINE_SECONDS",
        parsers.seconds(0.1, 3600),
        "30",
        "Time limit for a whole embedding call, in seconds.",
    )
    hold_wait_seconds: float = setting(
        "HOLD_WAIT_SECONDS",
        parsers.seconds(0, 3600),
        "60",
        "Seconds for which a call waits if other calls in flight hold what it needs of its run's budget, or"
        " of a budget in BUDGETS. Calls of a run wait in the order in which they came. After that: 429. 0: it"
        " is refused at once.",
    )
    heartbeat_seconds: float = setting(
        "HEARTBEAT_SECONDS",
        parsers.seconds(0.05, 3600),
        "15",
        "Seconds of silence after which a stream on /v1 gets a comment, so that no proxy on the way"
        " closes it as idle.",
    )
    receipts_file: str | None = setting(
        "RECEIPTS_FILE",
        parsers.optional(parsers.file_path),
        "",
        "Path of a file that gets one line of JSON, the receipt, for each run that is forgotten. If it is"
        " empty, there is no such file.",
    )
    max_body_bytes: int = setting(
        "MAX_BODY_BYTES", parsers.integer(1024, 1 << 30), str(4 << 20), "Maximum bytes of a request body."
    )
    body_timeout_seconds: float = setting(
        "BODY_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 3600),
        "30",
        "Time limit for receiving a whole request body, in seconds.",
    )
    write_timeout_seconds: float = setting(
        "WRITE_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 3600),
        "30",
        "Time limit for a client that does not read its answer, in seconds.",
    )
    settle_timeout_seconds: float = setting(
        "SETTLE_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 3600),
        "30",
        "Seconds for a call to settle, after its deadline and twice WRITE_TIMEOUT_SECONDS. Then its hold"
        " expires: the next sweep charges it, as it does after the death of a worker.",
    )
    circuit_failures: int = setting(
        "CIRCUIT_FAILURES",
        parsers.integer(0, 10_000),
        "10",
        "Number of consecutive failures to reach a model's upstream after which the circuit breaker refuses"
        " the model's calls at once (503). For failures that a request may have caused itself, the number is"
        " three times as high, and one run counts for at most a third of it. 0: the circuit breaker never"
        " opens. Each worker counts its own failures.",
    )
    circuit_open_seconds: float = setting(
        "CIRCUIT_OPEN_SECONDS",
        parsers.seconds(0.1, 3600),
        "10",
        "Seconds for which an open circuit breaker refuses calls. Then it lets one call after another"
        " test whether the upstream answers: the next one when the last has ended, is being answered, or has"
        " been silent for 2 seconds.",
    )
    max_concurrent_calls: int = setting(
        "MAX_CONCURRENT_CALLS",
        parsers.integer(1, 100_000),
        "1000",
        "Maximum number of calls in flight in each worker, with those that wait for a hold. Above it: 503.",
    )
    max_concurrent_calls_per_run: int = setting(
        "MAX_CONCURRENT_CALLS_PER_RUN",
        parsers.integer(1, 100_000),
        "32",
        "Maximum number of calls in flight of one run, without those that wait for a hold. Above it: 429.",
    )
    rate_limit_per_run: RateLimit | None = setting(
        "RATE_LIMIT_PER_RUN",
        rate_limit,
        "6000/minute",
        "Maximum rate of calls of one run, in a sliding window (10/second, 100/minute, 500/hour). Above"
        " it: 429. off: no limit. Each worker counts its own calls; if LEDGER_URL is a Redis, all workers"
        " count together.",
    )
    rate_limit_per_ip: RateLimit | None = setting(
        "RATE_LIMIT_PER_IP",
        rate_limit,
        "60000/minute",
        "Maximum rate of requests from one address (IPv6: from one /64 network), in the form of"
        " RATE_LIMIT_PER_RUN. All sandboxes of a validator share one address.",
    )
    host: str = setting("HOST", parsers.text, "0.0.0.0", "Address on which the server listens.")  # nosec B104 # the usual default
    port: int = setting("PORT", parsers.integer(0, 65_535), "8000", "Port on which the server listens.")
    workers: int = setting(
        "WORKERS", parsers.integer(1, 256), "1", "Number of server processes. memory:// allows only 1."
    )
    graceful_timeout_seconds: int = setting(
        "GRACEFUL_TIMEOUT_SECONDS",
        parsers.integer(6, 86_400),
        "30",
        "Seconds for calls in flight to end after SIGTERM or SIGHUP. In the last 3 of them, the"
        " remaining calls are cut off.",
    )
    log_level: str = setting(
        "LOG_LEVEL",
        parsers.choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "Lowest level that is logged: DEBUG, INFO, WARNING or ERROR.",
    )
    log_format: str = setting(
        "LOG_FORMAT", parsers.choice("json", "text"), "json", "Format of the log lines: json or text."
    )
    traces_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        parsers.optional(parsers.otlp_url),
        "",
        "URL of an OpenTelemetry collector that receives OTLP over HTTP, such as http://127.0.0.1:4318."
        " Every call becomes a span. If it is empty, no traces are sent. Needs pip install"
        " 'ridges-proxy[traces]'.",
    )
