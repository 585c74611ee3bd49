"""`make proof`: the table, what is run again, refusals, steps that fail, and the figures of each step."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.proof import __main__ as program
from bench.proof import page
from bench.proof.figures import NoFiguresError, from_junit, from_mutants, from_summary
from bench.proof.result import Result, run
from bench.proof.steps import STEPS, Step, forget_old_mutants
from tests.support.table import check_rows, each_row

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "reference"
EMPTY_PAGE = "Proof\n<!-- proof: begin -->\n<!-- proof: end -->\nend\n"
RESULT = Result(
    step="soak",
    commit="0123456789",
    quick=False,
    command="make soak",
    started="2026-11-30T10:00:00+00:00",
    seconds=1_900.4,
    status=0,
    figure="answered 386,182",
    problem="",
    machine="2 x CPU, Linux",
)
SUCCEEDS = "open({file!r}, 'w').write('{{\"summary\": \"it | holds\"}}')"
PRINTS_AND_FAILS = "print('why'); raise SystemExit(3)"


@dataclass(frozen=True)
class Script(Step):
    """A step that runs Python code, in place of a target of the Makefile."""

    code: str = SUCCEEDS

    def command(self, file: Path, *, quick: bool) -> list[str]:
        count = f"open({str(file.parent.parent / self.name)!r}, 'a').write({'q' if quick else 'w'!r});"
        return [sys.executable, "-c", count + self.code.format(file=str(file))]


SCRIPTS = (Script("first", "one"), Script("second", "two"), Script("third", "three"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the results, with a page. The commit is clean, and the steps are scripts."""
    (tmp_path / "page.md").write_text(EMPTY_PAGE)
    monkeypatch.setattr(program, "FOLDER", tmp_path)
    monkeypatch.setattr(program, "STEPS", SCRIPTS)
    monkeypatch.setattr(program, "changed_files", list)
    monkeypatch.setattr(program, "commit", lambda: "0123456789")
    return tmp_path


