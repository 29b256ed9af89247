"""The `captioner` command: `captioner caption|train|score|check|export|...`."""

from __future__ import annotations

import importlib
import sys

from captioner import __version__
from captioner.cli.parser import Parser
from captioner.cli.recipes import RECIPES

COMMANDS = {
    "caption": ("generate", "Write captions for images, or answer questions about them."),
    "train": ("train", "Train a captioner on a data set."),
    "score": ("score", "Score captions, answers or a checkpoint against references."),
    "check": ("check", "Report faults of a data set, and write a cleaned copy of its rows."),
    "export": ("export", "Write ONNX graphs of a checkpoint, which run without torch."),
    "serve": ("serve", "Serve a web page for people and an HTTP API for programs."),
    "web": ("web", "Write a static web page that captions images in the browser."),
    "push": ("push", "Publish a checkpoint on the Hugging Face Hub, with a model card."),
    "scale": ("scale", "Caption very many images on a cluster, or answer questions."),
}
"""The module in `captioner.cli` and the description of each command."""


def main(argv: list[str] | None = None) -> int:
    """Run one of the commands; return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    # The module of the command parses the rest, --help included.
    command = build_parser().parse(words[:1]).command
    module = importlib.import_module(f"captioner.cli.{COMMANDS[command][0]}")
    status: int = module.main(words[1:], prog=f"captioner {command}")
    return status


def build_parser() -> Parser:
    """Return the parser of the first argument, which names the command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {description}" for name, (_, description) in COMMANDS.items()]
    parser = Parser(
        prog="captioner",
        usage="captioner [-h] [--version] COMMAND ...",
        description="Caption images, answer questions about them, and train, score, export and"
        " serve the models that do this.",
        epilog="commands (`captioner COMMAND --help` describes the options of one):\n"
        + "\n".join(lines)
        + f"\n\nconfigurations for `captioner train --config NAME`: {RECIPES}",
    )
    parser.add_argument("--version", action="version", version=f"captioner {__version__}")
    text = f"One of {', '.join(COMMANDS)}."
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=text)
    return parser
