"""Write captions for images, or answer questions about them: `python generate.py PATH...`.

PATH is an image, a folder, a glob pattern, - (one image on stdin) or @LIST (a text file with one
path per line; @- reads the list from stdin). The name of an existing file is never a pattern. With
a checkpoint that takes recordings, PATH may be a recording (WAV, FLAC, Ogg or MP3) wherever an
image is named here; --audio gives a recording beside each image. The
caption of one image is printed alone; for several, a line has the path and the caption, separated
by a tab. --jsonl prints one JSON object per line, --csv a table.

--output writes one row per image to a file, as soon as it is ready. --resume continues that file:
images that have a row are skipped, unless their file has changed according to the SHA-256 in the
row. An image with the same bytes as an earlier one is not captioned again: its row repeats the row
of the other image and names it in `same_as`. Paths in the rows are relative to the folder where the
first run was started.

--question asks about every image instead of captioning it. --questions FILE asks each line of a
text file about every image. If FILE is JSONL, its rows have `image` and `question`; give no PATH.
Rows are answered in order, the path of an image is relative to FILE (or else to the working
folder), and --jsonl returns their other keys. --ask reads questions about one image from stdin, one
per line, and answers each at once, until an empty line. A single answer is printed alone. Several
have the path (if there are several images) and the question before them, separated by tabs.

--score ranks given texts as captions, or as answers to one --question, and prints them with their
mean log-probability per token, likeliest first. --stream prints words as soon as they are decoded.

--sidecar writes photo.txt beside photo.jpg. --write-xmp writes copies of the images with the
caption in their XMP metadata. --xmp-sidecar writes photo.jpg.xmp, which programs for photo
libraries read, beside an image or a RAW file. --keywords adds keywords. --attention DIR writes
DIR/NAME.attention.png for each image, which shows the attention of the model for each word of its
(best) caption. Images in a folder whose names differ only in their suffix keep it in these names:
photo.jpg.txt and photo.png.txt.

Exit status: 0 all inputs succeeded, 1 nothing succeeded, 2 wrong usage, 3 some inputs failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.alt_text import to_alt_text
from captioner.cli.batch.checkpoint_origins import identify_checkpoints, make_origin
from captioner.cli.batch.dedupe import Source, read_source
from captioner.cli.batch.runner import run_many
from captioner.cli.flag_conflicts import find_conflicts
from captioner.cli.generate_args import add_flags, read_options
from captioner.cli.generate_options import BATCH_SIZE, CaptionOptions
from captioner.cli.generate_setup import (
    choose_status,
    list_inputs,
    load_captioner,
    pin_checkpoints,
    report_repeated,
    report_unusual,
)
from captioner.cli.output import escape_path, format_scores, print_lines
from captioner.cli.parser import Parser
from captioner.cli.process import notify, run_command, terminable
from captioner.cli.question_file import UsageError, read_allowed_answers
from captioner.cli.question_runs import answer_questions, answer_typed_questions
from captioner.config.decoding_options import widen_beam
from captioner.errors import CaptionerError, InputError

if TYPE_CHECKING:
    from captioner.predict import Answers, Captioner, Result
    from captioner.predict import Inputs as ModelInputs


def main(argv: list[str] | None = None, *, prog: str = "generate.py") -> int:
    """Run the command; return the exit status."""
    try:
        return run_command(parse, run, argv, prog)
    except UsageError as error:
        build_parser(prog).error(str(error))


def build_parser(prog: str) -> Parser:
    """Return the parser of the command."""
    parser = Parser(prog=prog, description=__doc__)
    add_flags(parser)
    return parser


def parse(argv: list[str] | None, *, prog: str = "generate.py") -> CaptionOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = build_parser(prog)
    options = read_options(parser.parse(argv))
    for conflict in find_conflicts(options):
        parser.error(conflict)
    return options


def run(options: CaptionOptions) -> int:
    """Caption images or answer questions, and print the results; return the exit status."""
    options = pin_checkpoints(options)
    with terminable():
        allowed = read_allowed_answers(options.questions.answers)
        if options.questions.interactive:
            return answer_typed_questions(options, allowed)
        if options.score or options.stream:
            return process_one_by_one(options)
        if options.questions.flags and not (options.output.path or options.output.csv):
            return answer_questions(options, allowed)
        return describe_images(options, allowed)


def describe_images(options: CaptionOptions, allowed: list[str] | None) -> int:
    """Caption the images, or ask one question about each, and write the results."""
    images = list_inputs(options)
    settings, is_file = None, bool(options.output.path)
    identity = identify_checkpoints(options) if is_file or options.batch.writes_xmp else {}
    if is_file:
        answering = options.answering(allowed) if options.questions.questions else {}
        settings = options.settings() | answering | identity
    captioner = cache(partial(load_captioner, options, len(images.paths)))
    draw = None
    if options.batch.attention:
        from captioner.cli.attention_sheets import SheetWriter

        overwrite = options.batch.overwrite
        draw = SheetWriter(
            options.batch.attention, captioner, join_audio=options.join_audio, overwrite=overwrite
        ).draw

    def describe_sources(sources: Iterator[Source]) -> Iterator[Result | Answers]:
        return describe(options, allowed, captioner, map(options.join_audio, sources))

    show = partial(print, flush=options.output.jsonl or options.output.is_csv)
    failed, total = run_many(
        options,
        images,
        describe_sources,
        settings=settings,
        show=show,
        draw=draw,
        origin=make_origin(identity) if options.batch.writes_xmp else None,
    )
    return choose_status(failed, total)


def describe(
    options: CaptionOptions,
    allowed: list[str] | None,
    captioner: Callable[[], Captioner],
    sources: Iterator[Source | ModelInputs],
) -> Iterator[Result | Answers]:
    """Return the captions of each image, or the answers about it, in order."""
    model, batch_size = captioner(), options.batch_size or BATCH_SIZE
    if options.batch.attention:
        from captioner.predict.attention_maps import check_attends

        check_attends(model.backend)
    if options.questions.questions:
        report_repeated(model, allowed)
        answering = options.answering(allowed) | {"batch_size": batch_size}
        return ask_each(model, sources, options.questions.questions[0], **answering)
    count, decoding = options.num_captions or 1, options.decoding.given()
    if options.decoding.method != "sample":
        beams = options.decoding.beam_size or model.config.decoding.beam_size
        beams = widen_beam(beams, count, groups=options.decoding.groups or 1)
        decoding["beam_size"] = beams
        # The alternative text is chosen among all captions that the search finds.
        count = beams if options.batch.alt_text else count
    results = model.caption_stream(sources, num_captions=count, batch_size=batch_size, **decoding)
    length = options.batch.sentence_length
    return results if length is None else (to_alt_text(result, length) for result in results)


def ask_each(
    captioner: Captioner, sources: Iterator[Source | ModelInputs], question: str, **answering: Any
) -> Iterator[Answers]:
    """Yield the answers to one question about each image, a batch at a time."""
    while batch := list(islice(sources, answering["batch_size"])):
        yield from captioner.answer_stream([(source, question) for source in batch], **answering)


def process_one_by_one(options: CaptionOptions) -> int:
    """Score the texts, or stream one, for one image after the other."""
    images = list_inputs(options)
    captioner, failed = load_captioner(options, len(images.paths)), 0
    kinds: dict[str, str | None] = {}
    alone = len(images.paths) == 1
    question = options.questions.questions[0] if options.questions.questions else None
    for path in images.paths:
        error, scores = "", []
        try:
            image = captioner.encode(options.join_audio(read_source(path)))
            kinds[path] = image.kind
            if options.score:
                scores = captioner.score(image, options.score, question=question)
            else:
                given = options.decoding.given()
                pieces = captioner.stream(image, question=question, **given)
                error = print_pieces(pieces, "" if alone else f"{escape_path(path)}\t")
        except InputError as problem:
            error = images.describe_error(path, problem)
        if error:
            failed += 1
            notify(error)
        scores = sorted(scores, key=lambda scored: -scored.score)
        print_lines(format_scores(path, scores, error, alone=alone, as_json=options.output.jsonl))
    report_unusual(kinds)
    return choose_status(failed, len(images.paths))


def print_pieces(pieces: Iterable[str], start: str) -> str:
    """Print a text on one line behind `start`; return the error that ends the text early."""
    is_begun = False
    try:
        for piece in pieces:
            print("" if is_begun else start, piece, sep="", end="", flush=True)
            is_begun = True
    except CaptionerError as error:
        print(end="\n" if is_begun else "")
        return str(error)
    print("" if is_begun else start)
    return ""
