"""A worker: a model that is loaded once and turns input shards into output parts.

It never raises, because an exception in a task can block a pool of actors: problems of images are
rows, problems of shards are records, and problems of the run are records that stop it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from captioner.config.decoding_options import widen_beam
from captioner.data.shards.urls import describe_failure, open_url
from captioner.errors import CaptionerError, QuestionError
from captioner.scale.output_folder import MOST_ATTEMPTS, OutputFolder
from captioner.scale.part_files import SUFFIXES, Format, count_rows, open_part
from captioner.scale.shard_rows import Columns, ShardError, ShardRow, iterate_rows
from captioner.scale.work_units import WorkUnit

if TYPE_CHECKING:
    from captioner.predict import Answers, Captioner, Result


@dataclass(frozen=True)
class Job:
    """What all workers of a run have in common: the model, the decoding and the output."""

    output: str
    """URL of the output folder."""
    checkpoints: tuple[str, ...] = ("bundled",)
    """Absolute paths, or names of the Hub with their commit."""
    backend: str = "auto"
    device: str = "cpu"
    dtype: str | None = None
    tta: int = 1
    compile: bool = False
    threads: int = 1
    """Threads of each worker."""
    batch_size: int = 16
    num_captions: int = 1
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """Options of `Captioner.caption`."""
    question: str | None = None
    """The question about all images."""
    answering: Mapping[str, Any] = field(default_factory=dict)
    """Options of `Captioner.answer`."""
    columns: Columns = field(default_factory=Columns)
    format: Format = "parquet"
    images: bool = True
    """Whether a WebDataset part has the files of the input."""

    @property
    def asks(self) -> bool:
        """Whether questions are answered instead of captions written."""
        return self.question is not None or self.columns.question is not None

    def part_name(self, number: int) -> str:
        """Return the name of the part of a shard."""
        return f"part-{number:06}{SUFFIXES[self.format]}"


@dataclass(frozen=True)
class Record:
    """The result of one shard, a line of the manifest."""

    unit: int
    """The number of the shard."""
    input: str
    """The shard in messages."""
    part: str | None = None
    """The name of the part; None if the shard has failed."""
    rows: int = 0
    errors: int = 0
    """Rows with an error."""
    bytes: int = 0
    sha256: str = ""
    seconds: float = 0.0
    error: str = ""
    """Why the shard has failed."""
    stops: bool = False
    """Whether all other shards would fail for the same reason."""


class ShardWorker:
    """The model of one process, and the shards that it processes one after the other."""

    def __init__(self, job: Job) -> None:
        self.job, self.problem = job, ""
        self._output = OutputFolder(job.output)
        self._captioner: Captioner | None = None
        try:
            self._captioner = load_model(job)
        except CaptionerError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = (
                f"the model cannot be loaded: {type(error).__name__}: {describe_failure(error)}"
            )

    def process(self, number: int, unit: WorkUnit) -> Record:
        """Write the part of a shard unless it exists; return its record."""
        start, name = time.monotonic(), self.job.part_name(number)
        record = Record(number, unit.label)
        values = asdict(record)
        if self._captioner is None:
            return Record(**values | {"error": self.problem, "stops": True})
        try:
            counts = self._count_existing(name)
            if counts is None:
                counts = self._write(name, unit, self._captioner)
            known = self._output.digest(name)
            assert known is not None  # it has just been published
            values |= {"part": name, "sha256": known[0], "bytes": known[1]}
            values |= {"rows": counts[0], "errors": counts[1]}
        except ShardError as error:
            values["error"] = str(error)
        except CaptionerError as error:  # an option, or the output cannot be written
            values |= {"error": str(error), "stops": True}
        except Exception as error:
            problem = f"{type(error).__name__}: {describe_failure(error)}"
            values["error"] = f"{unit.label}: {problem}"
        return Record(**values | {"seconds": round(time.monotonic() - start, 3)})

    def _count_existing(self, name: str) -> tuple[int, int] | None:
        """Return the rows and errors of a part that an earlier attempt has published."""
        if self._output.size(name) is None:
            return None
        with open_url(f"{self._output.url}/parts/{name}") as file:
            return count_rows(file, self.job.format)

    def _write(self, name: str, unit: WorkUnit, captioner: Captioner) -> tuple[int, int]:
        rows = errors = 0
        if self._output.count_attempts(name) >= MOST_ATTEMPTS:
            raise ShardError(f"{unit.label}: its worker has died {MOST_ATTEMPTS} times")
        with self._output.new_part(name) as path:
            try:
                part = open_part(path, self.job.format, images=self.job.images)
                for row, source in describe_rows(
                    self.job, captioner, iterate_rows(unit, self.job.columns)
                ):
                    part.add(row, source)
                    rows += 1
                    errors += bool(row.get("error"))
                part.close()
            except OSError as error:
                raise CaptionerError(
                    f"{path}: cannot be written ({describe_failure(error)})"
                ) from None
        return rows, errors


def load_model(job: Job) -> Captioner:
    """Load the model with the threads of one worker; raise CaptionerError."""
    from captioner.predict.loading import load_worker

    # Both runtimes divide these threads by the number of workers.
    cores = os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(cores)  # Ray has set it to the CPUs of the actor
    return load_worker(
        job.checkpoints,
        workers=max(1, cores // job.threads),
        backend=job.backend,
        device=job.device,
        dtype=job.dtype,
        tta=job.tta,
        compile=job.compile,
    )


def describe_rows(
    job: Job, captioner: Captioner, rows: Iterable[ShardRow]
) -> Iterator[tuple[dict[str, Any], ShardRow]]:
    """Yield the row of the output for each row of a shard, in order, a few batches in memory."""
    waiting: deque[ShardRow] = deque()

    def read() -> Iterator[ShardRow]:
        """Yield the rows with an image; all rows wait for their turn."""
        for row in rows:
            waiting.append(row)
            if not row.error:
                yield row

    results = _answer(job, captioner, read()) if job.asks else _caption(job, captioner, read())
    for values in results:
        while waiting[0].error:
            yield _fail(waiting.popleft())
        row = waiting.popleft()
        yield _finish(row, values), row
    while waiting:
        yield _fail(waiting.popleft())


def _caption(job: Job, captioner: Captioner, rows: Iterator[ShardRow]) -> Iterator[dict[str, Any]]:
    """Yield the columns of the captions of each row."""
    count, decoding = job.num_captions, dict(job.decoding)
    if decoding.get("method") != "sample":
        beams = decoding.get("beam_size") or captioner.config.decoding.beam_size
        decoding["beam_size"] = widen_beam(beams, count, groups=decoding.get("groups") or 1)
    images = (row.image for row in rows)
    results = captioner.caption_stream(
        images,  # type: ignore[arg-type]  # rows without an image have an error
        num_captions=count,
        batch_size=job.batch_size,
        **decoding,
    )
    for result in results:
        if result.error is not None:
            yield {"error": str(result.error)}
            continue
        captions = [
            {"caption": c.text, "score": round(c.score, 4), "confidence": _round(c.confidence)}
            for c in result.captions
        ]
        yield captions[0] | {"captions": captions} | _describe_image(result)


def _answer(job: Job, captioner: Captioner, rows: Iterator[ShardRow]) -> Iterator[dict[str, Any]]:
    """Yield the columns of the answer to the question of each row, a batch at a time."""
    while batch := list(islice(rows, job.batch_size)):
        questions = [_choose_question(job, row) for row in batch]
        valid = [
            (row.image, question)
            for row, question in zip(batch, questions, strict=True)
            if isinstance(question, str)
        ]
        results = captioner.answer_stream(valid, batch_size=job.batch_size, **job.answering)  # type: ignore[arg-type]
        for question in questions:
            if isinstance(question, QuestionError):
                yield {"error": str(question)}
                continue
            result = next(results)
            values: dict[str, Any] = {"question": question}
            if result.error is not None:
                yield values | {"error": str(result.error)}
                continue
            values |= {"answer": result.text, "confidence": _round(result.confidence)}
            yield values | _describe_image(result)


def _choose_question(job: Job, row: ShardRow) -> str | QuestionError:
    """Return the question about a row, or an error if the row has none."""
    if job.columns.question is None:
        return job.question or ""
    question = row.fields.get(job.columns.question)
    if isinstance(question, str):
        return question
    kind = type(question).__name__ if question is not None else "nothing"
    return QuestionError(f"the row has {kind} under {job.columns.question!r}; expected a question")


def _describe_image(result: Result | Answers) -> dict[str, Any]:
    return {"low_confidence": result.low_confidence, "kind": result.kind}


def _finish(row: ShardRow, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row with its names; an error names the image."""
    name = _to_unicode(row.name)
    named = {"key": _to_unicode(row.key), "image": name}
    if "error" in values:
        reason = values["error"].removeprefix("<bytes>: ")
        return named | dict(values) | {"error": f"{name}: {reason}"}
    return named | dict(values)


def _fail(row: ShardRow) -> tuple[dict[str, Any], ShardRow]:
    reason = row.error.removeprefix(f"{row.name}: ")
    return _finish(row, {"error": reason}), row


def _to_unicode(text: str) -> str:
    """Return a name as valid Unicode, with an escape for each byte that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _round(confidence: float) -> float:
    """Return a probability with four significant digits, as `captioner caption` writes it."""
    return float(f"{confidence:.4g}")
