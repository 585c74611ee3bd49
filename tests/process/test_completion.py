"""Completion of `ridges-proxy` in bash, zsh and fish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.missing import missing
from tests.support.table import each_row

BIN = str(Path(sys.executable).parent)

BASH = """
eval "$(ridges-proxy completion bash)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_ridges_proxy_completion ridges-proxy
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""Completes the last argument as bash does: it sets two variables, calls the function and reads a third."""

ZSH = """
compdef() { :; }
_describe() { print -l -- "${(@)completions_with_descriptions%%:*}"; }
compadd() { print -l -- $completions; }
eval "$(ridges-proxy completion zsh)"
words=("$@") CURRENT=$#
_ridges_proxy_completion
"""
"""Completes the last argument. It stands in for zsh's own functions, which need a terminal."""

FISH = """
ridges-proxy completion fish | source
complete --do-complete (string escape -- $argv | string join ' ' | string replace --regex "''\\$" '') |
    string replace --regex '\\t.*' ''
true
"""

SHELLS = {"bash": ["--norc", "-c", BASH, "bash"], "zsh": ["-f", "-c", ZSH, "zsh"], "fish": ["-N", "-c", FISH]}

ROWS = [
    (("sp",), {"spend"}),
    (("spend", "t"), {"top"}),
    (("spend", "list", "--sort", ""), {"spent", "held", "calls", "idle", "run_id"}),
    (("spend", "list", "--s"), {"--search", "--sort", "--state"}),
    (("completion", ""), set(SHELLS)),
    (("prices", ""), {"show", "check"}),
    (("--v",), {"--version"}),
]


def completed(shell: str, words: tuple[str, ...]) -> set[str]:
    program = shutil.which(shell)
    if program is None:
        missing(shell, f"apt-get install {shell}")
    done = subprocess.run(
        [program, *SHELLS[shell], "ridges-proxy", *words],
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


@each_row(("words", "expected"), ROWS)
def test_bash_completes_commands_options_and_choices(words: tuple[str, ...], expected: set[str]) -> None:
    assert completed("bash", words) == expected


@each_row(("words", "expected"), ROWS)
def test_zsh_completes_commands_options_and_choices(words: tuple[str, ...], expected: set[str]) -> None:
    assert completed("zsh", words) == expected


@each_row(("words", "expected"), ROWS)
def test_fish_completes_commands_options_and_choices(words: tuple[str, ...], expected: set[str]) -> None:
    assert completed("fish", words) == expected


def test_the_names_of_commands_are_completed_without_importing_them() -> None:
    """Each press of the key starts the program."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ridges_proxy"],
        env={
            **os.environ,
            "_RIDGES_PROXY_COMPLETE": "bash_complete",
            "COMP_WORDS": "ridges-proxy ",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "plain,spend" in done.stdout.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {name for name in imported if name.startswith("ridges_proxy.cli.")} == {
        "ridges_proxy.cli.main",
        "ridges_proxy.cli.command_help",
    }
