"""Command-line flags of decoding, one for each field of `DecodingConfig`."""

from __future__ import annotations

import argparse
from typing import Any

from captioner.cli import positive
from captioner.config.decoding import SAMPLING

# Flag, metavar and help of each field that takes a number or words.
_NUMBERS = (
    ("max_length", "N", int, "tokens at most"),
    ("min_length", "N", int, "tokens at least"),
    ("length_penalty", "A", float, "score = log-probability / length ** A; default: 1"),
    ("groups", "G", int, "diverse beams: groups that share the beams"),
    ("diversity", "L", float, "what a word costs a group for each beam that has it"),
    ("temperature", "T", float, "of --sample: below 1 nearer to the likeliest"),
    ("top_k", "N", int, "of --sample: only the N likeliest tokens"),
    ("top_p", "P", float, "of --sample: only the likeliest tokens with P of the probability"),
    ("min_p", "P", float, "of --sample: only tokens P times as likely as the likeliest"),
    ("seed", "N", int, "of --sample; default: 0"),
    ("no_repeat_ngram", "N", int, "no N tokens twice"),
    ("repetition_penalty", "X", float, "multiplies the log-probability of tokens written before"),
)


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add the flags, all unset by default, which is as the checkpoint's configuration has it."""
    group = parser.add_argument_group("how captions are found")
    group.add_argument("--beam-size", type=positive, metavar="N", help="widened where needed")
    group.add_argument("--sample", action="store_true", help="draw captions; no beams")
    group.add_argument(
        "--must-include",
        action="append",
        metavar="W",
        help="a word or phrase, or alternatives W|W; may be repeated",
    )
    group.add_argument(
        "--ban", action="append", metavar="W", help="a word or phrase; may be repeated"
    )
    group.add_argument("--prefix", metavar="TEXT", help="what captions begin with")
    group.add_argument("--no-dangling", action="store_true", help='no end such as "... with a"')
    group.add_argument(
        "--length-form", choices=("average", "gnmt"), help="gnmt: (5 + length) / 6 as the length"
    )
    for name, metavar, kind, text in _NUMBERS:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)


def decoding_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was set, as `Captioner.caption` takes it."""
    names = [name for name, *_ in _NUMBERS]
    names += ["beam_size", "must_include", "prefix", "length_form"]
    options = {name: getattr(args, name) for name in names}
    options |= {"banned": args.ban, "no_dangling": args.no_dangling or None}
    options["method"] = "sample" if args.sample else None
    return {name: value for name, value in options.items() if value is not None}


def check_decoding(args: argparse.Namespace, *, answers: bool) -> None:
    """Exit with status 2, by `args.usage`, where flags cannot be used together."""
    options = decoding_options(args)
    if answers:
        for name in (name for name in options if name != "beam_size"):
            args.usage(f"{_flag(name)} is for captions; a question takes --beam-size alone")
    for name in SAMPLING:
        if name in options and not args.sample:
            args.usage(f"{_flag(name)} needs --sample")
    for name in ("beam_size", "groups", "diversity", "must_include"):
        if name in options and args.sample:
            args.usage(f"{_flag(name)} is of beam search and cannot be used with --sample")
    if (args.groups is None) != (args.diversity is None):
        args.usage("--groups and --diversity belong together: set both or neither")


def _flag(option: str) -> str:
    """The flag that sets an option."""
    return {"banned": "--ban", "method": "--sample"}.get(option, f"--{option.replace('_', '-')}")
