"""The wheel: installed in an empty environment, and started in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from tests.process import kernel
from tests.process.fake_chutes_control import ROOT, Upstream
from tests.process.server import Proxy, clean_environment, wait_until
from tests.process.wire import PATIENCE_SECONDS
from tests.support.app import ADMIN_KEY, environ_of
from tests.support.missing import missing
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "ridges_proxy")
SCRIPTS = ("gunicorn", "flask")
COMMANDS = ("serve", "demo", "spend", "budgets", "runs", "prices", "ledger", "settings", "doctor")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
BUILD_SECONDS = 240.0


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and an empty folder for its processes."""

    python: str
    script: str
    folder: Path

    def environ(self, **settings: str) -> dict[str, str]:
        return {"PATH": f"{Path(self.script).parent}:{os.defpath}", **settings}

    def run(self, *command: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environ or self.environ(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )


def setuptools_is_new_enough() -> bool:
    (needed,) = PROJECT["build-system"]["requires"]
    try:
        installed = version("setuptools")
    except PackageNotFoundError:
        return False
    return int(installed.partition(".")[0]) >= int(needed.rpartition("=")[2])


def build(folder: Path) -> Path:
    """Build the wheel from a copy, because an old build/ in the checkout would add files to it."""
    sources = folder / "sources"
    sources.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, sources)
    options = ["--no-build-isolation"] if setuptools_is_new_enough() else []
    command = [*PIP, "wheel", "--quiet", "--no-deps", *options, "--wheel-dir", str(folder), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode and not options and "No matching distribution found for setuptools" in done.stderr:
        missing("setuptools>=77", "pip install 'setuptools>=77', or a network to install it from")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Install only the wheel. Its dependencies are imported from the running environment."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    command = [*PIP, "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, timeout=BUILD_SECONDS)
    # After the installation: pip would otherwise try to replace the ridges-proxy of the running environment.
    (site_packages,) = folder.glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site_packages / "dependencies.pth").write_text("\n".join(dependencies))
    for name in SCRIPTS:
        _, rest = Path(sys.executable).with_name(name).read_text("utf-8").split("\n", 1)
        script = folder / "bin" / name
        script.write_text(f"#!{python}\n{rest}")
        script.chmod(0o755)
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    python = install(build(folder), folder / "environment")
    empty = folder / "empty"
    empty.mkdir()
    return Installed(str(python), str(python.with_name("ridges-proxy")), empty)


@contextmanager
def serving(installed: Installed, fake_chutes: Upstream, folder: Path) -> Iterator[Proxy]:
    """`ridges-proxy serve` with its settings in the environment."""
    settings = clean_environment(fake_chutes, LEDGER_URL=f"sqlite:///{folder}/ledger.db")
    command = [installed.script, "serve"]
    with Proxy(
        None, command=command, folder=installed.folder, environ=settings | installed.environ()
    ) as started:
        yield started


