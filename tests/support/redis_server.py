"""A real redis-server for tests, on a free loopback port, with a separate folder."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import TYPE_CHECKING, Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.missing import missing
from tests.support.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
START_SECONDS = 20.0
POLL_SECONDS = 0.01
NO_RETRIES: Any = Retry(NoBackoff(), 0)
PORT_TAKEN = "Address already in use"


class RedisServer:
    """A context manager around a server. It keeps its port and its folder over `kill` and `start`."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.choose_ports()

    def choose_ports(self) -> None:
        """Choose the ports of the server. Called again if another server has taken one of them."""
        self.port = free_port()

    def __enter__(self) -> Self:
        if PROGRAM is None:
            missing("redis-server", "apt install redis-server")
        self._program = PROGRAM
        self._folder = tempfile.TemporaryDirectory(prefix="ridges-redis-")
        while not self._started():  # another server has taken a port since it was found free
            self.choose_ports()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=START_SECONDS)

    def ask(self, *command: str | int) -> Any:  # noqa: ANN401 - a reply of any form
        with closing(self.client) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py's

    def start(self) -> None:
        assert self._started(), "the port is taken"

    def _started(self) -> bool:
        """Start the process, and wait until it answers. Return False if its port is taken."""
        log = Path(self._folder.name) / "log"
        self._log = log.open("ab")
        self._process = subprocess.Popen(self._command(self._program), stdout=self._log, stderr=self._log)
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                self._log.close()
                assert PORT_TAKEN in log.read_text(), log.read_text()
                return False
            assert time.monotonic() < end
            time.sleep(POLL_SECONDS)
        return True

    def kill(self) -> None:
        """End the process with SIGKILL, as a power cut would."""
        self._process.send_signal(SIGCONT)
        self._process.send_signal(SIGKILL)
        self._process.wait()
        self._log.close()

    def freeze(self) -> None:
        self._process.send_signal(SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(SIGCONT)

    def _command(self, program: str) -> list[str]:
        return [
            *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._folder.name),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            *("--repl-diskless-sync-delay", "0", *self._arguments),
        ]

    def _answers(self) -> bool:
        """Whether this process answers, and not another one at the same port."""
        try:
            with closing(redis.Redis(port=self.port, socket_timeout=1, retry=NO_RETRIES)) as client:
                client.ping()  # it fails while the server reads its files
                return bool(client.info("server")["process_id"] == self._process.pid)
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class RedisSentinel(RedisServer):
    """A Redis Sentinel. It needs a configuration file that it can write to."""

    def _command(self, program: str) -> list[str]:
        configuration = Path(self._folder.name) / "sentinel.conf"
        configuration.write_text(f"bind 127.0.0.1\nport {self.port}\ndir {self._folder.name}\n")
        return [program, str(configuration), "--sentinel"]
