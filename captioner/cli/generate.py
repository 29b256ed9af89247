"""Caption images, or answer questions about them: `python generate.py PATH...`.

A PATH is an image, a folder, a glob, - (an image on stdin) or @LIST (a file of paths; @- is stdin).
What exists under its name is never a glob. One image prints its caption alone, several print path
and caption, tab-separated; --jsonl prints an object a line, --csv a table.

--output writes a row for each image to a file as it is made. --resume goes on with that file:
images that have a row are skipped, unless their file has changed, which the SHA-256 in the row
tells. An image with the bytes of an earlier one is not captioned again: its row repeats the other's
and names it in `same_as`. Paths in the rows are relative to the folder where the first run started.

Questions take the place of captions. --question asks all images. --questions FILE does so with
each line of a text file; or FILE is JSONL, rows of `image` and `question`, and no PATH is given:
rows are answered in their order, an image's path is relative to FILE (or else to this folder), and
other keys come back in --jsonl. --ask reads questions about one image from stdin, a line each, and
answers at once, until an empty line. One answer is printed alone, several with path (if there is
more than one) and question before them, tab-separated.

--score ranks given texts as captions, or as answers to one --question: likeliest first, each with
its mean log-probability per token. --stream prints words as soon as they are decoded.

--sidecar writes photo.txt beside photo.jpg, --write-xmp copies of the images with the caption in
their XMP, and --attention DIR a sheet for each image, DIR/NAME.attention.png, of where the model
looked for each word of its (best) caption. Images of a folder that differ in their suffix alone
keep it in these names: photo.jpg.txt and photo.png.txt.

Exit status: 0 all done, 1 nothing done, 2 usage, 3 some inputs failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.args import add_folders, reserved_files, written_places
from captioner.cli.batch.dedupe import Source, source_of
from captioner.cli.batch.describe import answers_of, captions_of
from captioner.cli.batch.find_images import STDIN, Inputs, find_inputs
from captioner.cli.batch.questions import answer_options, closed_answers, error_of, read_questions
from captioner.cli.batch.runner import run_many
from captioner.cli.generate_args import (
    add_captioning,
    add_decoding,
    add_questions,
    check,
    decoding_options,
    kinds_asked,
    settings_of,
)
from captioner.cli.output import answer_lines, decodable, listed, printable, progress, scored_lines
from captioner.cli.parser import Parser
from captioner.cli.process import notify, run_command, terminable
from captioner.config.decoding_options import widen_beam
from captioner.errors import ImageError, QuestionError

if TYPE_CHECKING:
    from captioner.predict import Answers, Captioner, Result


def main(argv: list[str] | None = None, *, prog: str = "generate.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "generate.py") -> argparse.Namespace:
    """Return the arguments; exit with status 2 if they are wrong."""
    parser = Parser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    """Caption or answer, and print the results; return the exit status."""
    with terminable():
        args.answers = closed_answers(args.answers, notify)
        if args.ask:
            return session(args)
        if args.score or args.stream:
            return one_by_one(args)
        if kinds_asked(args) and not (args.output or args.csv):
            return answer(args)
        return describe(args)


def describe(args: argparse.Namespace) -> int:
    """Caption the images, or ask one question about each, and write the results."""
    images = inputs(args)
    settings = settings_of(args) | checkpoints(args) if args.output else None
    captioner = cache(partial(load, args))
    draw = None
    if args.attention:
        from captioner.cli.attention_sheets import Sheets

        draw = Sheets(args.attention, captioner, overwrite=args.overwrite).draw
    done = run_many(
        args,
        images,
        partial(described, args, captioner),
        settings=settings,
        show=partial(print, flush=args.jsonl or args.csv),
        tell=notify,
        draw=draw,
        reserved=reserved_files(args),
    )
    return status(*done)


def inputs(args: argparse.Namespace) -> Inputs:
    """Return the images that are named, without what the run writes, and print what is skipped."""
    images = find_inputs(
        args.paths,
        recursive=args.recursive,
        leave_out=written_places(args),
        sheets=args.attention,
    )
    for remark in images.remarks:
        notify(remark)
    return images


def checkpoints(args: argparse.Namespace) -> dict[str, Any]:
    """Return what identifies the checkpoints, and the answers that are allowed."""
    from captioner.checkpoint import fingerprint

    names = args.checkpoint or ["bundled"]
    answers = answer_options(args) if args.question else {}
    return answers | {"checkpoint": [fingerprint([name])[:16] for name in names]}


def described(
    args: argparse.Namespace, captioner: Callable[[], Captioner], sources: Iterator[Source]
) -> Iterator[Result | Answers]:
    """Return the captions of each image, or the answers about it, in order."""
    model = captioner()
    if args.question:
        tell_repeated(model, args)
        options = answer_options(args) | {"batch_size": args.batch_size}
        return answers_of(model, sources, args.question[0], **options)
    options = decoding_options(args) | {"num_captions": args.num_captions or 1}
    if not args.sample:
        beams = args.beam_size or model.config.decoding.beam_size
        options["beam_size"] = widen_beam(beams, args.num_captions or 1, groups=args.groups or 1)
        if args.alt_text:  # which chooses among all of them
            options["num_captions"] = options["beam_size"]
    options |= {"alt_length": args.alt_length, "batch_size": args.batch_size}
    return captions_of(model, sources, **options)


def one_by_one(args: argparse.Namespace) -> int:
    """Score texts, or stream one, image after image."""
    images = inputs(args)
    captioner, failed = load(args), 0
    question = args.question[0] if args.question else None
    for path in images.paths:
        alone, error, scores = len(images.paths) == 1, "", []
        try:
            image = captioner.encode(source_of(path))
            if args.score:
                scores = captioner.score(image, args.score, question=question)
            else:
                print(end="" if alone else f"{printable(path)}\t")
                for piece in captioner.stream(image, question=question, **decoding_options(args)):
                    print(piece, end="", flush=True)
                print()
        except ImageError as problem:
            failed, error = failed + 1, images.error_of(path, problem)
            notify(error)
        scores = sorted(scores, key=lambda scored: -scored.score)
        for line in scored_lines(path, scores, error, alone=alone, as_json=args.jsonl):
            print(line)
    return status(failed, len(images.paths))


def typed() -> Iterator[str]:
    """Yield the lines of stdin up to an empty one; on a terminal, prompt for each."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # other encodings are an error of the line
    while True:
        if sys.stdin.isatty():
            print("question: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def tell_repeated(captioner: Captioner, args: argparse.Namespace) -> None:
    """Print which of the answers that are allowed are the same to the model as earlier ones."""
    if args.answers and (repeated := captioner.repeated_answers(args.answers)):
        notify(f"--answers: used once, since they repeat others: {listed(repeated)}")


def load(args: argparse.Namespace) -> Captioner:
    """Load the checkpoint."""
    # Imported here so that --help does not import torch.
    from captioner.predict import load

    return load(
        args.checkpoint or "bundled",
        device=args.device,
        dtype=args.dtype,
        tta=args.tta,
        compile=args.compile,
    )


def status(failed: int, total: int) -> int:
    """Return the exit status of a run."""
    return 0 if not failed else 1 if failed == total else 3


def answer(args: argparse.Namespace) -> int:
    """Answer the questions about the paths, or those of a file that names the images."""
    rows, images = read_questions(args, inputs)
    good = [row for row in rows if not row.error]
    sources = {row.path: row.path for row in good}
    if STDIN in args.paths:
        sources[STDIN] = source_of(STDIN)
    captioner = load(args)
    tell_repeated(captioner, args)
    pairs = ((sources[row.path], row.question) for row in good)
    options = answer_options(args) | {"batch_size": args.batch_size}
    results = captioner.answer_stream(pairs, **options)
    # What is the same in all lines is left out of them.
    several = {"image": len(sources) > 1, "question": len(rows) > 1}
    columns = [name for name, shown in several.items() if shown]
    failed, reported = 0, set()
    for row in progress(rows, len(rows), "question"):
        result = None if row.error else next(results)
        error = row.error or error_of(result, row, images)
        failed += bool(error)
        if error and error not in reported:  # an unreadable image may be asked many questions
            reported.add(error)
            notify(error)
        for line in answer_lines(row, result, error, columns=columns, as_json=args.jsonl):
            print(line, flush=args.jsonl)
    return status(failed, len(rows))


def session(args: argparse.Namespace) -> int:
    """Answer questions about one image as they come on stdin."""
    from captioner.cli.question_file import Asked

    images = inputs(args)
    if len(images.paths) != 1:
        args.usage(f"--ask is about one image, not {len(images.paths)}")
    (path,) = images.paths
    captioner = load(args)
    tell_repeated(captioner, args)
    try:
        encoded = captioner.encode(path)
    except ImageError as error:
        raise ImageError(images.error_of(path, error)) from None
    total = failed = 0
    for question in typed():
        row, result, error = Asked(question, decodable(path)), None, ""
        total += 1
        try:
            result = captioner.ask(encoded, question, **answer_options(args))
        except QuestionError as problem:
            failed, error = failed + 1, str(problem)
            notify(error)
        for line in answer_lines(row, result, error, columns=[], as_json=args.jsonl):
            print(line, flush=True)
    return status(failed, total)
