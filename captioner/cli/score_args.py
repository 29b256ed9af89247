"""The arguments of `score.py`: flags, checks, and the resulting options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from captioner.cli.parser import Parser, add_tta, positive
from captioner.config.decoding_options import DTYPES

DESCRIPTION = """\
Score captions or answers against the references of a data set.

CANDIDATES is a JSONL, CSV, TSV or JSON file, or - for standard input. generate.py writes JSONL and
CSV. JSON is a list of rows, as the result files of COCO and VQA, or an object {id: caption}.
A row with a caption names its image by image_id, else id, both of which must equal the id of a
reference, else by image, a path that may differ from that of the reference in its leading folders.
A row with an answer names its question by question_id, else by image and question. Rows whose keys
name different images or questions are an error.

With --checkpoint, the images are captioned or the questions are answered first. With --held-out,
the rows are those that were held out from the training of the checkpoint, task by task, without
--references; data.sources.0.root=PATH and similar settings give the new location of moved data.

Captions are scored by BLEU, ROUGE-L and CIDEr-D. Answers are scored by exact match after the
normalization of VQA and by macro-F1, and, if each question has at least four reference answers, by
the official VQA accuracy. The scores of a checkpoint are printed beside three baselines: a model
without images (--blind), the model itself with shuffled images, and the most frequent training
answer to each type of question.

`compare A B` compares two systems, each a file of captions or a checkpoint folder: the difference
of each metric, its 95 % interval over 10,000 bootstrap samples of the images, and p, the
probability of such a difference between equal systems.

The output is a table of values x 100, or with --json an object with the values as fractions. The
exit status is 0 if all was scored, 1 after an error, 2 for wrong arguments, and 3 if images that
cannot be read or questions that cannot be answered were left out.
"""

# None on the command line until the checks have run.
_CHECKPOINT_DEFAULTS = {
    "beam_size": None,
    "batch_size": 16,
    "device": "cpu",
    "dtype": "float32",
    "tta": 1,
}
# Settings of `data` that change training, but not the rows that are held out.
_WITHOUT_EFFECT = (
    "augment",
    "weight",
    "lowercase",
    "captions_per_image",
    "questions_per_image",
    "workers",
)


@dataclass(frozen=True)
class ScoreOptions:
    """The checked arguments of `score.py`."""

    candidates: str | None
    """File of candidates, or `-`; None if a checkpoint is scored or two systems are compared."""
    compared: tuple[str, str] | None
    """The two systems of `compare`: files of captions or checkpoints."""
    overrides: tuple[str, ...]
    """Settings that replace those of the checkpoint, with `held_out`."""
    references: str
    """The data set; empty with `held_out`."""
    format: str
    splits: tuple[str, ...]
    images: str | None
    questions: bool
    seed: int
    json: bool
    checkpoint: str
    """The checkpoint to score; empty if there is none."""
    held_out: bool
    only: str | None
    blind: str | None
    output: str | None
    beam_size: int | None
    batch_size: int
    device: str
    dtype: str
    tta: int

    @property
    def writes_vqa_results(self) -> bool:
        """Whether answers are written in the format of the VQA server."""
        return _is_json(self.output)


def parse(argv: list[str] | None, *, prog: str = "score.py") -> ScoreOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = build_parser(prog)
    args = parser.parse(argv)
    words = args.words
    compared = words[1:] if words[:1] == ["compare"] else None
    check = _Checks(args, parser.error)
    if compared is not None:
        check.comparison(compared)
    elif args.held_out:
        check.held_out()
    else:
        check.references()
    for name, default in _CHECKPOINT_DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    is_file = compared is None and not args.held_out and bool(words)
    return ScoreOptions(
        candidates=words[0] if is_file else None,
        compared=(compared[0], compared[1]) if compared is not None else None,
        overrides=tuple(words) if args.held_out else (),
        references=args.references or "",
        format=args.format,
        splits=tuple(name for word in args.split or () for name in word.split(",")),
        images=args.images,
        questions=args.questions,
        seed=args.seed,
        json=args.json,
        checkpoint=args.checkpoint or "",
        held_out=args.held_out,
        only=args.only,
        blind=args.blind,
        output=args.output,
        beam_size=args.beam_size,
        batch_size=args.batch_size,
        device=args.device,
        dtype=args.dtype,
        tta=args.tta,
    )


def build_parser(prog: str) -> Parser:
    """Return the parser of the flags."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} CANDIDATES --references PATH [options]\n"
        f"       {prog} --checkpoint DIR --references PATH [options]\n"
        f"       {prog} --checkpoint DIR --held-out [key=value ...] [options]\n"
        f"       {prog} compare A B --references PATH [options]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        settings=True,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="CANDIDATES",
        help="A JSONL, JSON, CSV or TSV file, or - for standard input; with --held-out, settings"
        " as key=value.",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table."
    )
    _add_references(parser.add_argument_group("references"))
    _add_checkpoint(parser.add_argument_group("scoring a checkpoint"))
    return parser


