"""The arguments of `score.py`: flags, checks, and the resulting options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from captioner.cli.parser import Parser, add_inference, positive

if TYPE_CHECKING:
    from captioner.predict.backend_choice import BackendName

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
the official VQA accuracy; also by precision, recall and F1 of the classes, with a confusion table.
The scores of a checkpoint are printed beside three baselines: a model without images (--blind),
the model itself with shuffled images, and the most frequent training answer to each type of
question.

`compare A B` compares two systems, each a file of captions or a checkpoint: the difference
of each metric, its 95 % interval over 10,000 bootstrap samples of the images, and p, the
probability of such a difference between equal systems.

The output is a table of values x 100, or with --json an object with the values as fractions. The
exit status is 0 if all was scored, 1 after an error, 2 for wrong arguments, and 3 if images that
cannot be read or questions that cannot be answered were left out.
"""

# Defaults that are set after the checks, which can thus detect the flags that were given.
_CHECKPOINT_DEFAULTS = {"beam_size": None, "batch_size": 16, "backend": "auto", "device": "auto"}
_CHECKPOINT_DEFAULTS |= {"dtype": None, "tta": 1}
# Settings of `data` that change training, but not the rows that are held out.
_WITHOUT_EFFECT = {"augment", "weight", "lowercase", "captions_per_image", "questions_per_image"}
_WITHOUT_EFFECT |= {"workers"}

# fmt: off
_REFERENCE_FLAGS: dict[str, dict[str, Any]] = {
    "--references": {"metavar": "PATH", "default": "",
        "help": "Folder or annotation file of the data set."},
    "--format": {"metavar": "NAME", "default": "auto",
        "help": "Format of the data set. Default: auto."},
    "--split": {"metavar": "NAME[,NAME]", "action": "append", "default": [],
        "help": "Splits to score; may be repeated. Default: val, or the only split."},
    "--images": {"metavar": "DIR",
        "help": "Folder of the images. Default: the usual folders of the format."},
    "--questions": {"action": "store_true", "help": "Score questions made from the captions."},
    "--labels": {"metavar": "A,B,...",
        "help": "Also score which of these labels each caption names, against the label that its"
        " references name: accuracy, precision, recall and F1. A=X|Y adds other names of A."
        " @FILE reads the labels from a text file, one per line."},
    "--seed": {"metavar": "N", "type": int, "default": 0,
        "help": "Seed of these questions, of shuffled images and of intervals. Default: 0."},
}
_CHECKPOINT_FLAGS: dict[str, dict[str, Any]] = {
    "--checkpoint": {"metavar": "DIR", "default": "",
        "help": "The checkpoint to score: a folder, `bundled`, or hf-hub:USER/NAME[@REVISION]."},
    "--held-out": {"action": "store_true",
        "help": "Score the rows held out from training, instead of --references."},
    "--only": {"metavar": "NAME", "help": "Score only the task of this name, with --held-out."},
    "--calibrate": {"action": "store_true",
        "help": "With --held-out: fit the confidences of the checkpoint, store them with it, and"
        " print their calibration errors instead of scores."},
    "--blind": {"metavar": "DIR",
        "help": "Blind baseline: a checkpoint trained on the same data with model.blind=true."},
    "--output": {"metavar": "FILE",
        "help": "Write the captions or answers as JSONL, or, if the name ends in .json, answers in"
        " the result format of the VQA server."},
    "--beam-size": {"metavar": "N", "type": positive,
        "help": "Beams of the search. Default: that of the checkpoint."},
    "--batch-size": {"metavar": "N", "type": positive,
        "help": "Images or questions per batch. Default: 16."},
}
# fmt: on


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
    labels: str | None
    """Labels separated by commas, or @FILE."""
    seed: int
    json: bool
    checkpoint: str
    """The checkpoint to score; empty if there is none."""
    held_out: bool
    only: str | None
    calibrate: bool
    blind: str | None
    output: str | None
    beam_size: int | None
    batch_size: int
    backend: BackendName
    device: str
    dtype: str | None
    tta: int

    @property
    def writes_vqa_results(self) -> bool:
        """True if answers are written in the format of the VQA server."""
        return _is_json(self.output)


def parse(argv: list[str] | None, *, prog: str = "score.py") -> ScoreOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = build_parser(prog)
    values = vars(parser.parse(argv))
    words: list[str] = values.pop("words")
    check = _Checks(values, words, parser.error)
    candidates, compared = None, None
    overrides: tuple[str, ...] = ()
    if words[:1] == ["compare"]:
        compared = check.comparison()
    elif values["held_out"]:
        overrides = check.held_out()
    else:
        candidates = check.references()
    values |= {k: v for k, v in _CHECKPOINT_DEFAULTS.items() if values[k] is None}
    values["splits"] = tuple(name for word in values.pop("split") for name in word.split(","))
    return ScoreOptions(candidates=candidates, compared=compared, overrides=overrides, **values)


