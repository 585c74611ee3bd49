"""A second machine: a network namespace with an address of its own, if the system permits one."""

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
    """Where a server runs."""

    host: str = "127.0.0.1"
    """Its address, seen from this machine."""
    address_of_this_machine: str = "127.0.0.1"
    """Seen from there."""
    command_prefix: tuple[str, ...] = ()
    """Starts a program there."""


THIS_MACHINE = Machine()


@contextlib.contextmanager
def second_machine() -> Iterator[Machine]:
    """A new network namespace while the context is open. Without root or iproute2, this machine."""
    if os.geteuid() or not shutil.which("ip"):
        yield THIS_MACHINE
        return
    name = f"overspend-{os.getpid()}"
    near, far = f"ov{os.getpid() % 100_000}a", f"ov{os.getpid() % 100_000}b"
    commands = (
        f"netns add {name}",
        f"link add {near} type veth peer name {far} netns {name}",
        f"addr add {NETWORK}.1/30 dev {near}",
        f"link set {near} up",
        f"-n {name} addr add {NETWORK}.2/30 dev {far}",
        f"-n {name} link set {far} up",
        f"-n {name} link set lo up",
    )
    namespace = Machine(f"{NETWORK}.2", f"{NETWORK}.1", ("ip", "netns", "exec", name))
    try:
        yield namespace if all(map(_ip, commands)) else THIS_MACHINE
    finally:
        _ip(f"netns del {name}")  # removes both ends of the link, too


def _ip(arguments: str) -> bool:
    return subprocess.run(["ip", *arguments.split()], capture_output=True, check=False).returncode == 0