def _add_references(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--references", metavar="PATH", help="The data set: its folder or its annotation file."
    )
    group.add_argument(
        "--format", default="auto", metavar="NAME", help="Format of the data set. Default: auto."
    )
    group.add_argument(
        "--split",
        action="append",
        metavar="NAME[,NAME]",
        help="Splits to score; may be repeated. Default: val, or the only split of the data set.",
    )
    group.add_argument(
        "--images",
        metavar="DIR",
        help="Folder of the images. Default: the usual folders beside the annotations.",
    )
    group.add_argument(
        "--questions",
        action="store_true",
        help="Score questions that are made from the captions of the data set.",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="Seed of these questions, of the shuffled images and of the intervals. Default: 0.",
    )


def _add_checkpoint(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--checkpoint", metavar="DIR", help="The checkpoint: a folder, or `bundled`."
    )
    group.add_argument(
        "--held-out",
        action="store_true",
        help="Score the rows that were held out from its training, instead of --references.",
    )
    group.add_argument(
        "--only", metavar="NAME", help="With --held-out: score only the task of this name."
    )
    group.add_argument(
        "--blind",
        metavar="DIR",
        help="Checkpoint of the blind baseline, trained on the same data with model.blind=true.",
    )
    group.add_argument(
        "--output",
        metavar="FILE",
        help="Write the captions or answers to this file as JSONL; if it ends in .json, write"
        " answers in the result format of the VQA server.",
    )
    group.add_argument(
        "--beam-size",
        type=positive,
        metavar="N",
        help="Beams of the search. Default: as configured in the checkpoint.",
    )
    group.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="Images or questions per batch. Default: 16.",
    )
    group.add_argument("--device", help="Device: cpu, cuda, cuda:1, mps and so on. Default: cpu.")
    group.add_argument(
        "--dtype", choices=DTYPES, help="Type of weights and arithmetic. Default: float32."
    )
    add_tta(group, default=None)


@dataclass(frozen=True)
class _Checks:
    """Checks of arguments that depend on each other; each exits by `error` with status 2."""

    args: argparse.Namespace
    error: Callable[[str], NoReturn]

    def comparison(self, compared: list[str]) -> None:
        """Check the arguments of `compare`."""
        if len(compared) != 2 or not self.args.references:
            self.error("compare needs two files of captions or checkpoints, and --references")
        for name in ("checkpoint", "held_out", "only", "blind", "output", "questions"):
            if getattr(self.args, name):
                self.error(f"{_flag(name)} cannot be used with compare")
        if not any(map(is_checkpoint, compared)):
            self._reject_checkpoint_options("two files are compared and no checkpoint is used")

    def held_out(self) -> None:
        """Check the arguments of `--held-out`."""
        if not self.args.checkpoint:
            self.error("--held-out needs --checkpoint")
        for name in ("references", "format", "split", "images", "questions"):
            if getattr(self.args, name) not in (None, False, "auto"):
                self.error(
                    f"{_flag(name)} cannot be used with --held-out, which takes it from the"
                    " configuration of the checkpoint"
                )
        for word in self.args.words:
            keys = word.partition("=")[0].split(".")
            if "=" in word and (keys[0] != "data" or keys[-1] in _WITHOUT_EFFECT):
                self.error(
                    f"{word}: has no effect on the scores; --held-out accepts settings of the"
                    " location of the data and of the rows held out, such as data.root=PATH"
                )
        if _is_json(self.args.output):
            self.error("--output: a .json file holds answers of one task; give a .jsonl file")
        self._output()

    def references(self) -> None:
        """Check the arguments for candidates, or a checkpoint, against references."""
        args = self.args
        if not args.references:
            self.error("give --references, or --checkpoint with --held-out")
        if len(args.words) > 1 or bool(args.words) == bool(args.checkpoint):
            self.error("give either CANDIDATES or --checkpoint")
        if args.only:
            self.error("--only needs --held-out")
        if not args.checkpoint:
            for name in ("output", "blind"):
                if getattr(args, name):
                    self.error(f"{_flag(name)} needs --checkpoint")
            self._reject_checkpoint_options("a file is scored and no checkpoint is used")
        self._output()

    def _reject_checkpoint_options(self, reason: str) -> None:
        for name in (*_CHECKPOINT_DEFAULTS, "images"):
            if getattr(self.args, name) is not None:
                self.error(f"{_flag(name)} has no effect: {reason}")

    def _output(self) -> None:
        """Reject an output of another format, and one that would replace the references."""
        output, data = self.args.output, self.args.references
        if not output:
            return
        if output.lower().endswith((".csv", ".tsv")):
            self.error(f"--output {output}: the format is JSONL; give a .jsonl file")
        if data and os.path.exists(output):
            real_output, real_data = os.path.realpath(output), os.path.realpath(data)
            if real_output == real_data or real_output.startswith(real_data + os.sep):
                self.error(f"--output {output}: is a file of the data set; give another name")


def is_checkpoint(word: str) -> bool:
    """Return whether an argument of `compare` is a checkpoint and not a file of captions."""
    return word == "bundled" or Path(word).is_dir()


def _is_json(path: str | None) -> bool:
    return path is not None and path.lower().endswith(".json")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
