"""One booted machine for all tests of this folder. `make boot` runs them, in order: each is a step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tests.boot import debian
from tests.boot.guide import blocks
from tests.boot.machine import Machine
from tests.boot.network import enter_own_network
from tests.boot.repository import Repository
from tests.boot.service import HOST, Service
from tests.boot.step import Row, Step, report
from tests.process.fake_chutes_control import ROOT, Upstream
from tests.support.chutes import emptied

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

ROWS = pytest.StashKey[list[Row]]()
REPORTS = pytest.StashKey[dict[str, pytest.TestReport]]()
STEP = pytest.StashKey[Step]()


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A booted Debian with the project's wheels, in a network of its own."""
    cache = os.environ.get("BOOT_ROOT")
    if not cache:
        pytest.skip("`make boot` runs these tests")
    image, wheels = debian.image(Path(cache)), debian.wheels(Path(cache))
    enter_own_network()
    # No folder of pytest: it would be removed while file systems are mounted in it, if a run was killed.
    with TemporaryDirectory(prefix="boot-") as folder, Machine(image, Path(folder)) as machine:
        shutil.copytree(wheels, machine.root / "srv" / "wheels")
        (machine.root / "srv" / "chutes-key").write_text("the-chutes-key\n")
        machine.environ = {
            "REPOSITORY": "/srv/repository",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/srv/wheels",
            "CHUTES_API_KEY_FILE": "/srv/chutes-key",
        }
        yield machine


@pytest.fixture(scope="session")
def repository(machine: Machine) -> Repository:
    """The repository that the machine clones."""
    return Repository(machine.root / "srv" / "repository")


@pytest.fixture(scope="session")
def upstream(machine: Machine) -> Iterator[Upstream]:
    """The fake Chutes in the machine's network. It survives a reboot of the machine."""
    with Upstream() as started:
        assert machine.root
        yield started


@pytest.fixture(scope="session")
def installed(
    request: pytest.FixtureRequest, machine: Machine, repository: Repository, upstream: Upstream
) -> Step:
    """The step that installs the project by the commands of deploy/README.md, with the fake Chutes."""
    assert repository
    service = Service(machine)
    service.settings.parent.mkdir(mode=0o755)
    settings = (ROOT / "deploy" / "production.env").read_text()
    urls = f"\nCHUTES_BASE_URL={upstream.chat_url}\nCHUTES_EMBEDDING_URL={upstream.embed_url}\n"
    service.settings.write_text(settings + urls)
    service.settings.chmod(0o600)
    step = request.node.stash[STEP] = Step(service, upstream, "install")
    step.follow("Install")
    return step


@pytest.fixture(scope="session")
def tls(request: pytest.FixtureRequest, installed: Step, upstream: Upstream) -> Step:
    """The step that puts nginx in front. `certbot` beside this file needs no authority on the Internet."""
    programs = installed.service.machine.root / "usr/local/bin"
    shutil.copy(Path(__file__).with_name("certbot"), programs)
    step = request.node.stash[STEP] = Step(installed.service, upstream, "TLS")
    certificate, site = blocks("TLS")
    for commands in (certificate.replace("apt install -y certbot\n", ""), site):
        step.run(commands, NAME=HOST, EMAIL=f"operator@{HOST}")
    return step


@pytest.fixture
def service(installed: Step, tls: Step) -> Service:
    """The installed service. It is started again if the step before left it broken."""
    assert tls
    service = installed.service
    if service.ready() != 200:
        service.repair()
    return service


@pytest.fixture
def step(request: pytest.FixtureRequest, service: Service, upstream: Upstream) -> Iterator[Step]:
    """The step of this test. At its end, what was spent must be in the ledger."""
    title = request.node.name.removeprefix("test_").replace("_", " ").replace("tls", "TLS")
    step = request.node.stash[STEP] = Step(service, emptied(upstream), title)
    yield step
    spend_kept = False
    try:
        step.assert_spend_is_kept()
        spend_kept = True
    finally:
        called = request.node.stash[REPORTS].get("call")  # none if Ctrl-C ended the test
        rows = request.config.stash.setdefault(ROWS, [])
        rows.append(step.row(passed=called is not None and called.passed, spend_kept=spend_kept))
        request.node.user_properties += [("calls", step.calls), ("failed calls", len(step.failures))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the service's journal to the report of a failed step, and keep the report for the step's row."""
    report = yield
    item.stash.setdefault(REPORTS, {})[report.when] = report
    step = item.stash.get(STEP, None)
    if report.failed and step:
        report.sections.append(("Calls that failed", step.failures_by_kind()))
        report.sections.append(("Journal of the service", step.service.journal()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and write it to build/boot.md."""
    rows = terminalreporter.config.stash.get(ROWS, [])
    if rows:
        text = report(rows)
        terminalreporter.write_line(text)
        (ROOT / "build").mkdir(exist_ok=True)
        (ROOT / "build" / "boot.md").write_text(text)
