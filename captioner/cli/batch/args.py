"""The flags of runs over many files, and which of them go together."""

from __future__ import annotations

import argparse
import os

from captioner.cli.batch.find_images import STDIN
from captioner.cli.batch.run_record import meta_of
from captioner.cli.parser import positive
from captioner.data.formats.io import IMAGE_SUFFIXES

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
    group.add_argument(
        "--resume", action="store_true", help="go on with --output; changed images are done again"
    )
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
        "--overwrite",
        action="store_true",
        help="replace other texts and sheets (--sidecar, --write-xmp, --attention)",
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
        (
            "--overwrite",
            args.overwrite,
            "--sidecar or --write-xmp or --attention",
            _beside(args) or args.attention,
        ),
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
        ("--output and --errors-to of one file", _is_one_file(args.output, args.errors_to)),
    ):
        if given:
            args.usage(f"{flags} cannot be used together")
    _check_files(args)
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


def written_places(args: argparse.Namespace) -> list[str]:
    """Return the files and folders that a run writes, and that are none of its inputs."""
    copies = None if args.in_place else args.write_xmp
    return list(filter(None, [*_rows_files(args), args.errors_to, copies]))


def reserved_files(args: argparse.Namespace) -> list[str]:
    """Return the files that a run reads or writes besides images and what is beside them."""
    return list(filter(None, [*_rows_files(args), args.errors_to, *_read_files(args)]))


def _rows_files(args: argparse.Namespace) -> list[str]:
    return [args.output, meta_of(args.output)] if args.output else []


def _read_files(args: argparse.Namespace) -> list[str]:
    """Return the lists and the files of questions and answers."""
    lists = [path for path in args.paths if path.startswith("@") and not os.path.lexists(path)]
    answers = args.answers if isinstance(args.answers, str) else ""
    lists += [answers] if answers.startswith("@") else []
    return [path[1:] for path in lists if path != f"@{STDIN}"] + [args.questions or ""]


def _check_files(args: argparse.Namespace) -> None:
    """Refuse to write rows or errors into an image or into a file that the run reads."""
    read = {os.path.realpath(path) for path in _read_files(args) if path}
    for flag, path in (("--output", args.output), ("--errors-to", args.errors_to)):
        if path and path.lower().endswith(IMAGE_SUFFIXES):
            args.usage(f"{flag} {path}: is the name of an image; rows and errors are text")
        if path and os.path.realpath(path) in read:
            args.usage(f"{flag} {path}: is a file that the run reads; give another name")


def _beside(args: argparse.Namespace) -> bool:
    return bool(args.sidecar or args.write_xmp)


def _is_one_file(path: str | None, other: str | None) -> bool:
    return bool(path and other) and os.path.realpath(path) == os.path.realpath(other)
