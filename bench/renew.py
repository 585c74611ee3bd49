"""Run the benchmarks one after another, and write their tables into docs/reference/benchmarks.md.

    python -m bench.renew [PART ...]

Without a name it runs all parts, for more than an hour. Nothing else should run meanwhile. Each part of the
page gets the date, the commit and the machine.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from bench.options import argument_parser
from bench.pages import write_part
from bench.processes import ROOT
from bench.tables import measured_on

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PAGE = ROOT / "docs" / "reference" / "benchmarks.md"

PARTS = (
    "peers",
    "calls",
    "latency",
    "streams",
    "relay",
    "stores",
    "workers",
    "runs",
    "hold_wait",
    "levels",
    "prompts",
    "neighbour",
)
"""The modules of `bench` that print tables, each with a part of the page."""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="all if none is named")
    chosen: Sequence[str] = parser.parse_args().parts or PARTS
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    failed = [name for name in chosen if not renew(name)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def renew(name: str, page: Path = PAGE) -> bool:
    """Run a benchmark, and write what it prints into its part. Return False if it fails; nothing changes."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"bench.{name}"]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        return False
    write_part(page, name, f"\n{measured_on()}\n\n{finished.stdout.strip()}")
    return True


if __name__ == "__main__":
    main()
