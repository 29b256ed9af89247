"""The flags of `score.py`, and which of them can be used together."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from captioner.cli.parser import Parser, add_tta, positive
from captioner.config.decoding_options import DTYPES

_CHECKPOINT_DEFAULTS = {
    "beam_size": None,
    "batch_size": 16,
    "device": "cpu",
    "dtype": "float32",
    "tta": 1,
}
"""Options of how a checkpoint is used; None on the command line until `check` has run."""
_WITHOUT_EFFECT = (
    "augment",
    "weight",
    "lowercase",
    "captions_per_image",
    "questions_per_image",
    "workers",
)
"""Settings of `data` that change training, and not which rows are held out."""


def build_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of `score.py`."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} CANDIDATES --references PATH [options]\n"
        f"       {prog} --checkpoint DIR --references PATH [options]\n"
        f"       {prog} --checkpoint DIR --held-out [key=value ...] [options]\n"
        f"       {prog} compare A B --references PATH [options]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        settings=True,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="CANDIDATES",
        help="JSONL, JSON, CSV or -; key=value with --held-out",
    )
    parser.add_argument("--references", metavar="PATH", help="data set or its file")
    parser.add_argument("--format", default="auto", metavar="NAME", help="of the data set")
    parser.add_argument(
        "--split",
        action="append",
        metavar="NAME[,NAME]",
        help="which images; default: val, or the only split that the data set has",
    )
    parser.add_argument("--images", metavar="DIR", help="folder of the data set's images")
    parser.add_argument(
        "--questions", action="store_true", help="those made from the data set's captions"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of these, and of the shuffled images"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _add_checkpoint(parser)
    return parser


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("captioning or answering first")
    group.add_argument("--checkpoint", metavar="DIR", help="a checkpoint folder, or bundled")
    group.add_argument("--held-out", action="store_true", help="what its training left out")
    group.add_argument("--only", metavar="NAME", help="the task of this name alone (--held-out)")
    group.add_argument(
        "--blind", metavar="DIR", help="the control trained on the same with model.blind=true"
    )
    group.add_argument(
        "--output", metavar="FILE", help="keep the texts as JSONL; answers in VQA's format if .json"
    )
    group.add_argument("--beam-size", type=positive, metavar="N")
    group.add_argument(
        "--batch-size", type=positive, metavar="N", help="images or questions; default: 16"
    )
    group.add_argument("--device", help="cpu (default), cuda, cuda:1, mps ...")
    group.add_argument("--dtype", choices=DTYPES, help="default: float32")
    add_tta(group, default=None)


def check(args: argparse.Namespace) -> None:
    """Exit with status 2, by `args.usage`, if the arguments cannot be used together."""
    args.compared = args.words[1:] if args.words[:1] == ["compare"] else None
    args.overrides = args.words if args.held_out else []
    args.candidates = None
    if args.compared is not None:
        _check_compared(args)
    elif args.held_out:
        _check_held_out(args)
    else:
        _check_references(args)
    for name, default in _CHECKPOINT_DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)


def is_checkpoint(word: str) -> bool:
    """Return whether a word of `compare` is a checkpoint and not a file of captions."""
    return word == "bundled" or Path(word).is_dir()


def is_official(args: argparse.Namespace) -> bool:
    """Return whether answers are kept in the format of VQA's server."""
    return bool(args.output) and args.output.lower().endswith(".json")


def _check_compared(args: argparse.Namespace) -> None:
    if len(args.compared) != 2 or not args.references:
        args.usage("compare takes two files of captions or checkpoints, and --references")
    for name in ("checkpoint", "held_out", "only", "blind", "output", "questions"):
        if getattr(args, name):
            args.usage(f"{_flag(name)} does not go with compare")
    if not any(map(is_checkpoint, args.compared)):
        _refuse_checkpoint_options(args, "two files are compared and no checkpoint is used")


def _check_held_out(args: argparse.Namespace) -> None:
    if not args.checkpoint:
        args.usage("--held-out needs --checkpoint")
    for name in ("references", "format", "split", "images", "questions"):
        if getattr(args, name) not in (None, False, "auto"):
            args.usage(f"{_flag(name)}: --held-out takes it from the checkpoint's configuration")
    for word in args.overrides:
        keys = word.partition("=")[0].split(".")
        if "=" in word and (keys[0] != "data" or keys[-1] in _WITHOUT_EFFECT):
            args.usage(
                f"{word}: changes nothing that is scored; --held-out takes settings of where the"
                " data lies and of what is held out, such as data.root=PATH"
            )
    if is_official(args):
        args.usage("--output: a .json file holds the answers of one task; name a .jsonl file")
    _check_output(args)


def _check_references(args: argparse.Namespace) -> None:
    if not args.references:
        args.usage("give --references, or --held-out with --checkpoint")
    if len(args.words) > 1 or bool(args.words) == bool(args.checkpoint):
        args.usage("give either CANDIDATES or --checkpoint")
    args.candidates = args.words[0] if args.words else None
    if args.only:
        args.usage("--only needs --held-out")
    if not args.checkpoint:
        for name in ("output", "blind"):
            if getattr(args, name):
                args.usage(f"{_flag(name)} needs --checkpoint")
        _refuse_checkpoint_options(args, "a file is scored and no checkpoint is used")
    _check_output(args)


def _refuse_checkpoint_options(args: argparse.Namespace, reason: str) -> None:
    for name in (*_CHECKPOINT_DEFAULTS, "images"):
        if getattr(args, name) is not None:
            args.usage(f"{_flag(name)} has no effect: {reason}")


def _check_output(args: argparse.Namespace) -> None:
    """Refuse an output of another format, and one that would replace the references."""
    if not args.output:
        return
    if args.output.lower().endswith((".csv", ".tsv")):
        args.usage(f"--output {args.output}: the texts are kept as JSONL; name a .jsonl file")
    if args.references and os.path.exists(args.output):
        output, data = (os.path.realpath(path) for path in (args.output, args.references))
        if output == data or output.startswith(data + os.sep):
            args.usage(f"--output {args.output}: is a file of the data set; give another name")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
