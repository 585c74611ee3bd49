"""The life of a deployment: each test is one step, and finds the machine as the steps before left it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.boot.service import CHECKOUT, SOON_SECONDS
from tests.process.fake_chutes_control import directive
from tests.process.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.boot.repository import Repository
    from tests.boot.step import Step

GATE = "boot"


def test_install(step: Step, installed: Step) -> None:
    step.seconds = installed.seconds
    assert step.service.ready() == 200
    units = "ridges-proxy.service ridges-proxy.socket"
    assert step.run(f"systemctl is-active {units}").output.split() == ["active", "active"]
    assert step.run(f"systemctl is-enabled {units}").output.split() == ["enabled", "enabled"]


def test_tls(step: Step, tls: Step) -> None:
    step.seconds = tls.seconds
    with step.load():
        pass
    step.assert_no_call_failed()


def test_first_call(step: Step) -> None:
    step.service.runs.add("first")
    step.follow("First call")
    assert step.service.usage("first")["used_cost_usd"] > 0


def test_doctor(step: Step) -> None:
    found = step.follow("Check")
    assert "warning" not in found.output.lower(), found.output


# --- changes of the code


def test_reload(step: Step) -> None:
    before = step.service.workers()
    with step.load():
        step.follow("Settings")
        wait_until(lambda: not set(before) & set(step.service.workers()), "new workers")
    step.assert_no_call_failed()


def test_upgrade(step: Step, repository: Repository) -> None:
    repository.release("99.1.0")
    with _another_release(step):
        step.follow("Upgrade")


def test_roll_back(step: Step) -> None:
    with _another_release(step):
        step.follow("Upgrade", block=1)


@contextmanager
def _another_release(step: Step) -> Iterator[None]:
    """The body activates another release under load. All processes run it then, and no call has failed."""
    before = step.service.current_release()
    with step.load():
        yield
        assert step.service.current_release() != before
        assert step.service.serving_releases() == {step.service.current_release()}
    step.assert_no_call_failed()


def test_a_broken_release_is_refused(step: Step, repository: Repository) -> None:
    before = step.service.current_release()
    repository.broken_release("99.2.0")
    try:
        with step.load():
            done = step.follow("Upgrade", status=None)
    finally:
        repository.take_back()
        step.service.machine.run("git pull --quiet", folder=CHECKOUT)
    assert done.status != 0, done.output
    assert step.service.current_release() == before
    assert step.service.serving_releases() == {before}
    step.assert_no_call_failed()


def test_upgrade_with_a_strict_umask(step: Step) -> None:
    with _another_release(step):
        step.run("umask 077; deploy/install", folder=CHECKOUT)


def test_restart_with_a_call_in_flight(step: Step) -> None:
    """New callers do not wait for the calls of the process that ends."""
    before = step.service.main_pid
    restart = threading.Thread(target=step.run, args=("systemctl restart ridges-proxy",))
    with _call_at_a_gate(step) as answers:
        restart.start()
        wait_until(lambda: step.service.main_pid != before, "another main process", SOON_SECONDS)
        assert step.service.infer("restart-new").status == 200
        assert not answers, "the call in flight ended first"
    restart.join()
    assert answers == [200]


def test_a_second_change_of_the_release_during_a_drain(step: Step) -> None:
    """It waits or says why not. The call in flight is not cut off."""
    with _call_at_a_gate(step) as answers:
        step.run("deploy/install --back", folder=CHECKOUT)
        release = step.service.current_release()
        second = step.run("deploy/install --back", status=None, folder=CHECKOUT)
        assert not answers
        assert step.service.serving_releases() == {step.service.current_release()}
    assert answers == [200]
    assert (second.status == 0) == (step.service.current_release() != release), second.output


@contextmanager
def _call_at_a_gate(step: Step) -> Iterator[list[int]]:
    """A call is in flight until the context ends. Its status is in the list when it has ended."""
    answers: list[int] = []

    def call() -> None:
        answers.append(step.service.infer("at-a-gate", directive(gate=GATE)).status)

    caller = threading.Thread(target=call)
    caller.start()
    step.upstream.wait(at_gate=1)
    try:
        yield answers
    finally:
        step.upstream.release(GATE)
        caller.join()


# --- settings and keys


def test_settings_change_by_reload(step: Step) -> None:
    step.service.change_setting("MAX_COST_PER_RUN=0.5")
    with step.load():
        step.follow("Settings")
        step.service.wait_for_budget("settings", 0.5)
    step.assert_no_call_failed()


def test_a_bad_settings_file_is_refused(step: Step) -> None:
    good = step.service.settings.read_text()
    before = step.service.usage("bad-settings-before")["max_cost_usd"]
    step.service.change_setting("MAX_COST_PER_RUN=much")
    try:
        with step.load():
            done = step.follow("Settings", status=None)
    finally:
        step.service.settings.write_text(good)
    assert done.status != 0, "the reload says that it succeeded"
    assert step.service.usage("bad-settings-after")["max_cost_usd"] == before
    step.assert_no_call_failed()


def test_key_change(step: Step) -> None:
    """The clients keep the previous key."""
    before = step.service.key("PROXY_API_KEY")
    with step.load():
        step.follow("Change a key")
        assert step.service.key("PROXY_API_KEY") != before
        assert step.service.infer("new-key").status == 200
    step.assert_no_call_failed()
    step.follow("Change a key", block=1)
    assert step.service.infer("new-key").status == 200


# --- accidents


def test_kill_9_of_the_main_process(step: Step) -> None:
    pid = step.service.main_pid
    with step.load(), step.timed():
        step.service.machine.run(f"kill -9 {pid}")
        wait_until(lambda: step.service.main_pid not in {0, pid}, "another main process")
        step.service.wait_until_ready()


def test_kill_9_of_a_worker(step: Step) -> None:
    main, workers = step.service.main_pid, step.service.workers()
    with step.load(), step.timed():
        step.service.machine.run(f"kill -9 {workers[0]}")
        wait_until(lambda: len(set(step.service.workers()) - {workers[0]}) == len(workers), "a worker")
    assert step.service.main_pid == main


def test_a_worker_without_memory(step: Step) -> None:
    main, workers = step.service.main_pid, step.service.workers()
    with step.load(), step.timed():
        with step.service.machine.memory_limit(workers[0], 1 << 22):
            step.service.end_worker_by_memory(workers[0])
        wait_until(lambda: len(step.service.workers()) == len(workers), "a worker")
    assert step.service.main_pid == main
    assert step.service.property("OOMPolicy") == "continue", "systemd itself must not stop the others"


def test_full_disk(step: Step) -> None:
    step.service.empty_log()
    with step.service.machine.full_state_disk():
        refused = step.service.infer("full-disk")
        assert refused.status == 503
        step.service.wait_until_unready()
        doctor = step.follow("Check", status=None)
    with step.timed():
        step.service.wait_until_ready()
    assert "disk" in doctor.output
    assert step.service.infer("full-disk-after").status == 200


def test_backup(step: Step) -> None:
    with step.load():
        step.follow("Backup")
    step.assert_no_call_failed()


def test_restore_under_traffic(step: Step) -> None:
    """The clients call without a pause. Their calls are refused while the service is stopped."""
    step.loses_spend = "up to the copy"
    step.follow("Backup")
    with step.load():
        step.follow("Restore")
        step.service.wait_until_ready()
    assert step.service.infer("after-restore").status == 200


def test_reboot(step: Step) -> None:
    with step.timed():
        step.service.machine.reboot()
        step.service.wait_until_ready()
    with step.load():
        pass
    step.assert_no_call_failed()


def test_uninstall_and_install_again(step: Step) -> None:
    """What was spent is kept, as are the keys."""
    step.follow("Uninstall")
    units = step.run("systemctl list-unit-files --no-legend 'ridges-proxy*'", status=None)
    assert units.output == ""
    assert not (step.service.machine.root / "opt/ridges-proxy").exists()
    assert step.service.ready() == 0
    step.run("deploy/install", folder=CHECKOUT)
    step.service.wait_until_ready()
