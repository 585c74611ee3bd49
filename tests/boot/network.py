"""A network of its own for the tests: only loopback, with all ports free."""

from __future__ import annotations

import ctypes
import os
import subprocess

from tests.support.missing import missing

CLONE_NEWNET = 0x40000000
"""From linux/sched.h. Python has `os.unshare` only since 3.12."""


def enter_own_network() -> None:
    """Move this process into a new network namespace. Every process that it starts will be in it, too.

    The machine that is booted then uses the ports 443 and 8000 without a conflict, and the tests reach it by
    127.0.0.1, also while it reboots. The namespace ends with its last process.
    """
    if os.geteuid() != 0:
        missing("a network namespace", "run as root")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        missing("a network namespace", os.strerror(ctypes.get_errno()))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
