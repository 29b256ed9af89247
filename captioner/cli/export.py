"""Write ONNX graphs of a checkpoint: `captioner export`.

With graphs, ONNX Runtime captions images on a CPU without torch and in less time. The graphs are
written next to model.safetensors and read their weights from that file, so that they add less than
1 MB. They must be written again when the weights change.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

from dataclasses import dataclass

from captioner.checkpoint.graph_files import GraphDtype
from captioner.cli.parser import Parser, select_options
from captioner.cli.process import run_command


@dataclass(frozen=True)
class ExportOptions:
    """The arguments of the command."""

    checkpoint: str
    dtype: GraphDtype


def main(argv: list[str] | None = None, *, prog: str = "captioner export") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "captioner export") -> ExportOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(prog=prog, description=__doc__)
    text = "Folder of the checkpoint, such as the best/ of a training run, or bundled."
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=text)
    text = (
        "int8 also writes graphs for --dtype int8, whose linear layers compute with 8-bit integers."
        " Default: float32."
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "int8"), help=text)
    return select_options(ExportOptions, vars(parser.parse(argv)))


def run(options: ExportOptions) -> int:
    """Write the graphs and print their paths; return the exit status."""
    # Imported here so that --help does not import torch.
    from captioner.export.onnx_graphs import export_graphs

    for path in export_graphs(options.checkpoint, dtype=options.dtype):
        print(path)
    return 0
