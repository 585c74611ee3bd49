"""Processes and TCP connections, read from `/proc`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ESTABLISHED = "01"
SYN_SENT = "02"
CLOSE_WAIT = "08"
"""States of a TCP connection in `/proc/net/tcp`."""


class Connection(NamedTuple):
    """One line of `/proc/net/tcp`."""

    local: str
    state: str
    inode: str


def connections_to(port: int) -> list[Connection]:
    """Return the client sides of all connections to a local port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [Connection(line[1], line[3], line[9]) for line in lines if line[2].endswith(f":{port:04X}")]


def open_connections(pid: int, port: int) -> int:
    """Return the number of connections that a process holds to the port, half-closed ones included."""
    alive = {each.inode for each in connections_to(port) if each.state in {ESTABLISHED, CLOSE_WAIT}}
    return len(alive & set(_socket_inodes(pid)))


def children(pid: int) -> set[int]:
    """Return the direct children of a process."""
    return {child for child, parent in _parents().items() if parent == pid}


def descendants(pid: int) -> set[int]:
    """Return the children of a process, their children, and so on."""
    parents = _parents()
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def pids_in_namespaces(pid: int) -> list[int]:
    """Return the PIDs that a process has in its nested PID namespaces, from outside to inside.

    Empty for a process that has ended.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    (line,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return [int(number) for number in line.split()[1:]]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process. It takes effect a moment after it was sent."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _parents() -> dict[int, int]:
    """Return the parent of every process."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue  # the process has ended
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _socket_inodes(pid: int) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(file.readlink())
        except OSError:
            continue  # the file has been closed
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]
