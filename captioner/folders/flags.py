"""The flags of runs over many files, and which of them go together."""

from __future__ import annotations

import argparse

from captioner.cli import positive
from captioner.folders.find import STDIN

COPIES = "captioned"
"""The folder of copies where none is named."""
ALT_LENGTH = 125
"""Characters of an alternative text; some screen readers read longer ones in pieces."""


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    group = parser.add_argument_group("many files")
    group.add_argument("--recursive", action="store_true", help="also the folders below folders")
    group.add_argument("--output", metavar="FILE", help="a row an image; JSONL, or by .csv CSV")
    group.add_argument("--csv", action="store_true", help="rows as CSV, with a header")
    group.add_argument("--resume", action="store_true", help="go on with the rows of --output")
    group.add_argument("--retry-failed", action="store_true", help="... and replace its errors")
    group.add_argument("--errors-to", metavar="FILE", help="path <TAB> reason; JSON if .jsonl")
    group.add_argument("--sidecar", action="store_true", help="photo.txt beside photo.jpg")
    group.add_argument(
        "--write-xmp",
        nargs="?",
        const=COPIES,
        metavar="DIR",
        help=f"copies of JPEG, PNG and WebP with the caption in their XMP; default: {COPIES}",
    )
    group.add_argument("--in-place", action="store_true", help="of --write-xmp: no copies")
    group.add_argument(
        "--overwrite", action="store_true", help="of --sidecar, --write-xmp: other texts give way"
    )
    group.add_argument("--alt-text", action="store_true", help="one plain sentence an image")
    group.add_argument(
        "--alt-length",
        type=positive,
        metavar="N",
        help=f"characters at most; default: {ALT_LENGTH}",
    )


def check_folders(args: argparse.Namespace, asked: list[str]) -> None:
    """Exit with status 2, by `args.usage`, where flags make no sense together.

    `asked` are the flags that ask questions.
    """
    args.csv = args.csv or (args.output or "").lower().endswith(".csv")
    _check_company(args, asked)
    questions = bool(asked and args.errors_to)
    for flag, given, company, there in (
        ("--resume", args.resume, "--output", args.output),
        ("--retry-failed", args.retry_failed, "--resume", args.resume),
        ("--in-place", args.in_place, "--write-xmp", args.write_xmp),
        ("--overwrite", args.overwrite, "--sidecar or --write-xmp", _beside(args)),
        ("--alt-length", args.alt_length, "--alt-text", args.alt_text),
        ("--errors-to of a question", questions, "--output or --csv", args.output or args.csv),
    ):
        if given and not there:
            args.usage(f"{flag} needs {company}")
    for flags, given in (
        ("--csv and --jsonl", args.csv and args.jsonl),
        ("--in-place and --write-xmp DIR", args.in_place and args.write_xmp != COPIES),
        ("--csv, a caption a row, and --num-captions", args.csv and args.num_captions),
        ("--csv, an answer a row, and --num-answers", args.csv and args.num_answers),
        ("--alt-text, which chooses one, and --num-captions", args.alt_text and args.num_captions),
        ("--output and --errors-to of one file", args.output and args.output == args.errors_to),
    ):
        if given:
            args.usage(f"{flags} cannot be used together")
    if args.resume and args.sample:
        args.usage("--resume cannot be used with --sample: the rest would be drawn otherwise")
    if STDIN in args.paths and (args.resume or _beside(args)):
        args.usage(
            "- (stdin) has no path to know it by; leave out --resume, --sidecar, --write-xmp"
        )
    if f"@{STDIN}" in args.paths and (STDIN in args.paths or args.ask):
        args.usage("@- reads the paths from stdin, which then holds nothing else")
    if args.alt_text and not args.alt_length:
        args.alt_length = ALT_LENGTH


def _check_company(args: argparse.Namespace, asked: list[str]) -> None:
    """Refuse flags beside others that describe no image, or describe it otherwise."""
    rows = {"--output": args.output, "--csv": args.csv, "--errors-to": args.errors_to}
    captions = {"--sidecar": args.sidecar, "--write-xmp": args.write_xmp}
    captions["--alt-text"] = args.alt_text
    other = "--score" if args.score else "--stream" if args.stream else ""
    for flag in (flag for flag, given in (rows | captions).items() if given):
        if other or (asked and flag in captions):
            args.usage(f"{flag} cannot be used with {other or asked[0]}")
        if asked and (asked != ["--question"] or len(args.question) > 1):
            args.usage(f"{flag} takes one --question, and no --questions or --ask")


def _beside(args: argparse.Namespace) -> bool:
    return bool(args.sidecar or args.write_xmp)
