"""The packages of the peers: found on this machine, or installed into bench/.peers, once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

from bench.processes import ROOT, MissingProgramError, find_program

FOLDER = ROOT / "bench" / ".peers"
VENV = FOLDER / "venv"
PYTHON = VENV / "bin" / "python"

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(.+)")
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def require_packages(*requirements: str) -> None:
    """Install pinned packages of PyPI into an environment that only the peers use, unless they are there."""
    missing = [each for each in requirements if not is_installed(each)]
    if not missing:
        return
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    _install([str(PYTHON), "-m", "pip", "install", "--quiet", *missing])


def is_installed(requirement: str) -> bool:
    """Whether the environment of the peers has exactly this version of a package."""
    match = _REQUIREMENT.fullmatch(requirement)
    assert match, requirement
    name = match[1].replace("-", "_")
    return any(VENV.glob(f"lib/python*/site-packages/{name}-{match[2]}.dist-info"))


def require_npm_package(name: str, version: str) -> None:
    """Install a package of npm, unless this version is there."""
    description = FOLDER / "node_modules" / name / "package.json"
    if description.exists() and json.loads(description.read_text(encoding="utf-8"))["version"] == version:
        return
    npm = find_program("npm", "npm")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "package.json").write_text('{"private": true}')
    _install([npm, "install", "--silent", "--prefix", str(FOLDER), f"{name}@{version}"])


def version_of(*command: str) -> str:
    """The first version number that a command prints; "?" if it prints none."""
    match = _VERSION.search(output_of(*command))
    return match[0] if match else "?"


def output_of(*command: str) -> str:
    """The text that a command prints: nginx prints its version to stderr. Empty without such a command."""
    if shutil.which(command[0]) is None:
        return ""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return (finished.stdout + finished.stderr).strip()


def _install(command: list[str]) -> None:
    print(" ".join(command), file=sys.stderr, flush=True)  # it may take minutes
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise MissingProgramError(f"{' '.join(command[-2:])} failed: {first_error(outcome.stderr)}")


def first_error(text: str) -> str:
    """The first line that an installer marks as an error, or else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if "error" in line.lower()), lines[-1])
