"""Detect flags of `captioner caption` that cannot be combined."""

from __future__ import annotations

import os
from collections.abc import Iterator

from captioner.cli.batch.find_images import STDIN
from captioner.cli.generate_args import COPIES
from captioner.cli.generate_options import CaptionOptions
from captioner.config.decoding_options import SAMPLING
from captioner.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES, RAW_SUFFIXES

_BEAMS = ("groups", "diversity", "length_penalty", "length_form")
"""Options that have no effect without several beams."""


def find_conflicts(options: CaptionOptions) -> Iterator[str]:
    """Yield a message for each conflict; later ones may follow from the first."""
    question_flags = options.questions.flags
    if len(question_flags) > 1:
        yield f"{' and '.join(question_flags)}: give one of them"
    if not options.paths and question_flags != ["--questions"]:
        yield "the following arguments are required: PATH"
    if options.recursive and set(options.paths) == {STDIN}:
        yield "--recursive has no effect: - (stdin) is one image"
    yield from _find_row_conflicts(options, question_flags)
    yield from _find_missing_flags(options, question_flags)
    yield from _find_exclusive_flags(options)
    yield from _find_file_conflicts(options)
    yield from _find_stdin_conflicts(options)
    answers = bool(question_flags) and not options.stream
    yield from _find_decoding_conflicts(options, answers=answers)
    if options.score or options.stream:
        yield from _find_score_conflicts(options, question_flags)
    uses_no_files = options.score or options.stream or STDIN in options.paths
    if options.batch.attention and (question_flags or uses_no_files):
        others = "questions, --score, --stream or -"
        yield f"--attention draws captions of image files; it cannot be used with {others}"
    yield from _find_answer_conflicts(options, question_flags)


def _find_row_conflicts(options: CaptionOptions, question_flags: list[str]) -> Iterator[str]:
    """Yield conflicts of flags for rows and texts with flags without rows or captions."""
    output, batch = options.output, options.batch
    rows = {"--output": output.path, "--csv": output.is_csv, "--errors-to": output.errors_to}
    captions = {"--sidecar": batch.sidecar, "--write-xmp": batch.write_xmp}
    captions |= {"--xmp-sidecar": batch.xmp_sidecar, "--alt-text": batch.alt_text}
    captions |= {"--keywords": batch.keywords, "--keywords-only": batch.keywords_only}
    other = "--score" if options.score else "--stream" if options.stream else ""
    is_one_question = len(options.questions.questions or ()) == 1 == len(question_flags)
    for flag in (flag for flag, given in (rows | captions).items() if given):
        if other or (question_flags and flag in captions):
            yield f"{flag} cannot be used with {other or question_flags[0]}"
        if question_flags and not is_one_question:
            yield f"{flag} takes one --question, and no --questions or --ask"


def _find_missing_flags(options: CaptionOptions, question_flags: list[str]) -> Iterator[str]:
    output, batch = options.output, options.batch
    images = "--sidecar, --write-xmp, --xmp-sidecar or --attention"
    has_images = batch.sidecar or batch.writes_xmp or batch.attention
    errors = question_flags and output.errors_to
    for flag, given, needed, has_needed in (
        ("--resume", output.resume, "--output", output.path),
        ("--retry-failed", output.retry_failed, "--resume", output.resume),
        ("--in-place", batch.in_place, "--write-xmp", batch.write_xmp),
        ("--xmp-names", batch.xmp_names, "--xmp-sidecar", batch.xmp_sidecar),
        ("--overwrite", batch.overwrite, images, has_images),
        ("--alt-length", batch.alt_length, "--alt-text", batch.alt_text),
        ("--errors-to of a question", errors, "--output or --csv", output.path or output.is_csv),
    ):
        if given and not has_needed:
            yield f"{flag} needs {needed}"


def _find_exclusive_flags(options: CaptionOptions) -> Iterator[str]:
    output, batch, questions = options.output, options.batch, options.questions
    paths = [os.path.realpath(path) for path in (output.path, output.errors_to) if path]
    alternatives = "--alt-text, which chooses one caption, and --num-captions"
    for flags, both in (
        ("--csv and --jsonl", output.is_csv and output.jsonl),
        ("--in-place and --write-xmp DIR", batch.in_place and batch.write_xmp != COPIES),
        ("--csv, one caption per row, and --num-captions", output.is_csv and options.num_captions),
        ("--csv, one answer per row, and --num-answers", output.is_csv and questions.num_answers),
        (alternatives, batch.alt_text and options.num_captions),
        ("--keywords and --keywords-only", batch.keywords and batch.keywords_only),
        ("--keywords, those of one caption, and --num-captions", _has_many_keywords(options)),
        ("--output and --errors-to of one file", len(paths) > len(set(paths))),
    ):
        if both:
            yield f"{flags} cannot be used together"


