"""The flags of `captioner caption`, and the options that they set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

from captioner.cli.generate_options import (
    ALT_LENGTH,
    BATCH_SIZE,
    BatchOptions,
    CaptionOptions,
    DecodingOptions,
    OutputOptions,
    QuestionOptions,
)
from captioner.cli.parser import Parser, add_tta, positive, share
from captioner.config.decoding_options import DTYPES

COPIES = "captioned"
"""The folder of the copies that --write-xmp makes if it names none."""

# Name, metavar, type and help of the decoding options that take a number.
_BEAM_NUMBERS = (
    ("max_length", "N", int, "The greatest length of a caption in tokens."),
    ("min_length", "N", int, "The least length of a caption in tokens."),
    (
        "length_penalty",
        "A",
        float,
        "Rank captions by log-probability / length ** A: a greater A favors longer captions.",
    ),
    ("groups", "G", int, "Diverse beam search: divide the beams into G groups."),
    (
        "diversity",
        "L",
        float,
        "Diverse beam search: subtract L from the log-probability of a token for each beam of an"
        " earlier group that has chosen it.",
    ),
    ("no_repeat_ngram", "N", int, "Never write the same N tokens in a row twice; 0 turns it off."),
    (
        "repetition_penalty",
        "X",
        float,
        "Multiply the log-probability of tokens that the caption already has by X.",
    ),
)
_SAMPLING_NUMBERS = (
    (
        "temperature",
        "T",
        float,
        "Divide the logits by T: below 1, likely tokens become more likely.",
    ),
    ("top_k", "N", int, "Draw only from the N likeliest tokens; 0 is all tokens."),
    ("top_p", "P", float, "Draw only from the likeliest tokens with a total probability of P."),
    ("min_p", "P", float, "Draw only tokens that are at least P times as likely as the likeliest."),
    ("seed", "N", int, "The seed of the random numbers. Default: 0."),
)


def add_flags(parser: Parser) -> None:
    """Add all flags of the command."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="An image, a folder, a glob pattern, - or @LIST."
    )
    parser.add_argument(
        "--recursive", action="store_true", help="Also take the images in folders below folders."
    )
    _add_model(parser)
    _add_output(parser)
    add_decoding(parser)
    _add_questions(parser)
    _add_rows(parser)
    _add_batch(parser)


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint",
        action="append",
        metavar="DIR",
        help="The folder of a checkpoint. Given several times, the models form an ensemble."
        " Default: bundled, the checkpoint that comes with the package.",
    )
    group.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help=f"Number of images, or of questions, in a batch. Default: {BATCH_SIZE}.",
    )
    group.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:1, mps or another device. Default: cpu."
    )
    group.add_argument(
        "--dtype",
        default="float32",
        choices=DTYPES,
        help="The type of weights and arithmetic; auto is the fastest of the device."
        " Default: float32.",
    )
    add_tta(group, default=1)
    group.add_argument(
        "--compile", action="store_true", help="Compile the decoder with torch.compile."
    )


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--num-captions",
        type=positive,
        metavar="N",
        help="Number of captions of each image. Default: 1.",
    )
    group.add_argument("--jsonl", action="store_true", help="Print one JSON object per line.")
    group.add_argument("--csv", action="store_true", help="Print, or write, CSV with a header.")
    group.add_argument(
        "--stream", action="store_true", help="Print each word as soon as it is decoded."
    )
    group.add_argument(
        "--score",
        action="append",
        metavar="TEXT",
        help="Rank the given texts instead of writing a caption. May be repeated.",
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of `DecodingConfig`."""
    group = parser.add_argument_group(
        "decoding", "Options that are not given have the value in the checkpoint's configuration."
    )
    group.add_argument(
        "--beam-size",
        type=positive,
        metavar="N",
        help="Number of beams; raised to the number of captions or answers if it is smaller.",
    )
    _add_numbers(group, _BEAM_NUMBERS)
    group.add_argument(
        "--length-form",
        choices=("average", "gnmt"),
        help="The length in the formula of --length-penalty: the number of tokens, or with gnmt"
        " (5 + number of tokens) / 6.",
    )
    group.add_argument(
        "--must-include",
        action="append",
        metavar="W",
        help="A word or phrase that each caption must contain; W|W are alternatives. May be"
        " repeated.",
    )
    group.add_argument(
        "--ban",
        dest="banned",
        action="append",
        metavar="W",
        help="A word or phrase that no caption may contain. May be repeated.",
    )
    group.add_argument("--prefix", metavar="TEXT", help="The words that each caption begins with.")
    group.add_argument(
        "--no-dangling",
        action="store_true",
        default=None,
        help='Do not end a caption on a word such as "with" or "a", which others must follow.',
    )
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--sample",
        dest="method",
        action="store_const",
        const="sample",
        help="Draw captions at random instead of searching with beams.",
    )
    _add_numbers(group, _SAMPLING_NUMBERS)


def _add_numbers(
    group: argparse._ArgumentGroup, numbers: tuple[tuple[str, str, Callable[[str], Any], str], ...]
) -> None:
    for name, metavar, kind, text in numbers:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)


def _add_questions(parser: Parser) -> None:
    group = parser.add_argument_group("questions")
    group.add_argument(
        "--question",
        dest="questions",
        action="append",
        metavar="Q",
        help="Ask this question about each image. May be repeated.",
    )
    group.add_argument(
        "--questions",
        dest="file",
        metavar="FILE",
        help="Ask the questions in a text file, one per line, or in JSONL rows that name images.",
    )
    group.add_argument(
        "--ask",
        dest="interactive",
        action="store_true",
        help="Answer questions about one image that are typed on stdin, one per line.",
    )
    group.add_argument(
        "--answers",
        metavar="A,B,...",
        help="Allow only these answers. @FILE reads them from a text file, one per line.",
    )
    group.add_argument(
        "--num-answers",
        type=positive,
        metavar="N",
        help="The greatest number of answers to each question. Default: 1.",
    )
    group.add_argument(
        "--min-confidence",
        type=share,
        metavar="P",
        help="Answer `unsure` if the confidence, from 0 to 1, is below P. Default: 0.",
    )


def _add_rows(parser: Parser) -> None:
    group = parser.add_argument_group("rows in a file")
    group.add_argument(
        "--output",
        dest="path",
        metavar="FILE",
        help="Write one row per image to FILE: CSV if its name ends in .csv, else JSONL.",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="Continue the file of --output. Images whose file has changed are done again.",
    )
    group.add_argument(
        "--retry-failed", action="store_true", help="With --resume, also replace rows with errors."
    )
    group.add_argument(
        "--errors-to",
        metavar="FILE",
        help="Write the path and the error of each failed input to FILE: JSONL if its name ends in"
        " .jsonl, else separated by a tab.",
    )


def _add_batch(parser: Parser) -> None:
    group = parser.add_argument_group("files for each image")
    group.add_argument(
        "--sidecar", action="store_true", help="Write the caption of photo.jpg to photo.txt."
    )
    group.add_argument(
        "--write-xmp",
        nargs="?",
        const=COPIES,
        metavar="DIR",
        help="Write copies of JPEG, PNG and WebP files with the caption in their XMP metadata."
        f" DIR is the folder of the copies. Default: {COPIES}.",
    )
    group.add_argument(
        "--in-place",
        action="store_true",
        help="With --write-xmp, write to the images themselves and make no copies.",
    )
    group.add_argument(
        "--attention",
        metavar="DIR",
        help="Write an image to DIR that shows the attention for each word of the caption.",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="Replace other texts and images (--sidecar, --write-xmp, --attention).",
    )
    group.add_argument(
        "--alt-text",
        action="store_true",
        help="Turn each caption into one sentence, for use as alternative text.",
    )
    group.add_argument(
        "--alt-length",
        type=positive,
        metavar="N",
        help="With --alt-text, the greatest length of the sentence in characters."
        f" Default: {ALT_LENGTH}.",
    )


Options = TypeVar(
    "Options", CaptionOptions, DecodingOptions, QuestionOptions, OutputOptions, BatchOptions
)


def read_options(args: argparse.Namespace) -> CaptionOptions:
    """Return the options that the flags set."""
    values = vars(args)
    nested = {
        "decoding": _select(DecodingOptions, values),
        "questions": _select(QuestionOptions, values),
        "output": _select(OutputOptions, values),
        "batch": _select(BatchOptions, values),
    }
    return _select(CaptionOptions, values | nested)


def _select(kind: type[Options], values: dict[str, Any]) -> Options:
    """Return the dataclass with those of the values that are its fields."""
    return kind(**{name: values[name] for name in kind.__dataclass_fields__})