def proof(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr("sys.argv", ["proof", "--page", str(folder / "page.md"), *options])
    with pytest.raises(SystemExit) as exit_info:
        program.main()
    return int(exit_info.value.code or 0)


def runs_of(folder: Path) -> dict[str, str]:
    """How often each step was run: w for each whole run, q for each quick one."""
    files = {step.name: folder / step.name for step in SCRIPTS}
    return {name: file.read_text() for name, file in files.items() if file.exists()}


def rows_of(folder: Path) -> list[list[str]]:
    lines = (folder / "page.md").read_text().splitlines()
    rows = [re.split(r" *(?<!\\)\| *", line)[1:-1] for line in lines if line.startswith("| ")]
    return rows[2:]


def use(monkeypatch: pytest.MonkeyPatch, *scripts: Script) -> None:
    monkeypatch.setattr(program, "STEPS", scripts)


# --- the command


def test_each_step_is_run_and_has_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proof(folder, monkeypatch) == 0
    assert runs_of(folder) == dict.fromkeys(("first", "second", "third"), "w")
    name, date, commit, command, figure, duration, machine = rows_of(folder)[1]
    assert (name, commit, command, figure) == ("second", "0123456789", "`make two`", r"it \| holds")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    assert re.fullmatch(r"\d+ s", duration)
    assert "Python" in machine


def test_a_run_that_was_stopped_continues_behind_the_steps_that_succeeded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = SCRIPTS
    stopped = replace(second, figure=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    use(monkeypatch, first, stopped, third)
    with pytest.raises(KeyboardInterrupt):
        proof(folder, monkeypatch)
    assert [row[0] for row in rows_of(folder) if row[4] != "not run yet"] == ["first"]
    use(monkeypatch, *SCRIPTS)

    assert proof(folder, monkeypatch) == 0
    assert runs_of(folder) == {"first": "w", "second": "ww", "third": "w"}

    assert proof(folder, monkeypatch, "--only", "first,third") == 0
    assert runs_of(folder) == {"first": "ww", "second": "ww", "third": "ww"}
    monkeypatch.setattr(program, "commit", lambda: "another")
    assert proof(folder, monkeypatch) == 0
    assert runs_of(folder) == {"first": "www", "second": "www", "third": "www"}


def test_a_step_that_fails_is_in_the_table_and_is_run_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = SCRIPTS
    use(monkeypatch, first, replace(second, code=PRINTS_AND_FAILS), replace(third, code="pass"))

    assert proof(folder, monkeypatch) == 1
    figures = {row[0]: row[4] for row in rows_of(folder)}
    assert figures["second"] == "**failed** (exit status 3, second-figures.json was not written)"
    assert figures["third"] == "**failed** (third-figures.json was not written)"
    assert "Failed: second, third" in capsys.readouterr().out
    assert (folder / "0123456789" / "second.log").read_text() == "why\n"

    use(monkeypatch, *SCRIPTS)
    assert proof(folder, monkeypatch) == 0
    assert runs_of(folder) == {"first": "w", "second": "ww", "third": "ww"}
    assert [row[4] for row in rows_of(folder)] == [r"it \| holds"] * 3


def test_the_figures_of_an_earlier_run_are_not_those_of_a_run_that_writes_none(tmp_path: Path) -> None:
    step = SCRIPTS[0]
    assert run(step, "head", tmp_path, quick=False).passed

    result = run(replace(step, code="pass"), "head", tmp_path, quick=False)

    assert (result.figure, result.problem) == ("", "first-figures.json was not written")


def test_files_that_differ_from_the_commit_are_refused_unless_they_are_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "changed_files", lambda: ["wsgi.py"])
    monkeypatch.setattr(program, "commit", lambda: "0123456789+changes")

    assert proof(folder, monkeypatch) == 2
    assert "wsgi.py" in capsys.readouterr().err
    assert (folder / "page.md").read_text() == EMPTY_PAGE
    for _ in range(2):  # changed files may have changed again
        assert proof(folder, monkeypatch, "--allow-dirty", "--quick") == 0
    assert set(runs_of(folder).values()) == {"qq"}
    assert rows_of(folder)[0][:3:2] == ["first (quick)", "0123456789+changes"]


def test_a_short_form_does_not_replace_the_result_of_a_whole_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proof(folder, monkeypatch, "--only", "first") == 0
    assert proof(folder, monkeypatch, "--quick") == 0
    assert runs_of(folder) == {"first": "wq", "second": "q", "third": "q"}
    assert [row[0] for row in rows_of(folder)] == ["first", "second (quick)", "third (quick)"]

    assert proof(folder, monkeypatch) == 0
    assert [row[0] for row in rows_of(folder)] == ["first", "second", "third"]


def test_an_unknown_step_is_a_wrong_usage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proof(folder, monkeypatch, "--only", "first,fourth") == 2
    assert runs_of(folder) == {}


# --- the table


def test_rows_of_other_commits_stay_and_each_step_has_a_row(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(EMPTY_PAGE)
    page.write(file, STEPS, [RESULT])
    page.write(file, STEPS, [replace(RESULT, step="fuzz", commit="f", figure="a\n| b", seconds=59.6)])
    written = file.read_text()
    page.write(file, STEPS, [])

    assert file.read_text() == written, "a table that is read and written is the same"
    rows = {line.split(" | ")[0].strip("| "): line for line in written.splitlines() if line.startswith("| ")}
    assert [name for name in rows if name not in {"proof", "---"}] == [step.name for step in STEPS]
    assert rows["soak"] == (
        "| soak | 2026-11-30 | 0123456789 | `make soak` | answered 386,182 | 31 min 40 s | 2 x CPU, Linux |"
    )
    assert r"| a \| b | 1 min 0 s |" in rows["fuzz"]
    assert rows["boot"] == "| boot |  |  | `make boot` | not run yet |  |  |"


@each_row(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_600, "1 h 0 min"), (36_060, "10 h 1 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text


def test_the_page_has_a_row_for_each_step_and_a_place_for_each_table() -> None:
    text = (ROOT / "docs/reference/proof.md").read_text()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "| `make " in line]
    assert [name.removesuffix(page.QUICK) for name in rows] == [step.name for step in STEPS]
    for step in STEPS:
        if step.page:
            assert f"<!-- {step.name}: begin -->" in (ROOT / step.page).read_text()


# --- the steps and their figures


def test_each_step_is_a_target_of_the_makefile_with_variables_that_it_has() -> None:
    makefile = (ROOT / "Makefile").read_text()

    def check(name: object) -> None:
        (step,) = [each for each in STEPS if each.name == name]
        assert re.search(rf"^{step.target}:", makefile, re.MULTILINE)
        for variable, _ in step.quick:
            assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE)
        for file in step.files:
            assert file.name in makefile or file.suffix == ".json"
        command = step.command(Path("/f.json"), quick=True)
        assert ("--json /f.json" in command[-1]) == (not step.files)

    check_rows([step.name for step in STEPS], check)


def test_only_a_whole_step_writes_into_its_page() -> None:
    (step,) = [step for step in STEPS if step.name == "utilisation"]
    file = Path("/f.json")
    assert step.command(file, quick=False) == [
        "make",
        "utilisation",
        "OPTIONS=--json /f.json --page docs/reference/overspend.md",
    ]
    assert step.shown_command(quick=False) == "make utilisation"
    assert step.command(file, quick=True)[2].endswith("--kinds growing --ledgers memory --json /f.json")


def test_figures_of_tests_are_their_results_and_the_sums_of_what_they_recorded(tmp_path: Path) -> None:
    files = tmp_path / "a.xml", tmp_path / "b.xml"
    properties = '<properties><property name="calls" value="{}"/></properties>'
    files[0].write_text(
        f"<testsuites><testsuite><testcase>{properties.format(1_200)}</testcase>"
        "<testcase><failure/></testcase><testcase><error/></testcase></testsuite></testsuites>"
    )
    files[1].write_text(
        f"<testsuites><testsuite><testcase>{properties.format(34)}</testcase>"
        "<testcase><skipped/></testcase></testsuite></testsuites>"
    )

    assert from_junit(files) == "2 passed; 2 failed; 1 skipped; calls 1,234"
    files[0].write_text("<testsuites><testcase><skipped/></testcase></testsuites>")
    with pytest.raises(NoFiguresError, match="no test has passed"):
        from_junit(files[:1])


def test_figures_of_mutants_name_those_that_did_not_run(tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    counts = {
        "killed": 6_500,
        "survived": 918,
        "total": 7_505,
        "no_tests": 30,
        "skipped": 0,
        "suspicious": 0,
        "timeout": 50,
        "check_was_interrupted_by_user": 0,
        "segfault": 2,
    }
    file.write_text(json.dumps(counts))
    assert from_mutants([file]) == (
        "7,505 mutants; 6,500 killed; 50 by the time limit; 918 survived; 30 without a test; "
        "2 other ends; 5 not run"
    )
    file.write_text(json.dumps(dict.fromkeys(counts, 0) | {"total": 9}))
    with pytest.raises(NoFiguresError, match="no mutant has run"):
        from_mutants([file])


def test_figures_of_a_benchmark_are_its_summary(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with pytest.raises(NoFiguresError, match=r"figures\.json was not written"):
        from_summary([file])
    file.write_text('{"summary": "20 of 36 targets reached"}')
    assert from_summary([file]) == "20 of 36 targets reached"


def test_the_results_of_mutants_are_kept_if_complete_and_of_the_same_commit(tmp_path: Path) -> None:
    mutants = tmp_path / "mutants"

    def kept_after(commit: str, *, complete: bool = True) -> bool:
        mutants.mkdir(exist_ok=True)
        if complete:
            (mutants / "mutmut-stats.json").write_text("{}")
        forget_old_mutants(tmp_path / "proof", commit, mutants)
        return mutants.exists()

    assert [kept_after(commit) for commit in ("a", "a", "b", "b", "a")] == [False, True, False, True, False]
    assert not kept_after("a", complete=False)
    assert kept_after("a")


# --- figures elsewhere


def test_figures_of_speed_are_on_the_page_of_benchmarks_only() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    with_figures = {
        page.name for page in pages if re.search(r"\d µs\b|\d requests a second", page.read_text())
    }
    assert with_figures <= {"benchmarks.md", "proof.md"}


def test_each_page_of_figures_is_in_the_index_and_refers_to_the_proof() -> None:
    index, site = (ROOT / "docs/index.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    assert "docs/reference/proof.md" in (ROOT / "README.md").read_text()

    def check(name: object) -> None:
        assert f"(reference/{name}.md)" in index
        assert f"- reference/{name}.md\n" in site
        assert name in {"proof", "benchmarks"} or "(proof.md)" in (DOCS / f"{name}.md").read_text()

    check_rows(["proof", "overspend", "reliability", "benchmarks", "mutants"], check)
