"""Write a static web page that captions images in the browser: `captioner web`.

The page runs the model in the browser: images are not sent to a server. The folder can be copied to
any static host. To try it on this machine: `python -m http.server --directory OUT`, then open
http://localhost:8000.

Exit status: 0 written; 1 the checkpoint or the built page cannot be used; 2 wrong usage.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from captioner.cli.parser import Parser, select_options
from captioner.cli.process import notify, run_command
from captioner.export.website import write_site


@dataclass(frozen=True)
class WebOptions:
    """The arguments of the command."""

    out: str
    checkpoint: str
    site: str | None


def main(argv: list[str] | None = None, *, prog: str = "captioner web") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "captioner web") -> WebOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(prog=prog, description=__doc__)
    text = "Folder to write. An existing one is replaced if this command has written it."
    parser.add_argument("out", metavar="OUT", help=text)
    text = "Checkpoint with ONNX graphs: a folder, hf-hub:USER/NAME, or bundled (default)."
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR", help=text)
    text = "Folder of the built page. Default: web/dist of the checkout around the current folder."
    parser.add_argument("--site", default=None, metavar="DIR", help=text)
    return select_options(WebOptions, vars(parser.parse(argv)))


def run(options: WebOptions) -> int:
    """Write the site; return the exit status."""
    page = None if options.site is None else Path(options.site)
    ignored = write_site(Path(options.out), options.checkpoint, page)
    if ignored:
        notify(f"the page ignores {', '.join(ignored)}")
    return 0
