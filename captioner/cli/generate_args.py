"""The flags of `captioner caption`, and the options that they set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from captioner.cli.generate_options import (
    ALT_LENGTH,
    BATCH_SIZE,
    BatchOptions,
    CaptionOptions,
    DecodingOptions,
    OutputOptions,
    QuestionOptions,
)
from captioner.cli.parser import Parser, add_inference, positive, select_options, share

COPIES = "captioned"
"""The folder of the copies that --write-xmp makes if it names none."""

# Name, metavar, type and help of the decoding options that take a number.
_BEAM_NUMBERS = (
    ("max_length", "N", int, "Maximum length of a caption in tokens."),
    ("min_length", "N", int, "Minimum length of a caption in tokens."),
    ("length_penalty", "A", float, "Rank captions by log-probability / length ** A."),
    ("groups", "G", int, "Diverse beam search: divide the beams into G groups."),
    ("diversity", "L", float, "Diverse beam search: subtract L from the log-probability of a token"
     " for each beam of an earlier group that has chosen it."),
    ("no_repeat_ngram", "N", int, "Never write the same N tokens in a row twice; 0 turns it off."),
    ("repetition_penalty", "X", float, "Multiply the log-probability of tokens that the caption"
     " already has by X."),
)  # fmt: skip
_SAMPLING_NUMBERS = (
    ("temperature", "T", float, "Divide the logits by T; a T below 1 favors likely tokens."),
    ("top_k", "N", int, "Draw only from the N likeliest tokens; 0 is all tokens."),
    ("top_p", "P", float, "Draw only from the likeliest tokens with a total probability of P."),
    ("min_p", "P", float, "Draw only tokens that are at least P times as likely as the likeliest."),
    ("seed", "N", int, "The seed of the random numbers. Default: 0."),
)


def add_flags(parser: Parser) -> None:
    """Add all flags of the command."""
    text = "An image, a folder, a glob pattern, - or @LIST."
    parser.add_argument("paths", nargs="*", metavar="PATH", help=text)
    _switch(parser, "--recursive", "Include images in subfolders.")
    text = "A recording beside each image, for a model that takes both."
    _value(parser, "--audio", "FILE", text)
    _add_model(parser)
    _add_output(parser)
    add_decoding(parser)
    _add_questions(parser)
    _add_rows(parser)
    _add_batch(parser)


def _switch(parser: argparse._ActionsContainer, flag: str, text: str, **options: Any) -> None:
    parser.add_argument(flag, action="store_true", help=text, **options)


def _value(
    parser: argparse._ActionsContainer, flag: str, metavar: str, text: str, **options: Any
) -> None:
    parser.add_argument(flag, metavar=metavar, help=text, **options)


def _repeatable(
    parser: argparse._ActionsContainer, flag: str, metavar: str, text: str, **options: Any
) -> None:
    _value(parser, flag, metavar, f"{text} May be repeated.", action="append", **options)


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    text = (
        "A checkpoint: a folder, hf-hub:USER/NAME[@REVISION] of the Hugging Face Hub, or bundled"
        " (default). Several form an ensemble."
    )
    _repeatable(group, "--checkpoint", "DIR", text)
    text = f"Number of images, or of questions, in a batch. Default: {BATCH_SIZE}."
    _value(group, "--batch-size", "N", text, type=positive)
    add_inference(group)
    _switch(group, "--compile", "Compile the decoder with torch.compile.")


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    text = "Number of captions of each image. Default: 1."
    _value(group, "--num-captions", "N", text, type=positive)
    _switch(group, "--jsonl", "Print one JSON object per line.")
    _switch(group, "--csv", "Print CSV with a header, or write it with --output.")
    _switch(group, "--stream", "Print each word as soon as it is decoded.")
    _repeatable(group, "--score", "TEXT", "Rank the given texts instead of writing a caption.")


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of `DecodingConfig`."""
    text = "Options that are not given have the value in the checkpoint's configuration."
    group = parser.add_argument_group("decoding", text)
    text = "Number of beams; raised to the number of captions or answers if it is smaller."
    _value(group, "--beam-size", "N", text, type=positive)
    _add_numbers(group, _BEAM_NUMBERS)
    text = "The length in the formula of --length-penalty: average is the number of tokens, gnmt"
    text += " is (5 + number of tokens) / 6."
    group.add_argument("--length-form", choices=("average", "gnmt"), help=text)
    text = "A word or phrase that each caption must contain; W|W are alternatives."
    _repeatable(group, "--must-include", "W", text)
    _repeatable(group, "--ban", "W", "A word or phrase that no caption may contain.", dest="banned")
    _value(group, "--prefix", "TEXT", "The words that each caption begins with.")
    text = 'Do not end a caption on a word such as "with" or "a", which others must follow.'
    _switch(group, "--no-dangling", text, default=None)
    group = parser.add_argument_group("sampling")
    text = "Draw captions at random instead of searching with beams."
    group.add_argument("--sample", dest="method", action="store_const", const="sample", help=text)
    _add_numbers(group, _SAMPLING_NUMBERS)


