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

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.alt_text import to_alt_text
from captioner.cli.batch.checkpoint_origins import identify_checkpoints, make_origin
from captioner.cli.batch.dedupe import Source, read_source
from captioner.cli.batch.find_images import STDIN, Inputs, find_inputs
from captioner.cli.batch.runner import run_many
from captioner.cli.flag_conflicts import find_conflicts
from captioner.cli.generate_args import add_flags, read_options
from captioner.cli.generate_options import BATCH_SIZE, CaptionOptions
from captioner.cli.output import (
    describe_unusual,
    escape_path,
    format_answers,
    format_scores,
    list_paths,
    show_progress,
    to_unicode,
)
from captioner.cli.parser import Parser
from captioner.cli.process import notify, run_command, terminable
from captioner.cli.question_file import (
    QuestionRow,
    UsageError,
    describe_error,
    read_allowed_answers,
    read_questions,
)
from captioner.config.decoding_options import widen_beam
from captioner.errors import CaptionerError, InputError, QuestionError
from captioner.extras import is_installed
from captioner.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES, RAW_SUFFIXES

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


def list_inputs(options: CaptionOptions) -> Inputs:
    """Return the images of the paths, without the files that the run writes."""
    written, sheets = options.written_paths(), options.batch.attention
    images = find_inputs(
        options.paths,
        recursive=options.recursive,
        exclude=written,
        sheets=sheets,
        suffixes=find_suffixes(options),
    )
    for remark in images.remarks:
        notify(remark)
    return images


def find_suffixes(options: CaptionOptions) -> tuple[str, ...]:
    """Return the suffixes of the files in folders that the model takes."""
    images = IMAGE_SUFFIXES + (RAW_SUFFIXES if is_installed("rawpy") else ())
    if not options.checkpoint or options.audio:
        return images
    from captioner.checkpoint import CONFIG, checkpoint_format, resolve_checkpoint
    from captioner.config import load_config

    folder = resolve_checkpoint(options.checkpoint[0])
    if checkpoint_format(folder) == "transformers":
        return images
    model = load_config(folder / CONFIG).model
    return (images if model.backbones else ()) + (AUDIO_SUFFIXES if model.audio else ())


def pin_checkpoints(options: CaptionOptions) -> CaptionOptions:
    """Return the options with the present commit of each repository of the Hub."""
    if not options.checkpoint:
        return options
    from captioner.checkpoint import pin_checkpoint

    return replace(options, checkpoint=[pin_checkpoint(name) for name in options.checkpoint])


def load_captioner(options: CaptionOptions, images: int) -> Captioner:
    """Load the checkpoint, on the device that is suitable for a number of images."""
    # Imported here so that --help does not import torch.
    from captioner.predict.backend_choice import choose_device
    from captioner.predict.loading import load

    device, dtype = options.device, options.dtype
    if options.backend != "onnx":
        device = choose_device(device, dtype=dtype or "float32", images=images)
    return load(
        options.checkpoint or "bundled",
        backend=options.backend,
        device=device,
        dtype=dtype,
        tta=options.tta,
        compile=options.compile,
    )


def report_repeated(captioner: Captioner, allowed: list[str] | None) -> None:
    """Report allowed answers that have the same tokens as earlier ones."""
    if allowed and (repeated := captioner.repeated_answers(allowed)):
        notify(f"--answers: duplicates are ignored: {list_paths(repeated)}")


def report_unusual(kinds: Mapping[str, str | None]) -> None:
    """Report the images, by path, that are not photographs."""
    if message := describe_unusual(kinds):
        notify(message)


def choose_status(failed: int, total: int) -> int:
    """Return the exit status of a run."""
    return 0 if not failed else 1 if failed == total else 3


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


def answer_questions(options: CaptionOptions, allowed: list[str] | None) -> int:
    """Answer the questions about the paths, or those of a file that names the images."""
    rows, images = read_questions(options, list_inputs)
    valid = [row for row in rows if not row.error]
    sources: dict[str, Source] = {row.path: row.path for row in valid}
    if STDIN in options.paths:
        sources[STDIN] = read_source(STDIN)
    captioner = load_captioner(options, len(sources))
    report_repeated(captioner, allowed)
    inputs = {path: options.join_audio(source) for path, source in sources.items()}
    pairs = ((inputs[row.path], row.question) for row in valid)
    results = captioner.answer_stream(
        pairs, batch_size=options.batch_size or BATCH_SIZE, **options.answering(allowed)
    )
    # A column with the same value in all lines is left out.
    varies = {"image": len(sources) > 1, "question": len(rows) > 1}
    columns = [name for name, is_shown in varies.items() if is_shown]
    failed, reported, as_json = 0, set(), options.output.jsonl
    kinds: dict[str, str | None] = {}
    for row in show_progress(rows, len(rows), "question"):
        result = None if row.error else next(results)
        error = row.error if result is None else describe_error(result, row, images)
        failed += bool(error)
        if result is not None:
            kinds[row.path] = result.kind
        if error and error not in reported:  # All questions about a bad image have one error.
            reported.add(error)
            notify(error)
        lines = format_answers(row, result, error, columns=columns, as_json=as_json)
        print_lines(lines, flush=as_json)
    report_unusual(kinds)
    return choose_status(failed, len(rows))


def answer_typed_questions(options: CaptionOptions, allowed: list[str] | None) -> int:
    """Answer questions about one image as they are typed on stdin."""
    images = list_inputs(options)
    if len(images.paths) != 1:
        raise UsageError(f"--ask is about one image, not {len(images.paths)}")
    (path,) = images.paths
    captioner = load_captioner(options, 1)
    report_repeated(captioner, allowed)
    try:
        encoded = captioner.encode(options.join_audio(path))
    except InputError as error:
        raise InputError(images.describe_error(path, error)) from None
    report_unusual({path: encoded.kind})
    total = failed = 0
    for question in read_typed_lines():
        row, result, problem = QuestionRow(question, to_unicode(path)), None, ""
        total += 1
        try:
            result = captioner.ask(encoded, question, **options.answering(allowed))
        except QuestionError as error:
            failed, problem = failed + 1, str(error)
            notify(problem)
        lines = format_answers(row, result, problem, columns=[], as_json=options.output.jsonl)
        print_lines(lines, flush=True)
    return choose_status(failed, total)


def read_typed_lines() -> Iterator[str]:
    """Yield the lines of stdin up to an empty one, with a prompt for each on a terminal."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # Bad bytes are an error of their line.
    while True:
        if sys.stdin.isatty():
            print("question: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


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


def print_lines(lines: Iterable[str], *, flush: bool = False) -> None:
    """Print lines of data to stdout."""
    for line in lines:
        print(line, flush=flush)
