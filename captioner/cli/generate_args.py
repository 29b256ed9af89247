"""The flags of `generate.py`, and which of them go together."""

from __future__ import annotations

import argparse
from typing import Any

from captioner.cli.batch.args import check_folders
from captioner.cli.batch.find_images import STDIN
from captioner.cli.parser import add_tta, positive, share
from captioner.config.decoding_options import DTYPES, SAMPLING

BATCH_SIZE = 16
_BEAMS = ("groups", "diversity", "length_penalty", "length_form")
"""Options that have no effect without several beams."""

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


def add_captioning(parser: argparse.ArgumentParser) -> None:
    """Add what is described, by which checkpoint, where, and how it is printed."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="image, folder, glob, - or @LIST")
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="DIR",
        help="default: bundled; several: an ensemble",
    )
    parser.add_argument("--num-captions", type=positive, metavar="N", help="per image; default: 1")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="default: 16")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps ...")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    add_tta(parser, default=1)
    parser.add_argument("--compile", action="store_true", help="the decoder, by torch.compile")
    parser.add_argument("--jsonl", action="store_true", help="one JSON object a line")
    parser.add_argument("--stream", action="store_true", help="print words as they are found")
    parser.add_argument(
        "--attention", metavar="DIR", help="for each image, draw there where the model looked"
    )
    parser.add_argument(
        "--score", action="append", metavar="TEXT", help="rank given texts; may be repeated"
    )


def add_questions(parser: argparse.ArgumentParser) -> None:
    """Add what is asked, and how it may be answered."""
    group = parser.add_argument_group("questions")
    group.add_argument("--question", action="append", metavar="Q", help="may be repeated")
    group.add_argument("--questions", metavar="FILE", help="one a line, or JSONL with images")
    group.add_argument("--ask", action="store_true", help="a session on one image")
    group.add_argument(
        "--answers", metavar="A,B,...", help="the only ones allowed; @FILE: one a line"
    )
    group.add_argument("--num-answers", type=positive, metavar="N", help="at most; default: 1")
    group.add_argument(
        "--min-confidence", type=share, metavar="P", help="answer `unsure` below; 0 to 1"
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of `DecodingConfig`; unset, it is as the checkpoint has it."""
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


def kinds_asked(args: argparse.Namespace) -> list[str]:
    """The flags that ask questions in the place of captions."""
    kinds = {
        "--question": args.question is not None,
        "--questions": args.questions is not None,
        "--ask": args.ask,
    }
    return [name for name, given in kinds.items() if given]


def check(args: argparse.Namespace) -> None:
    """Exit with status 2 if the arguments cannot be used together; set the batch size."""
    asked = kinds_asked(args)
    if len(asked) > 1:
        args.usage(f"{' and '.join(asked)}: give one of them")
    if not args.paths and asked != ["--questions"]:
        args.usage("the following arguments are required: PATH")
    if args.recursive and set(args.paths) == {STDIN}:
        args.usage("--recursive has no effect: - (stdin) is one image")
    check_folders(args, asked)
    check_decoding(args, answers=bool(asked) and not args.stream)
    _check_special(args, asked)
    if args.attention and (asked or args.score or args.stream or STDIN in args.paths):
        args.usage("--attention is of captions of files: no questions, --score, --stream or -")
    _check_answers(args, asked)
    args.batch_size = args.batch_size or BATCH_SIZE


def _check_answers(args: argparse.Namespace, asked: list[str]) -> None:
    """Refuse options of answers without a question, and what a question cannot take."""
    for name in ("answers", "num_answers", "min_confidence"):
        if getattr(args, name) is not None and not asked:
            option = name.replace("_", "-")
            args.usage(f"--{option} needs --question, --questions or --ask")
    if args.num_captions and asked:
        args.usage(f"--num-captions: {asked[0]} asks for answers; see --num-answers")
    if args.ask and len(args.paths) > 1:
        args.usage(f"--ask is about one image, not {len(args.paths)}")
    if args.ask and STDIN in args.paths:
        args.usage("--ask reads the questions from stdin; name the image by its path")
    if args.ask and args.batch_size:
        args.usage("--batch-size cannot be used with --ask, which answers one by one")
    if args.answers is not None and not all(map(str.strip, args.answers.split(","))):
        args.usage(f"--answers {args.answers!r}: an answer in it is empty")


def _check_special(args: argparse.Namespace, asked: list[str]) -> None:
    """Refuse what --score and --stream, which take at most one question, do not use."""
    special = "--score" if args.score else "--stream"
    if not args.score and not args.stream:
        return
    others = {
        "--stream": args.score and args.stream,
        "--num-captions": args.num_captions,
        "--answers": args.answers,
        "--num-answers": args.num_answers,
        "--min-confidence": args.min_confidence is not None,
        "--batch-size": args.batch_size,
        "--jsonl": args.stream and args.jsonl,
        "--compile": args.score and args.compile,
        **{name: name in asked for name in ("--questions", "--ask")},
    }
    for name, given in others.items():
        if given:
            args.usage(f"{name} cannot be used with {special}")
    if len(args.question or ()) > 1:
        args.usage(f"{special} takes one --question, not {len(args.question)}")
    if args.score and decoding_options(args):
        args.usage("--score searches for nothing; leave out the options of how captions are found")
    if args.stream and (args.beam_size or 1) > 1:
        args.usage("--beam-size cannot be used with --stream, which decodes word by word")


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the rows of a run depend on, without the checkpoint, and what is beside them."""
    names = ("dtype", "num_captions", "question", "csv", "alt_length", "sidecar", "write_xmp")
    names += ("in_place", "attention")
    settings = {name: getattr(args, name) for name in names} | decoding_options(args)
    settings["looks"] = args.tta > 1 and args.tta
    return {name: value for name, value in settings.items() if value not in (None, False)}


def check_decoding(args: argparse.Namespace, *, answers: bool) -> None:
    """Exit with status 2, by `args.usage`, if options of decoding cannot be used together."""
    options = decoding_options(args)
    if answers:
        for name in (name for name in options if name != "beam_size"):
            args.usage(f"{_flag(name)} is for captions; a question takes --beam-size alone")
    for name in SAMPLING:
        if name in options and not args.sample:
            args.usage(f"{_flag(name)} needs --sample")
    for name in ("beam_size", "must_include", *_BEAMS):
        if name in options and args.sample:
            args.usage(f"{_flag(name)} is of beam search and cannot be used with --sample")
    for name in _BEAMS:
        if name in options and args.stream:
            args.usage(f"{_flag(name)} is of beam search and cannot be used with --stream")
    if (args.groups is None) != (args.diversity is None):
        args.usage("--groups and --diversity belong together: set both or neither")
    if args.prefix is not None and not args.prefix.strip():
        args.usage("--prefix is empty; give the words that captions begin with")


def _flag(option: str) -> str:
    """The flag that sets an option."""
    return {"banned": "--ban", "method": "--sample"}.get(option, f"--{option.replace('_', '-')}")
