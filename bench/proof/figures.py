"""The figures of a step, from the files that its command has written."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class NoFiguresError(Exception):
    """The command has left no figures, or has run nothing."""


def from_summary(files: Sequence[Path]) -> str:
    """Return the summary that a benchmark has written with `--json`."""
    return "; ".join(str(json.loads(_text(file))["summary"]) for file in files)


def from_junit(files: Sequence[Path]) -> str:
    """Return the results of tests by their number, and the sums of the numbers that they have recorded."""
    results: Counter[str] = Counter()
    recorded: Counter[str] = Counter()
    for file in files:
        for case in ET.fromstring(_text(file)).iter("testcase"):
            results[_result(case)] += 1
            for each in case.iter("property"):
                recorded[each.attrib["name"]] += int(each.attrib["value"])
    if not results["passed"]:
        raise NoFiguresError("no test has passed")
    parts = [f"{results[name]:,} {name}" for name in ("passed", "failed", "skipped") if results[name]]
    return "; ".join([*parts, *(f"{name} {total:,}" for name, total in recorded.items())])


def from_mutants(files: Sequence[Path]) -> str:
    """Return what became of the mutants."""
    (file,) = files
    counts: Counter[str] = Counter(json.loads(_text(file)))
    total = counts.pop("total")
    names = ("killed", "timeout", "survived", "no_tests", "suspicious", "segfault", "skipped")
    if not sum(counts[name] for name in names):
        raise NoFiguresError("no mutant has run")
    parts = {
        "killed": counts["killed"],
        "by the time limit": counts["timeout"],
        "survived": counts["survived"],
        "without a test": counts["no_tests"],
        "other ends": counts["suspicious"] + counts["segfault"] + counts["skipped"],
        "not run": total - sum(counts[name] for name in names),
    }
    return f"{total:,} mutants; " + "; ".join(f"{count:,} {name}" for name, count in parts.items() if count)


def _result(case: ET.Element) -> str:
    if case.find("skipped") is not None:
        return "skipped"
    return "passed" if case.find("failure") is None and case.find("error") is None else "failed"


def _text(file: Path) -> str:
    if not file.exists():
        raise NoFiguresError(f"{file.name} was not written")
    return file.read_text("utf-8")
