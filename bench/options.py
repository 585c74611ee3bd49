"""Command-line options that the benchmarks share."""

from __future__ import annotations

import argparse


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that prints the module's docstring as its help, line by line."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)


def rounds_parser(description: str | None, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """A parser with `--rounds` and `--seconds`, which have these defaults."""
    parser = argument_parser(description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of each measurement ({rounds})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"duration of a round ({seconds:g})")
    return parser
