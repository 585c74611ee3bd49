"""The environment of a server in production: the pinned packages of the proxy with `[fast]`, and no others.

In the environment of its developers, libraries find more packages and load them: 2 MB more in each worker.
"""

from __future__ import annotations

import subprocess
import sys

from bench.processes import ROOT

FOLDER = ROOT / "build" / "production"
PYTHON = FOLDER / "bin" / "python"
REQUIREMENTS = ("requirements.txt", "requirements-fast.txt")

_INSTALLED = FOLDER / ".installed"


def production_python() -> str:
    """The interpreter of the environment. Install it first if it is missing or has other packages."""
    pinned = "".join((ROOT / name).read_text(encoding="utf-8") for name in REQUIREMENTS)
    if not _INSTALLED.exists() or _INSTALLED.read_text(encoding="utf-8") != pinned:
        print("installing the packages of production", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        files = [argument for name in REQUIREMENTS for argument in ("-r", name)]
        install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes", *files]
        subprocess.run(install, check=True, cwd=ROOT)
        _INSTALLED.write_text(pinned, encoding="utf-8")
    return str(PYTHON)
