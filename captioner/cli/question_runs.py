"""Answer questions of generate.py: given ones, those of a file, or those typed on stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from captioner.cli.batch.dedupe import Source, read_source
from captioner.cli.batch.find_images import STDIN
from captioner.cli.generate_options import BATCH_SIZE, CaptionOptions
from captioner.cli.generate_setup import (
    choose_status,
    list_inputs,
    load_captioner,
    report_repeated,
    report_unusual,
)
from captioner.cli.output import format_answers, print_lines, show_progress, to_unicode
from captioner.cli.process import notify
from captioner.cli.question_file import QuestionRow, UsageError, describe_error, read_questions
from captioner.errors import InputError, QuestionError


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
