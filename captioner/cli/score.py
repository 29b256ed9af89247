"""Score captions and answers: `python score.py CANDIDATES --references PATH`, or --checkpoint DIR.

CANDIDATES is JSONL or CSV (generate.py writes both), TSV, JSON (a list of rows, as COCO's and VQA's
result files, or an object of id: caption) or - for stdin. A row with a caption says which image it
is about by image_id, else id, both of which must equal the reference's, else image, a path that may
differ from the reference's in its leading folders. A row with an answer says which question it is
to by question_id, else image and question. Keys of a row that name different images are an error.
With --checkpoint the images are captioned, or the questions answered, first; with --held-out those
that its own configuration held out of its training, task by task, and no references are given
(data.sources.0.root=PATH and so on say where the data sets lie now).

Answers are scored by exact match after VQA's normalisation and macro-F1, and, if every question has
four answers or more, by the official VQA accuracy. The scores of a checkpoint are shown with its
controls: a blind model (--blind), itself with each question asked of another image, and the most
frequent training answer to each type of question.

`compare` compares the captions of B with those of A, each a file of captions or a checkpoint
folder: the difference of each metric, its 95 % interval over 10,000 draws of the images, and p, how
often chance alone would make two equal systems differ as much.

The scores are printed as a table, values x 100 with one decimal as in papers, or with --json as an
object with the values themselves. Exit status: 0 all done, 1 nothing done, 2 usage, 3 scored
without some images that could not be read or questions that could not be asked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from captioner.cli.process import notify, run_command
from captioner.cli.score_args import build_parser, check, is_checkpoint, is_official
from captioner.errors import CaptionerError, DataError

if TYPE_CHECKING:
    from captioner.config import Config
    from captioner.evaluation.scoring import PredictionOptions
    from captioner.evaluation.tasks import EvaluationTask
    from captioner.predict import Captioner


def main(argv: list[str] | None = None, *, prog: str = "score.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "score.py") -> argparse.Namespace:
    """The arguments; exits with status 2 where they are wrong."""
    parser = build_parser(prog, __doc__)
    args = parser.parse(argv)
    args.prog, args.usage = prog, parser.error
    check(args)
    return args


def run(args: argparse.Namespace) -> int:
    """Read or make the candidates, score and print them; returns the exit status."""
    if args.compared is not None:
        return compare(args)
    if args.candidates is not None:
        found, complete = {"": score_file(args)}, True
    else:
        found, complete = score_checkpoint(args)
    for name, result in found.items():
        for warning in result.get("warnings", ()):
            say(f"{name}: {warning}" if len(found) > 1 else warning)
    if args.json:
        # Tasks are named where there may be several of them.
        print(json.dumps(found if args.held_out or len(found) > 1 else next(iter(found.values()))))
    for place, (name, result) in enumerate(() if args.json else found.items()):
        if len(found) > 1:
            print("\n" * bool(place) + f"{name}:")
        show(result)
    return 0 if complete else 3


def show(result: dict[str, Any]) -> None:
    """Print one task's scores as a table."""
    from captioner.evaluation.baselines import format_table

    if "scores" in result:
        for line in format_table(result):
            print(line)
        say(f"{result['questions']} questions about {result['images']} images")
    elif "references" in result:
        print(f"{'metric':<10} {'x 100':>6} {'95 % interval':>15}")
        for name, (low, high) in result["intervals"].items():
            between = f"{100 * low:.1f} to {100 * high:.1f}"
            print(f"{name:<10} {100 * result[name]:6.1f} {between:>15}")
        say(f"{result['images']} images, {result['references']} references")


def score_file(args: argparse.Namespace) -> dict[str, Any]:
    """Return the scores of a file of captions or answers."""
    from captioner.evaluation.candidate_files import read_candidates
    from captioner.evaluation.scoring import score_candidates

    # Before the data set, which may be large: an error in the file is reported at once.
    rows = list(read_candidates(args.candidates))
    return score_candidates(
        rows,
        read(args),
        source=args.candidates,
        references=args.references,
        tell=say,
        seed=args.seed,
    )


def compare(args: argparse.Namespace) -> int:
    """Print how two systems differ; return the exit status."""
    from captioner.evaluation.scoring import compare_captions, few_images_warnings

    images = any(map(is_checkpoint, args.compared))
    task = next((task for task in read(args, images=images) if not task.has_questions), None)
    if task is None:
        raise DataError(f"{args.references}: has no captions to compare by")
    sides = [captions_of(word, task, args) for word in args.compared]
    rows = [r for r in task.rows if all(r.image_id in side for side in sides)]
    differences = compare_captions(sides, rows, seed=args.seed)
    warnings = few_images_warnings(len(rows))
    for warning in warnings:
        say(warning)
    if args.json:
        print(json.dumps(differences | ({"warnings": warnings} if warnings else {})))
    else:
        print_differences(differences)
        say(f"{len(rows)} images")
    return 0 if len(rows) == len(task.rows) else 3


def print_differences(differences: dict[str, dict[str, float]]) -> None:
    """Print the scores of two systems and their differences as a table."""
    print(f"{'x 100':<10} {'A':>6} {'B':>6} {'B - A':>6} {'95 % interval':>16} {'p':>7}")
    for name, row in differences.items():
        a, b, by, low, high = (100 * row[k] for k in ("A", "B", "difference", "low", "high"))
        between = f"{low:+.1f} to {high:+.1f}"
        print(f"{name:<10} {a:6.1f} {b:6.1f} {by:+6.1f} {between:>16} {row['p']:7.4f}")


