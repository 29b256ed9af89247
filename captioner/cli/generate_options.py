"""The options of `captioner caption`, as its command line gives them.

An option that is None was not given. The help text of its flag states the default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.find_images import STDIN
from captioner.cli.batch.run_record import meta_path

if TYPE_CHECKING:
    from captioner.cli.batch.xmp_files import NamePattern
    from captioner.predict.backend_choice import BackendName

BATCH_SIZE = 16
"""Default number of images, or of questions, in a batch."""
ALT_LENGTH = 125
"""Default length of an alternative text in characters; some screen readers split longer ones."""


@dataclass(frozen=True)
class DecodingOptions:
    """Options for decoding captions: fields of `DecodingConfig`, None if not given."""

    max_length: int | None = None
    min_length: int | None = None
    length_penalty: float | None = None
    groups: int | None = None
    diversity: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    no_repeat_ngram: int | None = None
    repetition_penalty: float | None = None
    beam_size: int | None = None
    must_include: list[str] | None = None
    prefix: str | None = None
    length_form: str | None = None
    banned: list[str] | None = None
    no_dangling: bool | None = None
    method: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, as `Captioner.caption` takes them."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class QuestionOptions:
    """Questions to ask, and restrictions on their answers."""

    questions: list[str] | None = None
    file: str | None = None
    interactive: bool = False
    answers: str | None = None
    """The allowed answers, separated by commas, or @FILE."""
    num_answers: int | None = None
    min_confidence: float | None = None

    @property
    def flags(self) -> list[str]:
        """The flags that were given and that ask questions in place of captions."""
        given = {
            "--question": self.questions is not None,
            "--questions": self.file is not None,
            "--ask": self.interactive,
        }
        return [flag for flag, is_given in given.items() if is_given]


@dataclass(frozen=True)
class OutputOptions:
    """The form of the results, and the file that they are written to."""

    jsonl: bool = False
    csv: bool = False
    path: str | None = None
    resume: bool = False
    retry_failed: bool = False
    errors_to: str | None = None

    @property
    def is_csv(self) -> bool:
        """True if a flag or the suffix of the file selects CSV rows."""
        return self.csv or (self.path or "").lower().endswith(".csv")


@dataclass(frozen=True)
class BatchOptions:
    """Files to write for each image in addition to its row."""

    sidecar: bool = False
    write_xmp: str | None = None
    in_place: bool = False
    xmp_sidecar: bool = False
    xmp_names: NamePattern | None = None
    """The names of new files of `xmp_sidecar`; None for the default."""
    keywords: bool = False
    keywords_only: bool = False
    attention: str | None = None
    overwrite: bool = False
    alt_text: bool = False
    alt_length: int | None = None

    @property
    def copies(self) -> str | None:
        """The folder of the copies that have the caption in their XMP metadata."""
        return None if self.in_place else self.write_xmp

    @property
    def writes_xmp(self) -> bool:
        """True if XMP is written into images, copies or files beside the images."""
        return self.xmp_sidecar or self.write_xmp is not None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of a printed caption."""
        if self.keywords_only:
            return ("keywords",)
        return ("caption", "keywords") if self.keywords else ("caption",)

    @property
    def sentence_length(self) -> int | None:
        """Maximum length of an alternative text in characters; None for plain captions."""
        return (self.alt_length or ALT_LENGTH) if self.alt_text else None


@dataclass(frozen=True)
class CaptionOptions:
    """All options of `captioner caption`."""

    paths: list[str] = field(default_factory=list)
    recursive: bool = False
    audio: str | None = None
    """A recording beside each image."""
    checkpoint: list[str] | None = None
    backend: BackendName = "auto"
    device: str = "auto"
    dtype: str | None = None
    tta: int = 1
    compile: bool = False
    batch_size: int | None = None
    num_captions: int | None = None
    stream: bool = False
    score: list[str] | None = None
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    questions: QuestionOptions = field(default_factory=QuestionOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)

    def join_audio(self, source: str | bytes) -> Any:
        """Return an image with the recording beside it, or the image alone without one."""
        if self.audio is None:
            return source
        from captioner.predict import Inputs

        return Inputs(image=source, audio=self.audio)

    def answering(self, answers: list[str] | None) -> dict[str, Any]:
        """Return how questions are answered, as `Captioner.ask` takes it."""
        return {
            "answers": answers,
            "num_answers": self.questions.num_answers or 1,
            "min_confidence": self.questions.min_confidence or 0.0,
            "beam_size": self.decoding.beam_size,
        }

    def settings(self) -> dict[str, Any]:
        """Return the options that affect rows, without checkpoint and allowed answers.

        FILE.meta.json stores these keys, so that --resume depends on their names and order.
        """
        batch = self.batch
        settings: dict[str, Any] = {
            "dtype": self.dtype or "float32",
            "num_captions": self.num_captions,
            "question": self.questions.questions,
            "audio": self.audio,
            "csv": self.output.is_csv,
            "alt_length": batch.sentence_length,
            "sidecar": batch.sidecar,
            "write_xmp": batch.write_xmp,
            "in_place": batch.in_place,
            "xmp_sidecar": batch.xmp_sidecar,
            "xmp_names": batch.xmp_names,
            "keywords": batch.keywords,
            "keywords_only": batch.keywords_only,
            "attention": batch.attention,
            **self.decoding.given(),
            "looks": self.tta if self.tta > 1 else None,
        }
        return {name: value for name, value in settings.items() if value not in (None, False)}

    def written_paths(self) -> list[str]:
        """Return the files and folders that the run writes, which are not inputs."""
        return list(filter(None, [*self._row_files(), self.output.errors_to, self.batch.copies]))

    def read_paths(self) -> list[str]:
        """Return the lists of images and the files of questions and answers."""
        lists = [x for x in self.paths if x.startswith("@") and not os.path.lexists(x)]
        lists += filter(lambda answers: answers.startswith("@"), [self.questions.answers or ""])
        paths = [path[1:] for path in lists if path != f"@{STDIN}"]
        return [path for path in [*paths, self.questions.file] if path]

    def reserved_paths(self) -> list[str]:
        """Return the files that no text or image may replace: the run reads or writes them."""
        written = filter(None, [*self._row_files(), self.output.errors_to])
        return [*written, *self.read_paths()]

    def _row_files(self) -> list[str]:
        return [self.output.path, meta_path(self.output.path)] if self.output.path else []