@contextmanager
def demo(installed: Installed) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo, and its output until it serves."""
    with subprocess.Popen(
        [installed.script, "demo", "--port", "0"],
        cwd=installed.folder,
        env=installed.environ(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = ""
        try:
            while "Ctrl-C" not in printed:
                line = process.stdout.readline()
                assert line, printed
                printed += line
            yield process, printed
        finally:
            process.terminate()


def test_the_package_comes_from_the_wheel(installed: Installed) -> None:
    done = installed.run(installed.python, "-c", "import ridges_proxy; print(ridges_proxy.__file__)")

    assert Path(done.stdout).is_relative_to(Path(installed.python).parents[1]), done


def test_the_script_and_the_module_print_the_same_help_and_version(installed: Installed) -> None:
    for option in ("--help", "--version"):
        script = installed.run(installed.script, option)
        module = installed.run(installed.python, "-m", "ridges_proxy", option)
        assert (script.returncode, script.stderr) == (0, "")
        assert (module.returncode, module.stdout, module.stderr) == (0, script.stdout, "")
        if option == "--version":
            assert script.stdout.split() == ["ridges-proxy,", "version", PROJECT["project"]["version"]]
        else:
            assert [name for name in COMMANDS if f"\n  {name} " not in script.stdout] == []


@each_row("options, name", [((), "docs/reference/configuration.md"), (("--env",), ".env.example")])
def test_settings_prints_the_generated_files(
    installed: Installed, options: tuple[str, ...], name: str
) -> None:
    done = installed.run(installed.script, "settings", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / name).read_text("utf-8")


@each_row("options", [("-w", "4"), ("-w", "1"), ("--preload", "-w", "4"), ("-w", "4", "-k", "gevent")])
def test_gunicorn_without_the_packages_configuration_is_refused(
    installed: Installed, options: tuple[str, ...]
) -> None:
    """Each worker would have a ledger of its own in memory."""
    gunicorn = str(Path(installed.script).with_name("gunicorn"))
    environ = installed.environ(**environ_of(), PORT="0")
    command = [gunicorn, *options, "--bind", "127.0.0.1:0", "ridges_proxy:create_app()"]
    done = installed.run(*command, environ=environ)
    assert done.returncode > 0
    assert "`ridges-proxy serve`" in done.stderr


def test_its_configuration_allows_one_worker_for_a_ledger_in_memory(installed: Installed) -> None:
    gunicorn = str(Path(installed.script).with_name("gunicorn"))
    configuration = "python:ridges_proxy.server.gunicorn_conf"
    command = [gunicorn, "-c", configuration, "-w", "4", "ridges_proxy:create_app()"]
    done = installed.run(*command, environ=installed.environ(**environ_of(), PORT="0"))
    assert done.returncode > 0
    assert "memory:// allows only 1 worker" in done.stdout + done.stderr


def test_the_demo_answers_the_printed_command_and_leaves_no_process(installed: Installed) -> None:
    with demo(installed) as (process, printed):
        line = next(line for line in printed.splitlines() if "/agents/inference" in line)
        done = installed.run("bash", "-euc", line)
        assert (done.returncode, done.stdout) == (0, '"word1 word2 word3 word4 word5 "'), done
        family = kernel.descendants(process.pid)
        assert len(family) == 3, "the fake Chutes, the proxy's master and its worker"
        process.send_signal(Signals.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
        wait_until(lambda: not any(map(kernel.alive, family)), "the end of all processes")
    assert list(installed.folder.iterdir()) == []


def assert_spend_lists(installed: Installed, url: str, run: str) -> None:
    environ = installed.environ(PROXY_URL=url, ADMIN_API_KEY=ADMIN_KEY)
    for command in ([installed.script], [installed.python, "-m", "ridges_proxy"]):
        listed = installed.run(*command, "spend", "list", environ=environ)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert re.search(rf"^{run} .*\nshowing 1-1 of 1$", listed.stdout, re.MULTILINE)


def assert_doctor_passes(installed: Installed, settings: dict[str, str]) -> None:
    examined = installed.run(installed.script, "doctor", environ=settings | installed.environ())
    assert (examined.returncode, examined.stderr) == (0, ""), examined.stdout
    assert "failed" not in examined.stdout
    assert "is ready" in examined.stdout


def test_serve_answers_reloads_and_stops_while_the_commands_work_beside_it(
    installed: Installed, fake_chutes: Upstream, tmp_path: Path, run: str
) -> None:
    with serving(installed, fake_chutes, tmp_path) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        assert proxy.ask("GET", "/health").json["status"] == "healthy"
        assert proxy.infer(run).status == 200
        assert_spend_lists(installed, url, run)
        settings = clean_environment(fake_chutes, LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db", PROXY_URL=url)
        assert_doctor_passes(installed, settings)

        first = proxy.workers()
        proxy.signal(Signals.SIGHUP)
        proxy.lines.wait(2, event="worker ready")
        wait_until(lambda: not any(map(kernel.alive, first)), "the end of the first worker")
        assert proxy.infer(run).status == 200

        assert proxy.stop() == 0
