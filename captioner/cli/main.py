"""The `captioner` command: `captioner caption|train|score|serve`."""

from __future__ import annotations

import argparse
import importlib
import sys

from captioner import __version__
from captioner.cli.parser import Parser
from captioner.cli.recipes import RECIPES

COMMANDS = {
    "caption": ("generate", "caption images, or answer questions about them"),
    "train": ("train", "train a captioner on a data set"),
    "score": ("score", "score captions, or a checkpoint, against references"),
    "serve": ("serve", "a page for browsers, and an API for programs"),
}


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    # What follows the command is parsed by its module, --help included.
    command = parser().parse_args(words[:1]).command
    module = importlib.import_module(f"captioner.cli.{COMMANDS[command][0]}")
    program = module.PROG
    module.PROG = f"captioner {command}"  # what usage and error messages begin with
    try:
        return module.main(words[1:])
    finally:
        module.PROG = program


def parser() -> argparse.ArgumentParser:
    """The parser of the first word."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    found = Parser(
        prog="captioner",
        usage="captioner [-h] [--version] COMMAND ...",
        description="Caption images, answer questions about them; train, score, serve captioners.",
        epilog="commands (each has its own --help):\n"
        + "\n".join(lines)
        + f"\n\nconfigurations for `captioner train --config NAME`: {RECIPES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=f"captioner {__version__}")
    found.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    return found
