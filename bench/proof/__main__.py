"""Renew all long measurements, one after another, and the table of their results (docs/reference/proof.md).

    python -m bench.proof [--only STEP,…] [--quick] [--allow-dirty] [--page FILE]

Each step is a target of the Makefile. Its result is kept in build/proof, by commit. When the command is given
again, it continues: steps that have succeeded at this commit are left out, and `--only` runs them again. A
step that fails is a row of the table, too, and the next step follows. `--quick` runs the short form of each.

Exits with 1 if a step has failed, with 2 if files differ from the commit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commit import CHANGED, changed_files, commit
from bench.options import argument_parser
from bench.processes import ROOT
from bench.proof import page
from bench.proof.result import FOLDER, Result, run
from bench.proof.steps import STEPS, Step, forget_old_mutants

if TYPE_CHECKING:
    import argparse

PAGE = ROOT / "docs" / "reference" / "proof.md"


def main() -> None:
    options = parse_options()
    if (changed := changed_files()) and not options.allow_dirty:
        print(
            "These files differ from the commit (--allow-dirty measures them all the same):", file=sys.stderr
        )
        print(*changed, sep="\n", file=sys.stderr)
        sys.exit(2)
    results = [step_result(step, options) for step in options.steps]
    failed = [result.step for result in results if not result.passed]
    print(f"Failed: {', '.join(failed)}" if failed else f"All {len(results)} steps have succeeded.")
    sys.exit(bool(failed))


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    names = {step.name: step for step in STEPS}
    parser.add_argument("--only", default="", metavar="STEP,…", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="the short form of each step")
    parser.add_argument(
        "--allow-dirty", action="store_true", help="measure files that differ from the commit"
    )
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="the page with the table")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(names)
    if unknown := sorted(set(chosen) - names.keys()):
        parser.error(f"no step is named {', '.join(unknown)}")
    options.steps = [step for step in STEPS if step.name in chosen]
    return options


def step_result(step: Step, options: argparse.Namespace) -> Result:
    """Run a step, unless it has succeeded before, and write its result into the page."""
    head = commit()
    result = Result.load(FOLDER, step.name, head, quick=options.quick)
    if options.only or head.endswith(CHANGED) or not (result and result.passed):
        if step.name == "mutants":
            forget_old_mutants(FOLDER, head)
        result = run(step, head, FOLDER, quick=options.quick)
        result.save(FOLDER)
    page.write(options.page, STEPS, [result])
    print(" | ".join(page.row_of(result)), flush=True)
    return result


if __name__ == "__main__":
    main()