def captions_of(word: str, task: EvaluationTask, args: argparse.Namespace) -> dict[str, str]:
    """Return captions by image id, from a file or by a checkpoint."""
    from captioner.evaluation.candidate_files import are_answers, read_candidates
    from captioner.evaluation.candidates import match_captions
    from captioner.evaluation.scoring import caption_task
    from captioner.predict import load

    if is_checkpoint(word):
        captioner = load(word, device=args.device, dtype=args.dtype, tta=args.tta)
        return caption_task(captioner, task, options(args, task, file=None))
    rows = list(read_candidates(word))
    if are_answers(rows):
        raise DataError(f"{word}: holds answers; compare takes captions")
    return match_captions(rows, task.rows, source=word)


def score_checkpoint(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The scores of each task, by its name, and whether nothing had to be left out."""
    from captioner.evaluation.tasks import check_blind, checkpoint_config
    from captioner.predict import load

    config = checkpoint_config(args.checkpoint, args.overrides)
    if args.blind:
        check_blind(args.blind, config, held_out=args.held_out)
    tasks = read(args, config, images=True)
    asks = any(task.has_questions for task in tasks)
    if args.blind and not asks:
        raise CaptionerError("--blind is a control of answers, and there is no question here")
    if asks and len(tasks) > 1 and is_official(args):
        raise CaptionerError(f"{args.output}: would hold captions too; name a .jsonl file")
    on = {"device": args.device, "dtype": args.dtype, "tta": args.tta}
    captioner = load(args.checkpoint, **on)
    blind = load(args.blind, **on) if args.blind else None
    found, complete = {}, True
    with output(args.output) as file:
        for task in tasks:
            if task.has_questions:
                found[task.name], whole = score_answers(task, captioner, args, file, blind=blind)
            else:
                found[task.name], whole = score_captions(task, captioner, args, file)
            complete = complete and whole
    return found, complete


def score_captions(
    task: EvaluationTask, captioner: Captioner, args: argparse.Namespace, file: TextIO | None
) -> tuple[dict[str, Any], bool]:
    """Caption the images; the scores, and whether nothing was left out."""
    from captioner.evaluation.scoring import caption_task, score_image_captions

    captions = caption_task(captioner, task, options(args, task, file))
    rows = [r for r in task.rows if r.image_id in captions]
    return score_image_captions(captions, rows, seed=args.seed), len(rows) == len(task.rows)


def score_answers(
    task: EvaluationTask,
    captioner: Captioner,
    args: argparse.Namespace,
    file: TextIO | None,
    *,
    blind: Captioner | None,
) -> tuple[dict[str, Any], bool]:
    """Answer the questions; the scores with their controls, and whether nothing was left out."""
    from captioner.evaluation.scoring import answer_task, score_question_answers
    from captioner.evaluation.vqa_results import write_vqa_results

    if not args.output and not any(r.references for r in task.rows):
        name = args.references or task.name
        raise DataError(f"{name}: none of its questions has an answer to score by; use --output")
    how = options(args, task, None if is_official(args) else file)
    answers, sure = answer_task(captioner, task, how)
    if is_official(args):
        write_vqa_results(args.output, answers)
    table = score_question_answers(captioner, task, answers, sure, how, blind=blind)
    return table, len(sure) == len(task.rows)


def options(
    args: argparse.Namespace, task: EvaluationTask, file: TextIO | None
) -> PredictionOptions:
    """How a checkpoint's texts are made, and kept."""
    from captioner.evaluation.scoring import PredictionOptions

    return PredictionOptions(
        prog=args.prog,
        name=args.references or task.name,
        keep=partial(write, file=file, task=task, args=args),
        tell=say,
        batch_size=args.batch_size,
        beam_size=args.beam_size,
        seed=args.seed,
    )


def read(
    args: argparse.Namespace, config: Config | None = None, *, images: bool = False
) -> list[EvaluationTask]:
    """Return what is scored: rows of the data set that is given, or what training held out.

    With `images`, the images will be opened, so that rows without a file name are left out.
    """
    from captioner.evaluation.tasks import read_held_out, read_tasks

    if args.held_out:
        tasks, report = read_held_out(config, only=args.only)
    else:
        splits = [name for word in args.split or () for name in word.split(",")]
        options = {"format": args.format, "images": args.images, "questions": args.questions}
        options |= {"splits": splits, "seed": args.seed, "open_images": images}
        tasks, report = read_tasks(args.references, **options)
    say(report.summary())
    return tasks


def write(
    row: dict[str, Any], *, file: TextIO | None, task: EvaluationTask, args: argparse.Namespace
) -> None:
    """Keep a row, with its task's name where there may be several."""
    if file:
        row = {"task": task.name} | row if args.held_out else row
        print(json.dumps(row, ensure_ascii=False), file=file, flush=True)


def output(path: str | None) -> AbstractContextManager[Any]:
    """The file to write to, or None; raises CaptionerError when it cannot be written."""
    try:
        return open(path, "w", encoding="utf-8") if path else contextlib.nullcontext()
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be written: {error.strerror}") from None


def say(message: object) -> None:
    """One message on stderr, each of its lines with the program's name."""
    for line in str(message).splitlines():
        notify(line)
