"""The proxy that is installed in the machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sqlite3
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import NANOUSD_PER_USD
from tests.boot.load import PROXY_PORT, Load
from tests.process.server import wait_until
from tests.process.wire import PATIENCE_SECONDS, Answer

if TYPE_CHECKING:
    from tests.boot.machine import Machine

UNIT = "ridges-proxy.service"
HOST = "proxy.example.net"
CHECKOUT = "/root/ridges-proxy"
SOON_SECONDS = 15.0
"""The limit of what takes a second or two when it works."""

BUDGET_ANSWERS = 20
ENDED_WITHIN_CALLS = 50

CERTIFICATE = f"etc/letsencrypt/live/{HOST}/fullchain.pem"


class Service:
    """Its calls, processes, settings and keys."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.settings = machine.root / "etc/ridges-proxy/env"
        self.runs: set[str] = set()
        """Every run that has made a call."""

    # --- calls

    def load(self) -> Load:
        """Return clients that have not started yet. Their key stays the one of now."""
        return Load(self.key("PROXY_API_KEY"), self.machine.root / CERTIFICATE)

    def infer(self, run: str, content: str = "Hello", **fields: object) -> Answer:
        self.runs.add(run)
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return self.ask("POST", "/v1/chat/completions", body, run=run)

    def ask(
        self, method: str, path: str, body: object = None, *, run: str = "", admin: bool = False
    ) -> Answer:
        key = self.key("ADMIN_API_KEY" if admin else "PROXY_API_KEY")
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        headers |= {"X-Run-Id": run} if run else {}
        with closing(HTTPConnection("127.0.0.1", PROXY_PORT, timeout=PATIENCE_SECONDS)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def usage(self, run: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/agents/usage?run_id={run}")
        assert answer.status == 200, answer
        usage: dict[str, Any] = answer.json
        return usage

    def charged(self) -> dict[str, int]:
        """Return what each run has spent or holds, in nano-USD."""
        amounts = {run: self.usage(run) for run in sorted(self.runs)}
        return {
            run: round((usage["used_cost_usd"] + usage["held_cost_usd"]) * NANOUSD_PER_USD)
            for run, usage in amounts.items()
        }

    def ready(self) -> int:
        """Return the status of `/ready`, or 0 without an answer."""
        try:
            return self.ask("GET", "/ready").status
        except OSError:
            return 0

    def repair(self) -> None:
        """Make the service ready after a step that left it broken: by a restart, else by an installation."""
        kill = f"systemctl kill --signal=KILL {UNIT}; systemctl reset-failed 'ridges-proxy.*'"
        for start in (f"systemctl restart {UNIT}", f"{CHECKOUT}/deploy/install"):
            self.machine.run(f"{kill}; {start}", status=None)
            try:
                wait_until(lambda: self.ready() == HTTPStatus.OK, "readiness", SOON_SECONDS)
            except TimeoutError:
                continue
            return
        raise AssertionError("the service could not be made ready")

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.ready() == 200, "readiness")

    def wait_for_budget(self, run: str, usd: float) -> None:
        """Wait until every new run gets this budget. All workers must answer so, one after another."""
        asked = itertools.count()

        def has_it() -> bool:
            answers = [self.usage(f"{run}-{next(asked)}")["max_cost_usd"] for _ in range(BUDGET_ANSWERS)]
            return set(answers) == {usd}

        wait_until(has_it, f"{BUDGET_ANSWERS} answers with a budget of {usd} USD", SOON_SECONDS)

    def end_worker_by_memory(self, pid: int) -> None:
        """Send large calls until the kernel has ended a worker that may not take more memory."""
        content = "word " * 500_000
        for _ in range(ENDED_WITHIN_CALLS):
            if pid not in self.workers():
                return
            with contextlib.suppress(OSError, HTTPException):
                self.infer("large", content)
        raise AssertionError("the worker still runs")

    def wait_until_unready(self) -> None:
        # The answer of /ready may be a second old.
        wait_until(lambda: self.ready() == HTTPStatus.SERVICE_UNAVAILABLE, "a server that is not ready")

    def empty_log(self) -> None:
        """Make the log of SQLite empty. On a full disk, calls are served for as long as it has old places."""
        with closing(sqlite3.connect(self.machine.state / "ledger.db")) as ledger:
            wait_until(
                lambda: ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0),
                "an empty log of SQLite",
            )

    # --- processes

    @property
    def main_pid(self) -> int:
        """The PID of the main process in the machine."""
        return int(self.property("MainPID"))

    def property(self, name: str) -> str:
        return self.machine.run(f"systemctl show --property={name} --value {UNIT}").output.strip()

    def workers(self) -> list[int]:
        """Return the PIDs of the workers in the machine."""
        pid = self.main_pid
        return [int(number) for number in self._read(f"/proc/{pid}/task/{pid}/children").split()]

    def serving_releases(self) -> set[str]:
        """Return the names of the releases that the main process and its workers run."""
        commands = [f"/proc/{pid}/cmdline" for pid in (self.main_pid, *self.workers())]
        return set(re.findall(r"/releases/([^/]+)/", self._read(" ".join(commands))))

    def current_release(self) -> str:
        """Return the name of the release that `current` points to."""
        return Path(self.machine.run("readlink -f /opt/ridges-proxy/current").output.strip()).name

    def journal(self, lines: int = 60) -> str:
        """Return the last lines of both units, without those of requests."""
        command = f"journalctl --no-pager --output=cat -u {UNIT} -u ridges-proxy.socket"
        requests = """'"event":"request"'"""
        script = f"{command} | grep -v {requests} | tail -n {lines}"
        return self.machine.run(script, status=None, folder="/").output

    def _read(self, path: str) -> str:
        return self.machine.run(f"cat {path}").output

    # --- files

    def key(self, name: str) -> str:
        return (self.machine.root / "etc/ridges-proxy/keys" / name).read_text().strip()

    def change_setting(self, line: str) -> None:
        """Write `NAME=value` to the settings file, in place of the name's line, if it has one."""
        name = line.partition("=")[0]
        kept = [old for old in self.settings.read_text().splitlines() if not old.startswith(f"{name}=")]
        self.settings.write_text("\n".join([*kept, line, ""]))
