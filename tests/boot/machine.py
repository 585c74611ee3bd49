"""A Debian that is really booted: systemd as PID 1 in a container of systemd-nspawn."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from tests.process import kernel
from tests.process.server import wait_until
from tests.support.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_SECONDS = 500.0
"""The limit of one command. An installation takes 20 s, or minutes on a busy machine."""

STOP_SECONDS = 30.0

REBOOT_STATUS = 133
"""The exit status of systemd-nspawn when its machine reboots."""

DISK = "size=3G"
STATE_DISK = "size=2G"
"""A disk for the service's state alone, so that a test can fill it. Both take memory as they are used."""

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    output: str


class Machine:
    """A context manager around a container on a copy of an image. The image itself stays as it is.

    `root` is the machine's file system, as it is seen from outside.
    """

    def __init__(self, image: Path, folder: Path) -> None:
        self._nspawn = shutil.which("systemd-nspawn") or missing(
            "systemd-nspawn", "apt install systemd-container"
        )
        self._image, self._folder = image, folder
        self._console = folder / "console.log"
        self.root = folder / "root"
        self.state = self.root / "var/lib/ridges-proxy"
        self.environ: dict[str, str] = {}
        """For every command."""

    def __enter__(self) -> Self:
        try:
            self._mount()
            self._boot()
        except BaseException as error:
            if self._console.exists():
                error.add_note(self._console.read_text(errors="replace")[-3000:])
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_process"):
            self._stop()
        subprocess.run(["umount", "--recursive", "--lazy", self._folder], check=False)

    def run(self, script: str, *, status: int | None = 0, folder: str = "/root", **environ: str) -> Done:
        """Run lines of a shell as root in the machine. Asserts the exit status; None allows all."""
        inside = ["nsenter", "--target", str(self._leader), "--all", "--", "env", f"--chdir={folder}"]
        done = subprocess.run(
            [*inside, "bash", "-euo", "pipefail", "-c", script],
            env={**ENVIRONMENT, **self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if status is not None:
            assert done.returncode == status, f"status {done.returncode} of\n{script}\n{done.stdout[-3000:]}"
        return Done(done.returncode, done.stdout)

    def reboot(self) -> None:
        """Restart the machine, and wait until it runs."""
        self.run("systemctl reboot", status=None)
        # With --keep-unit, systemd-nspawn leaves the restart to its caller.
        assert self._process.wait(COMMAND_SECONDS) == REBOOT_STATUS
        self._boot()

    @contextmanager
    def memory_limit(self, pid: int, limit_bytes: int) -> Iterator[None]:
        """Let the kernel end a process of the machine if it takes more memory than this from now on.

        At the end, the process must have ended.
        """
        if not MEMORY_GROUPS.exists():
            pytest.skip("the memory of processes is limited by cgroups of version 1 here")
        all_pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        outside = next(each for each in all_pids if kernel.pids_in_namespaces(each)[1:] == [pid])
        group = MEMORY_GROUPS / f"boot-{outside}"
        group.mkdir()
        try:
            (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
            (group / "cgroup.procs").write_text(str(outside))
            yield
        finally:
            wait_until(lambda: not (group / "cgroup.procs").read_text(), "the end of the process")
            group.rmdir()

    @contextmanager
    def full_state_disk(self) -> Iterator[None]:
        """Make the disk of the service's state as small as its files, until the context ends."""
        disk = os.statvfs(self.state)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        _mount("tmpfs", self.state, "tmpfs", f"remount,size={used}")
        try:
            yield
        finally:
            _mount("tmpfs", self.state, "tmpfs", f"remount,{STATE_DISK}")

    def _mount(self) -> None:
        _mount("tmpfs", self._folder, "tmpfs", DISK)
        for name in ("upper", "work", "root"):
            (self._folder / name).mkdir()
        layers = f"lowerdir={self._image},upperdir={self._folder}/upper,workdir={self._folder}/work"
        _mount("overlay", self.root, "overlay", layers)
        self.state.mkdir(mode=0o700)
        _mount("tmpfs", self.state, "tmpfs", f"{STATE_DISK},mode=0700")

    def _boot(self) -> None:
        # Without a manager outside, nothing can register the machine or make a unit for it.
        command = [self._nspawn, "--register=no", "--keep-unit", "--quiet", "--hostname=boot"]
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                [*command, f"--directory={self.root}", "--boot"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self._first_process() != 0, "the machine's first process")
        self._wait_until_it_runs()

    def _first_process(self) -> int:
        """Return the PID of the machine's systemd, or 0 while there is none."""
        assert self._process.poll() is None, "the machine has stopped"
        children = kernel.children(self._process.pid)
        return next((pid for pid in children if kernel.pids_in_namespaces(pid)[1:] == [1]), 0)

    def _wait_until_it_runs(self) -> None:
        def runs() -> bool:
            self._leader = self._first_process()
            if not self._leader:
                return False
            asked = self.run("systemctl is-system-running --wait", status=None, folder="/")
            return asked.output.strip() in {"running", "degraded"}

        wait_until(runs, "the machine's start")
        assert self.run("systemctl --failed --no-legend").output == ""

    def _stop(self) -> None:
        if self._process.poll() is None:
            if hasattr(self, "_leader"):
                self.run("systemctl poweroff --force", status=None, folder="/")
            else:
                self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _mount(source: str, target: Path, kind: str, options: str) -> None:
    done = subprocess.run(
        ["mount", "-t", kind, "-o", options, source, target], capture_output=True, text=True, check=False
    )
    if done.returncode:
        missing(f"mount -t {kind}", done.stderr.strip())
