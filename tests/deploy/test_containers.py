"""The image: built, then started as compose.yaml and the Kubernetes manifests start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from tests.boot import debian
from tests.deploy.dockerfile import FINAL
from tests.deploy.image import USER, DockerImage, Image, RootImage, docker_answers
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy, wait_until
from tests.support.app import environ_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(900)
"""Seconds, above those of a build on a slow machine: the first test waits for it."""

KEYS = ("CHUTES_API_KEY", "PROXY_API_KEY")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if docker_answers():
        return DockerImage()
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("only root can run the steps of the image without Docker")
    cache = os.environ.get("BOOT_ROOT") or pytest.skip("no Docker daemon: `make boot` runs these tests")
    return RootImage(debian.image(Path(cache)), tmp_path_factory.mktemp("image"))


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder of keys that all may read: the user of the container is another than the owner."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name in KEYS:
        (folder / name).write_text(f"{environ_of()[name]}\n")
        (folder / name).chmod(0o444)
    return folder


class Container(Proxy):
    """The proxy in a container. Signals go to the first process in it, as from a container runtime."""

    def __init__(self, image: Image, secrets: Path, environ: dict[str, str]) -> None:
        # The programs that start a container have the environment of the tests.
        outside = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin", "WORKERS": environ["WORKERS"]}
        super().__init__(None, command=image.command(secrets, environ), environ=outside, folder=Path("/"))
        self._image = image

    @property
    def pid(self) -> int:
        return self._image.main_pid(self._process.pid)

    def _send(self, number: Signals) -> None:
        if self._process.poll() is None:
            self._image.send(self._process.pid, number)


@pytest.fixture
def container(image: Image, secrets: Path, fake_chutes: Upstream) -> Iterator[Container]:
    urls = {"CHUTES_BASE_URL": fake_chutes.chat_url, "CHUTES_EMBEDDING_URL": fake_chutes.embed_url}
    environ = FINAL.environ | urls | {"HOST": "127.0.0.1", "PORT": "0", "WORKERS": "2"}
    with Container(image, secrets, environ) as started:
        yield started


def health(container: Container) -> int:
    """Run the command of HEALTHCHECK, with the container's port. Return its exit status: 0 is healthy."""
    command = FINAL.value("HEALTHCHECK").partition("CMD ")[2].replace("8000", str(container.port))
    return subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode


def test_a_container_meters_a_call_and_completes_calls_in_flight_when_it_stops(
    container: Container, chutes: Upstream
) -> None:
    run = uuid.uuid4().hex
    assert container.infer(run).status == 200
    assert container.usage(run).spent > 0
    assert health(container) == 0

    with ThreadPoolExecutor() as pool:
        in_flight = pool.submit(container.infer, run, directive(gate="open"))
        chutes.wait(at_gate=1)
        container.signal(Signals.SIGTERM)
        container.lines.wait(event="draining")
        wait_until(lambda: health(container) != 0, "a health check that fails")
        chutes.release("open")
        assert in_flight.result().status == 200
    assert container.stop() == 0


def test_a_container_runs_without_privileges(container: Container) -> None:
    status = Path(f"/proc/{container.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == fields["Gid"].split() == [str(USER)] * 4
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"


def test_the_image_has_the_commands_of_the_project_and_no_compiler(image: Image) -> None:
    absent = {"gcc", "cc", "g++", "make"}
    assert image.missing("ridges-proxy", "gunicorn", "flask", "sleep", *absent) == absent
