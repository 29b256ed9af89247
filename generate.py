#!/usr/bin/env python
"""Caption images, or answer questions about them: `python generate.py PATH...`.

A PATH is an image, a folder, a glob, - (an image on stdin) or @LIST (a file of paths; @- is stdin).
One image prints its caption alone, several print path and caption, tab-separated; --jsonl prints an
object a line, --csv a table.

--output writes the rows to a file as they come, and --resume goes on with it: images that have a
row are passed over, by their path. A row has the SHA-256 of its file, and what has the bytes of an
earlier image is not captioned again: its row repeats the other's, which `same_as` names.

Questions take the place of captions. --question asks all images. --questions FILE does so with
each line of a text file; or FILE is JSONL, rows of `image` and `question`, and no PATH is given:
rows are answered in their order, an image's path is relative to FILE (or else to this folder), and
other keys come back in --jsonl. --ask reads questions about one image from stdin, a line each, and
answers at once, until an empty line. One answer is printed alone, several with path (where there
is more than one) and question before them, tab-separated.

--score ranks texts that are given, as captions, or as answers to one --question: likeliest first,
each with its mean log-probability a token. --stream prints words as soon as they are found.

--attention DIR draws where the model looked for each word of each image's (best) caption: one sheet
an image, DIR/NAME.attention.png.

Exit status: 0 all done, 1 nothing done, 2 usage, 3 some inputs failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from itertools import tee
from typing import TYPE_CHECKING, Any

from captioner.cli import guarded, terminable
from captioner.config.decoding import widened
from captioner.errors import ImageError, QuestionError
from captioner.flags import (
    add_captioning,
    add_decoding,
    add_questions,
    check,
    decoding_options,
    kinds_asked,
    settings_of,
)
from captioner.folders.describe import answers_of, captions_of
from captioner.folders.files import Source, fingerprint, source_of
from captioner.folders.find import STDIN, find_images
from captioner.folders.flags import add_folders
from captioner.folders.rows import meta_of
from captioner.folders.run import run_many
from captioner.printing import answer_lines, decodable, printable, progress, scored_lines

if TYPE_CHECKING:
    from captioner.data.asked import Asked
    from captioner.predict import Answers, Captioner, Result

PROG = "generate.py"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return guarded(run, parse(argv), PROG)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; exits with status 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog=PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_captioning(parser)
    add_decoding(parser)
    add_questions(parser)
    add_folders(parser)
    args = parser.parse_intermixed_args(argv)
    args.usage = parser.error
    check(args)
    return args


def run(args: argparse.Namespace) -> int:
    """Caption or answer, and print what comes; returns the exit status."""
    with terminable():
        if args.ask:
            return session(args)
        if args.score or args.stream:
            return one_by_one(args)
        if kinds_asked(args) and not (args.output or args.csv):
            return answer(args)
        return describe(args)


def describe(args: argparse.Namespace) -> int:
    """Caption the images, or ask one question about each, and write what comes as is asked for."""
    paths = inputs(args)
    settings = settings_of(args) | checkpoints(args) if args.output else None
    show = partial(print, flush=args.jsonl or args.csv)
    find = partial(described, args)
    return status(*run_many(args, paths, find, settings=settings, show=show, tell=tell))


def inputs(args: argparse.Namespace) -> list[str]:
    """The images that are named, but for what the run writes; raises DataError."""
    written = [args.output, args.output and meta_of(args.output), args.errors_to]
    written.append(None if args.in_place else args.write_xmp)
    return find_images(args.paths, recursive=args.recursive, leave_out=list(filter(None, written)))


def checkpoints(args: argparse.Namespace) -> dict[str, Any]:
    """What tells the checkpoints, and the answers that are allowed, from others."""
    from captioner.build import resolve_checkpoint

    names = args.checkpoint or ["bundled"]
    answers = answer_options(args) if args.question else {}
    return answers | {"checkpoint": [fingerprint(resolve_checkpoint(name)) for name in names]}


def described(args: argparse.Namespace, sources: Iterator[Source]) -> Iterator[Result | Answers]:
    """What comes of each image, in order."""
    captioner = load(args)
    if args.question:
        options = answer_options(args) | {"batch_size": args.batch_size}
        return answers_of(captioner, sources, args.question[0], **options)
    options = decoding_options(args) | {"num_captions": args.num_captions or 1}
    if not args.sample:
        beams = args.beam_size or captioner.config.decoding.beam_size
        options["beam_size"] = widened(beams, args.num_captions or 1, groups=args.groups or 1)
        if args.alt_text:  # which chooses among all of them
            options["num_captions"] = options["beam_size"]
    options |= {"alt_length": args.alt_length, "batch_size": args.batch_size}
    if not args.attention:
        return captions_of(captioner, sources, **options)
    from captioner.sheets import Sheets

    sources, named = tee(sources)
    return Sheets(args.attention).follow(
        captioner, named, captions_of(captioner, sources, **options)
    )


def tell(message: str) -> None:
    """Print what a person should know."""
    print(f"{PROG}: {message}", file=sys.stderr)


def one_by_one(args: argparse.Namespace) -> int:
    """Score texts, or stream one, image after image."""
    paths = inputs(args)
    captioner, failed = load(args), 0
    question = args.question[0] if args.question else None
    for path in paths:
        source = source_of(path)
        alone, error, found = len(paths) == 1, "", []
        try:
            image = captioner.encode(source)
            if args.score:
                found = captioner.score(image, args.score, question=question)
            else:
                print(end="" if alone else f"{printable(path)}\t")
                for piece in captioner.stream(image, question=question, **decoding_options(args)):
                    print(piece, end="", flush=True)
                print()
        except ImageError as problem:
            failed, error = failed + 1, str(problem)
            tell(error)
        found = sorted(found, key=lambda scored: -scored.score)
        for line in scored_lines(path, found, error, alone=alone, as_json=args.jsonl):
            print(line)
    return status(failed, len(paths))


def load(args: argparse.Namespace) -> Captioner:
    """The checkpoint."""
    # Imported here so that --help costs no torch.
    from captioner.predict import load

    on = {name: getattr(args, name) for name in ("device", "dtype", "looks", "compile")}
    return load(args.checkpoint or "bundled", **on)


def status(failed: int, total: int) -> int:
    """The exit status of a run."""
    return 0 if not failed else 1 if failed == total else 3


def answer(args: argparse.Namespace) -> int:
    """Answer the questions about the paths, or those of a file that names the images."""
    rows, options = read_questions(args), answer_options(args)
    good = [row for row in rows if not row.error]
    sources = {row.path: row.path for row in good}
    if STDIN in args.paths:
        sources[STDIN] = source_of(STDIN)
    captioner = load(args)
    pairs = ((sources[row.path], row.question) for row in good)
    results = captioner.answer_stream(pairs, batch_size=args.batch_size, **options)
    # What is the same in all lines is left out of them.
    several = {"image": len(sources) > 1, "question": len(rows) > 1}
    columns = [name for name, shown in several.items() if shown]
    failed, told = 0, set()
    for row in progress(rows, len(rows), "question"):
        result = None if row.error else next(results)
        error = row.error or error_of(result, row.where)
        failed += bool(error)
        if error and error not in told:  # an unreadable image may be asked many questions
            told.add(error)
            tell(error)
        for line in answer_lines(row, result, error, columns=columns, as_json=args.jsonl):
            print(line, flush=args.jsonl)
    return status(failed, len(rows))


def session(args: argparse.Namespace) -> int:
    """Answer questions about one image as they come on stdin."""
    from captioner.data.asked import Asked

    paths = inputs(args)
    if len(paths) != 1:
        args.usage(f"--ask is about one image, not {len(paths)}")
    options = answer_options(args)
    captioner = load(args)
    encoded = captioner.encode(paths[0])
    total = failed = 0
    for question in typed():
        row, result, error = Asked(question, decodable(paths[0])), None, ""
        total += 1
        try:
            result = captioner.ask(encoded, question, **options)
        except QuestionError as problem:
            failed, error = failed + 1, str(problem)
            tell(error)
        for line in answer_lines(row, result, error, columns=[], as_json=args.jsonl):
            print(line, flush=True)
    return status(failed, total)


def typed() -> Iterator[str]:
    """The lines of stdin up to an empty one; a person is prompted for each."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes in another encoding are told of
    while True:
        if sys.stdin.isatty():
            print("question: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def read_questions(args: argparse.Namespace) -> list[Asked]:
    """What is asked about which image, row by row; raises DataError."""
    from captioner.data.asked import Asked, read_asked

    if args.questions is None:
        questions = [Asked(question) for question in args.question]
    else:
        questions, with_images = read_asked(args.questions)
        if with_images and args.paths:
            args.usage(f"--questions {args.questions} names its images itself; leave out PATH")
        if with_images:
            return questions
        if not args.paths:
            args.usage(f"--questions {args.questions} names no images; give them as PATH")
    return [
        Asked(asked.question, decodable(path), path, asked.where)
        for path in inputs(args)
        for asked in questions
    ]


def answer_options(args: argparse.Namespace) -> dict[str, Any]:
    """How questions are answered, as `Captioner.ask` takes it; raises DataError."""
    from captioner.data.asked import read_lines

    answers = args.answers
    if answers is not None:
        is_file = answers.startswith("@")
        answers = list(read_lines(answers[1:]) if is_file else map(str.strip, answers.split(",")))
    return {
        "answers": answers,
        "num_answers": args.num_answers or 1,
        "min_confidence": args.min_confidence or 0.0,
        "beam_size": args.beam_size,
    }


def error_of(result: Answers, where: str) -> str:
    """What is wrong with an image, or with the question that stands somewhere."""
    if where and isinstance(result.error, QuestionError):
        return f"{where}: {result.error}"
    return str(result.error or "")


if __name__ == "__main__":
    sys.exit(main())
