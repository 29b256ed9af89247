"""Report faults of a data set: `captioner check DATA`.

DATA is a folder or an annotation file in any format that training reads, a pattern or a URL of
shards, or hf-dataset:USER/NAME. Reported are unreadable, blank, tiny and copied images, also copies
in another split; truncated, repeated, boilerplate and damaged captions, and those in another
language; contradictory answers; and rows that cannot be used. --held-out names a set that must have
no copies in DATA. --checkpoint adds the checks that need a model: images that are no photographs,
and captions that do not describe their image.

The report is a page, report.html, and a file with all findings, findings.jsonl, in the folder of
--output. The number of findings of each kind is printed. Findings are no error, unless their kind
is named by --fail-on.

--write FILE writes a cleaned manifest for training. Left out are rows with unreadable images, empty
texts, and training images with a copy in another split or in the held-out set. Mojibake is repaired
and markup removed. The `weight` of doubtful training texts is multiplied by --weight. A FILE
that exists is replaced only with --overwrite, and one that the check reads never.

Exit status: 0 success, 1 an error or findings of a kind of --fail-on, 2 wrong usage, 130 stopped by
Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from captioner.cli.parser import Parser, add_inference, positive, select_options, share
from captioner.cli.process import notify, run_command

if TYPE_CHECKING:
    from captioner.predict import Captioner
    from captioner.quality.audit import Audit


@dataclass(frozen=True)
class CheckOptions:
    """The arguments of the command."""

    data: str
    format: str
    images: str | None
    held_out: str | None
    output: str
    fail_on: tuple[str, ...]
    write: str | None
    overwrite: bool
    weight: float
    processes: int | None
    checkpoint: str | None
    backend: Literal["auto", "onnx", "torch"]
    device: str
    dtype: str | None
    tta: int


def main(argv: list[str] | None = None, *, prog: str = "captioner check") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "captioner check") -> CheckOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    from captioner.quality.cleaning import WEIGHT

    parser = Parser(prog=prog, description=__doc__)
    text = "Folder, annotation file, shards, or hf-dataset:USER/NAME."
    parser.add_argument("data", metavar="DATA", help=text)
    text = "Format of DATA, such as jsonl or coco. Default: auto."
    parser.add_argument("--format", default="auto", metavar="NAME", help=text)
    text = "Folder of the images, if it is not beside the annotations."
    parser.add_argument("--images", metavar="FOLDER", help=text)
    text = "Data set, or folder of images, that must have no copies in DATA."
    parser.add_argument("--held-out", metavar="PATH", help=text)
    text = "Folder of the report, which is created. Default: report."
    parser.add_argument("--output", default="report", metavar="FOLDER", help=text)
    text = "Kinds of findings, separated by commas, that give exit status 1, or any."
    parser.add_argument("--fail-on", type=_kinds, default=(), metavar="KIND[,KIND]", help=text)
    text = "Write a cleaned manifest as JSON lines, and FILE.meta.json beside it."
    parser.add_argument("--write", metavar="FILE", help=text)
    text = "Replace the FILE of --write if it exists."
    parser.add_argument("--overwrite", action="store_true", help=text)
    text = f"Factor of the weight of doubtful texts, 0 to 1. Default: {WEIGHT}."
    parser.add_argument("--weight", type=share, metavar="W", help=text)
    text = "Processes that decode images. Default: the number of cores."
    parser.add_argument("--processes", type=positive, metavar="N", help=text)
    model = parser.add_argument_group("checks with a model")
    text = "Checkpoint, such as bundled, for the checks that need a model."
    model.add_argument("--checkpoint", metavar="PATH", help=text)
    add_inference(model)
    values = vars(parser.parse(argv))
    if values["weight"] is not None and values["write"] is None:
        parser.error("--weight needs --write")
    if values["overwrite"] and values["write"] is None:
        parser.error("--overwrite needs --write")
    values["weight"] = WEIGHT if values["weight"] is None else values["weight"]
    return select_options(CheckOptions, values)


def _kinds(text: str) -> tuple[str, ...]:
    """Parse names of kinds, as the `type` of a flag."""
    from captioner.quality.findings import KINDS

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name != "any" and name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.0)[0]
            raise argparse.ArgumentTypeError(f"{name} is no kind; the nearest is {near}")
    return tuple(KINDS) if "any" in names else tuple(names)


def run(options: CheckOptions) -> int:
    """Check the data set, write the report and print the summary; return the exit status."""
    from captioner.errors import DataError
    from captioner.quality.audit import check_dataset
    from captioner.quality.findings_page import write_report

    if options.write is not None and not options.overwrite and os.path.lexists(options.write):
        raise DataError(f"{options.write}: exists; add --overwrite, or name another file")
    audit = check_dataset(
        options.data,
        format=options.format,
        images=options.images,
        held_out=options.held_out,
        captioner=_load(options),
        processes=options.processes,
        progress=sys.stderr.isatty(),
    )
    try:
        page = write_report(audit, options.output)
        _print_summary(audit, page)
        if options.write is not None:
            _write(audit, options.write, options.weight)
    except OSError as error:
        place = error.filename or options.output
        raise DataError(f"{place}: cannot be written ({error.strerror or error})") from None
    return int(any(finding.kind in options.fail_on for finding in audit.findings))


def _print_summary(audit: Audit, page: Path) -> None:
    from captioner.quality.findings import summarize

    if audit.findings:
        print(summarize(audit.findings))
    count = len(audit.findings)
    notify(f"{audit.images} images, {audit.data.rows.total()} rows, {count} findings: {page}")


def _load(options: CheckOptions) -> Captioner | None:
    if options.checkpoint is None:
        return None
    from captioner.predict import load

    return load(
        options.checkpoint,
        backend=options.backend,
        device=options.device,
        dtype=options.dtype,
        tta=options.tta,
    )


def _write(audit: Audit, path: str, weight: float) -> None:
    from captioner.quality.cleaning import write_manifest

    cleaning = write_manifest(audit, path, weight=weight)
    notify(
        f"{path}: {cleaning.rows} rows; {cleaning.weighted} texts have a reduced weight,"
        f" {cleaning.repaired} are repaired, {cleaning.dropped} rows or texts left out"
    )
