"""The ledger of `make serve`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.table import check_rows

ROOT = Path(__file__).parents[2]
FILE = "sqlite:///ridges-proxy.db"
KEYS = "CHUTES_API_KEY=a\nPROXY_API_KEY=b\n"

ROWS: list[tuple[str | None, dict[str, str], str]] = [
    # .env, environment, LEDGER_URL in the environment of the server
    (KEYS, {}, FILE),
    (f"{KEYS}# LEDGER_URL=memory://\n", {}, FILE),
    (f"{KEYS}LEDGER_URL=\n", {}, FILE),
    (f"{KEYS}LEDGER_URL=  # none\n", {}, FILE),
    (f"{KEYS}LEDGER_URL=''\n", {}, FILE),
    (f"{KEYS}LEDGER_URL=memory://\n", {}, ""),  # the server reads it from .env
    (f"{KEYS}LEDGER_URL = memory://\n", {}, ""),
    (f"{KEYS}\texport  LEDGER_URL='memory://'\n", {}, ""),
    (f"{KEYS}'LEDGER_URL'=memory://\n", {}, ""),
    (f"{KEYS}OTHER_LEDGER_URL=memory://\n", {}, FILE),
    (KEYS, {"LEDGER_URL": "redis://example"}, "redis://example"),
    (None, {"CHUTES_API_KEY": "a"}, FILE),
    (None, {"CHUTES_API_KEY": "a", "LEDGER_URL": "memory://"}, "memory://"),
]


def make_serve(folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the target in a folder whose server only prints its LEDGER_URL."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").touch()
    (programs / "ridges-proxy").write_text('#!/bin/sh\necho "$1 [$LEDGER_URL]"\n')
    (programs / "ridges-proxy").chmod(0o755)
    (folder / ".venv" / ".runs").touch()
    return subprocess.run(
        ["make", "--silent", "serve"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_ledger_is_a_file_unless_a_setting_names_another() -> None:
    def check(row: tuple[str | None, dict[str, str], str]) -> None:
        dotenv, environ, ledger_url = row
        with TemporaryDirectory() as folder:
            if dotenv is not None:
                (Path(folder) / ".env").write_text(dotenv)
            done = make_serve(Path(folder), environ)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"serve [{ledger_url}]\n", "")

    check_rows(ROWS, check)


def test_without_keys_nothing_starts(tmp_path: Path) -> None:
    done = make_serve(tmp_path, {})
    assert done.returncode != 0
    assert done.stdout == "No .env here: cp .env.example .env, and put your keys into it.\n"
