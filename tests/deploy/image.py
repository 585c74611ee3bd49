"""The image of the Dockerfile: built by Docker, or by running its steps in a Debian root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.deploy.dockerfile import COMMAND, FINAL, STAGES
from tests.process import kernel
from tests.process.fake_chutes_control import ROOT
from tests.support.wheels import download_wheels

if TYPE_CHECKING:
    from signal import Signals

    from tests.deploy.dockerfile import Stage

USER = int(FINAL.value("USER").partition(":")[0])
STATE = FINAL.value("WORKDIR")
SECRETS = "/run/secrets"
BUILD_SECONDS = 600.0


class Image(Protocol):
    """An image from which a test starts containers."""

    def command(self, secrets: Path, environ: dict[str, str]) -> list[str]:
        """Return the command that starts a container: read-only root, no privileges, the host's network."""

    def main_pid(self, process_pid: int) -> int:
        """Return the PID of the first process in the container. `process_pid` is that of the command."""

    def send(self, process_pid: int, number: Signals) -> None:
        """Send a signal to the first process."""

    def missing(self, *programs: str) -> set[str]:
        """Return those of the programs that the image does not have."""


def docker_answers() -> bool:
    docker = shutil.which("docker")
    command = [str(docker), "info", "--format", "{{.ServerVersion}}"]
    return bool(docker) and subprocess.run(command, capture_output=True, check=False).returncode == 0


class DockerImage:
    """The image, built and run by the Docker daemon."""

    def __init__(self) -> None:
        build = ["docker", "build", "--quiet", str(ROOT)]
        done = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True, timeout=BUILD_SECONDS)
        self._id = done.stdout.strip()
        self._name = f"ridges-proxy-test-{os.getpid()}"

    def command(self, secrets: Path, environ: dict[str, str]) -> list[str]:
        named = [f"--env={name}={value}" for name, value in environ.items()]
        limits = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        mounts = [f"--volume={STATE}", f"--volume={secrets}:{SECRETS}:ro"]
        start = ["docker", "run", "--rm", f"--name={self._name}", "--network=host"]
        return [*start, *limits, *mounts, *named, self._id]

    def main_pid(self, process_pid: int) -> int:
        del process_pid
        inspect = ["docker", "inspect", "--format={{.State.Pid}}", self._name]
        return int(subprocess.run(inspect, stdout=subprocess.PIPE, check=True).stdout)

    def send(self, process_pid: int, number: Signals) -> None:
        del process_pid
        subprocess.run(["docker", "kill", f"--signal={number.name}", self._name], check=False)

    def missing(self, *programs: str) -> set[str]:
        script = 'for name in "$@"; do command -v "$name" >/dev/null || echo "$name"; done'
        run = ["docker", "run", "--rm", "--entrypoint=sh", self._id, "-c", script, "sh", *programs]
        done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True)
        return set(done.stdout.split())


class RootImage:
    """The steps of the Dockerfile, run in overlays of a Debian root that has Python 3.13 with venv.

    The root has the same Debian release and the same Python minor version as the base image. pip gets the
    wheels from a folder, which the host's pip has filled: the root has no network configuration.
    """

    def __init__(self, base: Path, folder: Path) -> None:
        self._base, self._folder = base, folder
        wheels = self._folder / "wheels"
        wheels.mkdir()
        download_wheels(wheels)
        script = "\n".join(["set -eu", *(line for stage in STAGES for line in self._build(stage))])
        unshared(["sh", "-c", script], timeout=BUILD_SECONDS)
        # A container runtime makes the mount points that a mount needs.
        for point in (SECRETS, STATE):
            (self._upper(FINAL) / point[1:]).mkdir(parents=True, exist_ok=True)
        self.changes = self._upper(FINAL)
        """What the image adds to its base."""

    def _upper(self, stage: Stage) -> Path:
        return self._folder / (stage.name or "final") / "upper"

    def _root(self, stage: Stage) -> Path:
        return self._folder / (stage.name or "final") / "root"

    def _build(self, stage: Stage) -> list[str]:
        """Return the shell commands that build one stage."""
        root, upper = self._root(stage), self._upper(stage)
        work = upper.with_name("work")
        for path in (root, upper, work):
            path.mkdir(parents=True)
        # A stage on top of another begins with its files.
        lower = ":".join(
            [*(str(self._upper(each)) for each in STAGES if each.name == stage.base), str(self._base)]
        )
        lines = [
            f"mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {root}",
            f"mkdir -p {root}/mnt && mount --bind {self._folder}/wheels {root}/mnt",
        ]
        workdir = "/"
        for instruction, text in stage.steps:
            if instruction == "WORKDIR":
                workdir = text
                lines.append(f"mkdir -p {root}{workdir}")
            elif instruction == "RUN":
                shell = shlex.quote(f"cd {workdir} && {text}")
                settings = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt HOME=/root"
                programs = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                lines.append(f"env -i {settings} {programs} chroot {root} sh -c {shell}")
            elif instruction == "COPY":
                lines.append(self._copy(text, root, workdir))
        return lines

    def _copy(self, text: str, root: Path, workdir: str) -> str:
        *sources, target = text.split()
        origin = ROOT
        if sources[0].startswith("--from="):
            name = sources.pop(0).removeprefix("--from=")
            origin = next(self._root(stage) for stage in STAGES if stage.name == name)
        into = root / str(Path(workdir, target))[1:]
        paths = " ".join(str(origin / source.lstrip("/")) for source in sources)
        return f"cp -rT --preserve=mode,links {paths} {into}" if len(sources) == 1 else f"cp {paths} {into}"

    def command(self, secrets: Path, environ: dict[str, str]) -> list[str]:
        root = self._folder / "run"
        volume = self._folder / "volume"
        root.mkdir(exist_ok=True)
        named = shlex.join(f"{name}={value}" for name, value in environ.items())
        script = f"""set -eu
            mount -t overlay overlay -o lowerdir={self.changes}:{self._base} {root}
            test -e {volume} || cp -a {self.changes}{STATE} {volume}
            mount --bind {volume} {root}{STATE}
            mount --bind {secrets} {root}{SECRETS}
            mount -o remount,bind,ro {root}{SECRETS}
            mount -t proc proc {root}/proc
            mount -t tmpfs tmpfs {root}/tmp
            mount -t tmpfs tmpfs {root}/dev/shm
            exec chroot {root} env -i {named} \
                setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs --bounding-set=-all \
                sh -c 'cd {STATE} && exec {shlex.join(COMMAND)}'
        """
        return [*UNSHARE, "--pid", "--fork", "--kill-child", "sh", "-c", script]

    def main_pid(self, process_pid: int) -> int:
        return next(iter(kernel.children(process_pid)), process_pid)

    def send(self, process_pid: int, number: Signals) -> None:
        os.kill(self.main_pid(process_pid), number)

    def missing(self, *programs: str) -> set[str]:
        folders = [Path(folder[1:]) for folder in FINAL.environ["PATH"].split(":")]
        roots = (self.changes, self._base)
        return {
            name
            for name in programs
            if not any(os.path.lexists(root / folder / name) for root in roots for folder in folders)
        }


UNSHARE = ["unshare", "--mount", "--propagation=private"]


def unshared(command: list[str], timeout: float) -> None:
    """Run a command whose mounts end with it."""
    done = subprocess.run(
        [*UNSHARE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout
