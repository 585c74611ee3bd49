"""A second machine: a network namespace with an address of its own, where the system lets us make one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NETWORK = "10.213.77"


@dataclass(frozen=True)
class Machine:
    """Where a server runs, and how it and we reach each other."""

    host: str = "127.0.0.1"
    """Its address, as we see it."""
    sees_us_at: str = "127.0.0.1"
    command: tuple[str, ...] = ()
    """What starts a program there."""


HERE = Machine()


@contextlib.contextmanager
def second_machine() -> Iterator[Machine]:
    """Another one while the context is open; this one, where none can be made: it takes root and iproute2."""
    if os.geteuid() or not shutil.which("ip"):
        yield HERE
        return
    name = f"overspend-{os.getpid()}"
    near, far = f"ov{os.getpid() % 100_000}a", f"ov{os.getpid() % 100_000}b"
    steps = (
        f"netns add {name}",
        f"link add {near} type veth peer name {far} netns {name}",
        f"addr add {NETWORK}.1/30 dev {near}",
        f"link set {near} up",
        f"-n {name} addr add {NETWORK}.2/30 dev {far}",
        f"-n {name} link set {far} up",
        f"-n {name} link set lo up",
    )
    try:
        allowed = all(_ip(step) for step in steps)
        yield Machine(f"{NETWORK}.2", f"{NETWORK}.1", ("ip", "netns", "exec", name)) if allowed else HERE
    finally:
        _ip(f"netns del {name}")  # and the two ends with it


def _ip(step: str) -> bool:
    return subprocess.run(["ip", *step.split()], capture_output=True, check=False).returncode == 0
