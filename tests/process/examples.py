"""Run the examples of the docs, unchanged, against a demo."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.process.fake_chutes_control import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text("utf-8")
    for path in (ROOT / "docs").rglob("*.md")
}
DOCS["README.md"] = (ROOT / "README.md").read_text("utf-8")
DOCS["deploy/README.md"] = (ROOT / "deploy" / "README.md").read_text("utf-8")


def blocks(name: str, language: str = "sh") -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS[name], re.MULTILINE | re.DOTALL)


@contextmanager
def demo() -> Iterator[str]:
    """Start the demo, as `make demo` does. Yields its URL."""
    command = [sys.executable, "-m", "ridges_proxy", "demo", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(found[0] for line in lines if (found := re.findall(r"http://[\d.]+:\d+", line)))
        assert any("Ctrl-C" in line for line in lines)
        yield url
        process.terminate()
        assert process.wait(30) == 0


def run(block: str, url: str) -> str:
    """Run a block of shell commands against the demo, with this environment's programs. Return the output."""
    script = block.replace("http://127.0.0.1:8000", url).replace(
        ".venv/bin", str(Path(sys.executable).parent)
    )
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
    assert (done.returncode, done.stderr) == (0, ""), script
    return done.stdout


def python(block: str, url: str) -> str:
    """Run a block of Python against the demo. Return the output."""
    script = block.replace("http://127.0.0.1:8000", url)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=150
    )
    assert (done.returncode, done.stderr) == (0, ""), script
    return done.stdout
