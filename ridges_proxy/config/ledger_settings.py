"""The settings of the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from ridges_proxy.config import ledger_url, parsers
from ridges_proxy.config.field import setting


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """Settings that are needed to open the ledger."""

    run_ttl_seconds: float = setting(
        "RUN_TTL_SECONDS",
        parsers.seconds(1, 31_536_000),
        "1200",
        "Seconds after its last activity at which a run is forgotten. A run with a call in flight is"
        " never forgotten. A run that has used up its budget stays refused for RECEIPT_DAYS.",
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
        "Where the ledger is stored. memory:// is the memory of one process: it allows one worker, and a"
        " restart forgets all runs. sqlite:///PATH is a file that all workers of one machine share and"
        " that survives restarts; an absolute path has four slashes"
        " (sqlite:////var/lib/ridges-proxy/ledger.db). Several machines can share a Redis or Valkey:"
        " redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], redis+sentinel://HOST[:PORT][,HOST…]/SERVICE,"
        " redis+cluster://HOST[:PORT][,HOST…]. With TLS, redis becomes rediss.",
        secret=True,
    )
    ledger_timeout_seconds: float = setting(
        "LEDGER_TIMEOUT_SECONDS",
        parsers.seconds(0.05, 60),
        "2",
        "Time limit for connecting to a Redis, and for its answers to what was sent at once, in seconds.",
    )
    ledger_wait_replicas: int = setting(
        "LEDGER_WAIT_REPLICAS",
        parsers.integer(0, 10),
        "0",
        "Number of Redis replicas that must have received a hold before its call is made (the command"
        " WAIT). With 1, a failover to a replica cannot cause overspending.",
    )
    ledger_outbox: str | None = setting(
        "LEDGER_OUTBOX",
        parsers.optional(parsers.file_path),
        "",
        "Path of a file that keeps settlements while the ledger is unavailable. If it is empty, they are"
        " kept in memory: a restart loses them, and their calls are charged at their holds.",
    )
    receipt_days: int = setting(
        "RECEIPT_DAYS",
        parsers.integer(0, 36_500),
        "30",
        "Days for which the receipts of forgotten runs are kept, and for which a run stays refused that was"
        " closed or has used up its budget. 0: neither is kept, and such a run has its budget again after"
        " RUN_TTL_SECONDS. memory:// keeps no receipts, but remembers such runs until a restart (the last"
        " 100,000).",
    )
    receipt_calls: bool = setting(
        "RECEIPT_CALLS",
        parsers.flag,
        "0",
        "1: the ledger also keeps each call for RECEIPT_DAYS, with the upstream's ids, so that the books can"
        " be compared with the upstream's bill (`ridges-proxy ledger reconcile`). memory:// keeps the last"
        " 100,000, which no command can read.",
    )