def _add_numbers(
    group: argparse._ArgumentGroup, numbers: tuple[tuple[str, str, Callable[[str], Any], str], ...]
) -> None:
    for name, metavar, kind, text in numbers:
        _value(group, f"--{name.replace('_', '-')}", metavar, text, type=kind)


def _add_questions(parser: Parser) -> None:
    group = parser.add_argument_group("questions")
    _repeatable(group, "--question", "Q", "Ask this question about each image.", dest="questions")
    text = "Ask the questions in a text file, one per line, or in JSONL rows that name images."
    _value(group, "--questions", "FILE", text, dest="file")
    text = "Answer questions about one image that are typed on stdin, one per line."
    _switch(group, "--ask", text, dest="interactive")
    text = "Allow only these answers. @FILE reads them from a text file, one per line."
    _value(group, "--answers", "A,B,...", text)
    text = "Maximum number of answers to each question. Default: 1."
    _value(group, "--num-answers", "N", text, type=positive)
    text = "Answer `unsure` if the confidence, from 0 to 1, is below P. Default: 0."
    _value(group, "--min-confidence", "P", text, type=share)


def _add_rows(parser: Parser) -> None:
    group = parser.add_argument_group("rows in a file")
    text = "Write one row per image to FILE: CSV if its name ends in .csv, else JSONL."
    _value(group, "--output", "FILE", text, dest="path")
    text = "Continue the file of --output. Images whose file has changed are done again."
    _switch(group, "--resume", text)
    _switch(group, "--retry-failed", "With --resume, also replace rows with errors.")
    text = "Write path and error of each failed input to FILE: JSONL if its name ends in .jsonl,"
    _value(group, "--errors-to", "FILE", f"{text} else separated by a tab.")


def _add_batch(parser: Parser) -> None:
    group = parser.add_argument_group("files for each image")
    _switch(group, "--sidecar", "Write the caption of photo.jpg to photo.txt.")
    text = "Write copies of JPEG, PNG and WebP files with the caption in their XMP metadata."
    text += f" DIR is the folder of the copies. Default: {COPIES}."
    _value(group, "--write-xmp", "DIR", text, nargs="?", const=COPIES)
    _switch(group, "--in-place", "With --write-xmp, change the images and make no copies.")
    text = (
        "Write the caption of photo.jpg to the XMP sidecar photo.jpg.xmp. An existing photo.xmp or"
    )
    _switch(group, "--xmp-sidecar", f"{text} photo.jpg.xmp is changed and keeps its other content.")
    text = (
        "Names of new XMP sidecars: full is photo.cr2.xmp (darktable, digiKam), stem is photo.xmp"
    )
    text += " (Lightroom). Default: full."
    group.add_argument("--xmp-names", choices=("full", "stem"), help=text)
    text = "Add the nouns of the caption as keywords: in rows, printed lines and XMP (dc:subject)."
    _switch(group, "--keywords", text)
    text = "Write and print keywords in place of the caption; rows have both."
    _switch(group, "--keywords-only", text)
    text = "Write an image to DIR that shows the attention for each word of the caption."
    _value(group, "--attention", "DIR", text)
    text = "Replace other texts and images (--sidecar, --write-xmp, --xmp-sidecar, --attention)."
    _switch(group, "--overwrite", text)
    text = "Turn each caption into one sentence, for use as alternative text."
    _switch(group, "--alt-text", text)
    text = f"With --alt-text, the maximum length in characters. Default: {ALT_LENGTH}."
    _value(group, "--alt-length", "N", text, type=positive)


def read_options(args: argparse.Namespace) -> CaptionOptions:
    """Return the options that the flags set."""
    values = vars(args)
    nested = {
        "decoding": select_options(DecodingOptions, values),
        "questions": select_options(QuestionOptions, values),
        "output": select_options(OutputOptions, values),
        "batch": select_options(BatchOptions, values),
    }
    return select_options(CaptionOptions, values | nested)