def _has_many_keywords(options: CaptionOptions) -> bool:
    has_keywords = options.batch.keywords or options.batch.keywords_only
    return has_keywords and options.num_captions is not None


def _find_file_conflicts(options: CaptionOptions) -> Iterator[str]:
    """Yield rows or errors that would be written to an image, or to a file that the run reads."""
    read = {os.path.realpath(path) for path in options.read_paths()}
    output = options.output
    for flag, path in (("--output", output.path), ("--errors-to", output.errors_to)):
        if path and path.lower().endswith(IMAGE_SUFFIXES + RAW_SUFFIXES + AUDIO_SUFFIXES):
            yield f"{flag} {path}: is the name of an image or a recording; rows and errors are text"
        if path and os.path.realpath(path) in read:
            yield f"{flag} {path}: is a file that the run reads; give another name"


def _find_stdin_conflicts(options: CaptionOptions) -> Iterator[str]:
    output, batch = options.output, options.batch
    if output.resume and options.decoding.method == "sample":
        yield "--resume cannot be used with --sample: new captions would be drawn differently"
    if STDIN in options.paths and (output.resume or batch.sidecar or batch.writes_xmp):
        flags = "--resume, --sidecar, --write-xmp and --xmp-sidecar"
        yield f"- (stdin) has no path, which {flags} need; leave them out"
    if f"@{STDIN}" in options.paths and (STDIN in options.paths or options.questions.interactive):
        yield "@- reads the paths from stdin, which cannot hold an image or questions too"


def _find_decoding_conflicts(options: CaptionOptions, *, answers: bool) -> Iterator[str]:
    given = options.decoding.given()
    sample = options.decoding.method == "sample"
    if answers:
        for name in (name for name in given if name != "beam_size"):
            yield f"{_flag(name)} applies to captions only; questions support only --beam-size"
    for name in SAMPLING:
        if name in given and not sample:
            yield f"{_flag(name)} needs --sample"
    for name in ("beam_size", "must_include", *_BEAMS):
        if name in given and sample:
            yield f"{_flag(name)} applies to beam search only and cannot be used with --sample"
    for name in _BEAMS:
        if name in given and options.stream:
            yield f"{_flag(name)} applies to beam search only and cannot be used with --stream"
    if ("groups" in given) != ("diversity" in given):
        yield "--groups and --diversity belong together: set both or neither"
    if not given.get("prefix", "-").strip():
        yield "--prefix is empty; give the words that captions begin with"


def _find_score_conflicts(options: CaptionOptions, question_flags: list[str]) -> Iterator[str]:
    """Yield flags that have no effect on --score and --stream, which take one question at most."""
    questions = options.questions
    special = "--score" if options.score else "--stream"
    others = {
        "--stream": options.score and options.stream,
        "--num-captions": options.num_captions,
        "--answers": questions.answers,
        "--num-answers": questions.num_answers,
        "--min-confidence": questions.min_confidence is not None,
        "--batch-size": options.batch_size,
        "--jsonl": options.stream and options.output.jsonl,
        "--compile": options.score and options.compile,
        **{name: name in question_flags for name in ("--questions", "--ask")},
    }
    for name, given in others.items():
        if given:
            yield f"{name} cannot be used with {special}"
    if len(questions.questions or ()) > 1:
        yield f"{special} takes one --question, not {len(questions.questions or ())}"
    if options.score and options.decoding.given():
        yield "--score decodes nothing; leave out the options of decoding"
    if options.stream and (options.decoding.beam_size or 1) > 1:
        yield "--beam-size cannot be used with --stream, which decodes word by word"


def _find_answer_conflicts(options: CaptionOptions, question_flags: list[str]) -> Iterator[str]:
    """Yield conflicts of options for answers without a question, or with one."""
    questions, count = options.questions, len(options.paths)
    for name in ("answers", "num_answers", "min_confidence"):
        if getattr(questions, name) is not None and not question_flags:
            yield f"{_flag(name)} needs --question, --questions or --ask"
    if options.num_captions and question_flags:
        yield f"--num-captions: {question_flags[0]} asks for answers; see --num-answers"
    if questions.interactive and count > 1:
        yield f"--ask is about one image, not {count}"
    if questions.interactive and STDIN in options.paths:
        yield "--ask reads the questions from stdin; name the image by its path"
    if questions.interactive and options.batch_size:
        yield "--batch-size cannot be used with --ask, which answers one by one"
    if questions.answers is not None and not all(map(str.strip, questions.answers.split(","))):
        yield f"--answers {questions.answers!r}: contains an empty answer"


def _flag(option: str) -> str:
    """Return the flag that sets an option."""
    return {"banned": "--ban", "method": "--sample"}.get(option, f"--{option.replace('_', '-')}")