def build_parser(prog: str) -> Parser:
    """Return the parser of the flags."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} CANDIDATES --references PATH [options]\n"
        f"       {prog} --checkpoint DIR --references PATH [options]\n"
        f"       {prog} --checkpoint DIR --held-out [key=value ...] [options]\n"
        f"       {prog} compare A B --references PATH [options]",
        description=DESCRIPTION,
        settings=True,
    )
    text = "A JSONL, JSON, CSV or TSV file, or - for standard input; with --held-out, settings as"
    parser.add_argument("words", nargs="*", metavar="CANDIDATES", help=f"{text} key=value.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    groups = {"references": _REFERENCE_FLAGS, "scoring a checkpoint": _CHECKPOINT_FLAGS}
    for title, flags in groups.items():
        group = parser.add_argument_group(title)
        for flag, options in flags.items():
            group.add_argument(flag, **options)
    add_inference(group, optional=True)
    return parser


@dataclass(frozen=True)
class _Checks:
    """Checks of arguments that depend on each other; each exits by `error` with status 2."""

    values: Mapping[str, Any]
    words: list[str]
    error: Callable[[str], NoReturn]

    def comparison(self) -> tuple[str, str]:
        """Return the two systems to compare."""
        if len(self.words) != 3 or not self.values["references"]:
            self.error("compare needs two files of captions or checkpoints, and --references")
        for name in (
            "checkpoint",
            "held_out",
            "only",
            "calibrate",
            "blind",
            "output",
            "questions",
            "labels",
        ):
            if self.values[name]:
                self.error(f"{_flag(name)} cannot be used with compare")
        _, first, second = self.words
        if not is_checkpoint(first) and not is_checkpoint(second):
            self._reject_checkpoint_options("two files are compared and no checkpoint is used")
        return first, second

    def held_out(self) -> tuple[str, ...]:
        """Return the overrides of the configuration."""
        if not self.values["checkpoint"]:
            self.error("--held-out needs --checkpoint")
        for name in ("references", "format", "split", "images", "questions"):
            if self.values[name] and self.values[name] != "auto":
                source = "which takes it from the configuration of the checkpoint"
                self.error(f"{_flag(name)} cannot be used with --held-out, {source}")
        for word in self.words:
            keys = word.partition("=")[0].split(".")
            if "=" in word and (keys[0] != "data" or keys[-1] in _WITHOUT_EFFECT):
                self.error(
                    f"{word}: has no effect on the scores; --held-out accepts settings of the"
                    " location of the data and of the rows held out, such as data.root=PATH"
                )
        for name in ("only", "blind", "output", "beam_size", "labels"):
            if self.values["calibrate"] and self.values[name]:
                problem = "all held-out rows are used, with the search of the checkpoint"
                self.error(f"{_flag(name)} cannot be used with --calibrate: {problem}")
        if _is_json(self.values["output"]):
            self.error("--output: a .json file holds answers of one task; give a .jsonl file")
        self._check_output()
        return tuple(self.words)

    def references(self) -> str | None:
        """Return the file of candidates; None if a checkpoint is scored."""
        if not self.values["references"]:
            self.error("give --references, or --checkpoint with --held-out")
        if len(self.words) > 1 or bool(self.words) == bool(self.values["checkpoint"]):
            self.error("give either CANDIDATES or --checkpoint")
        names = ("only", "calibrate")
        for name in names if self.values["checkpoint"] else (*names, "output", "blind"):
            if self.values[name]:
                needed = "--held-out" if name in names else "--checkpoint"
                self.error(f"{_flag(name)} needs {needed}")
        if self.words:
            self._reject_checkpoint_options("a file is scored and no checkpoint is used")
        self._check_output()
        return self.words[0] if self.words else None

    def _reject_checkpoint_options(self, reason: str) -> None:
        for name in (*_CHECKPOINT_DEFAULTS, "images"):
            if self.values[name] is not None:
                self.error(f"{_flag(name)} has no effect: {reason}")

    def _check_output(self) -> None:
        """Reject an output of another format, and one that would replace the references."""
        output, data = self.values["output"], self.values["references"]
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
    return word == "bundled" or word.startswith("hf-hub:") or Path(word).is_dir()


def _is_json(path: str | None) -> bool:
    return path is not None and path.lower().endswith(".json")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
