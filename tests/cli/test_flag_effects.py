"""Flags of `captioner caption` that are accepted: each is used by the run."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import picture

from captioner.cli import generate, generate_setup, question_runs
from captioner.cli.batch.run_record import ORIGINS
from captioner.cli.generate_options import (
    BatchOptions,
    CaptionOptions,
    DecodingOptions,
    OutputOptions,
    QuestionOptions,
)
from captioner.config import DecodingConfig
from captioner.files import IMAGE_SUFFIXES
from captioner.predict import Answer, Answers, Caption, Result, Scored

VALUES: dict[str, st.SearchStrategy[list[str]]] = {
    flag: st.just([])
    for flag in ("--jsonl", "--stream", "--compile", "--ask", "--sample", "--no-dangling", "--csv",
                 "--recursive", "--resume", "--retry-failed", "--sidecar", "--in-place",
                 "--overwrite", "--alt-text", "--write-xmp", "--xmp-sidecar", "--keywords",
                 "--keywords-only")
} | {
    flag: st.just([value])
    for flag, value in {
        "--checkpoint": "other",
        "--num-captions": "2",
        "--batch-size": "3",
        "--device": "cuda",
        "--dtype": "bfloat16",
        "--tta": "2",
        "--score": "a dog",
        "--question": "what?",
        "--answers": "yes,no",
        "--num-answers": "2",
        "--min-confidence": "0.5",
        "--beam-size": "4",
        "--must-include": "dog",
        "--ban": "cat",
        "--prefix": "a",
        "--length-form": "gnmt",
        "--max-length": "9",
        "--min-length": "2",
        "--length-penalty": "0.5",
        "--groups": "2",
        "--diversity": "0.5",
        "--temperature": "0.5",
        "--top-k": "3",
        "--top-p": "0.5",
        "--min-p": "0.1",
        "--seed": "5",
        "--no-repeat-ngram": "3",
        "--repetition-penalty": "1.5",
        "--output": "out.jsonl",
        "--errors-to": "errors.txt",
        "--alt-length": "50",
        "--xmp-names": "stem",
    }.items()
}  # fmt: skip
"""Flags of generate.py, with values other than the defaults."""


class FakeCaptioner:
    """Records the options that it is called with."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.config = argparse.Namespace(decoding=DecodingConfig())

    def caption_stream(self, sources: Iterator[Any], **options: Any) -> Iterator[Result]:
        self.options = options
        return (Result((Caption("a dog runs", -0.5, 0.6),)) for _ in sources)

    def answer_stream(self, pairs: Iterator[Any], **options: Any) -> Iterator[Answers]:
        self.options = options
        return (Answers((Answer("yes", 0.5),)) for _ in pairs)

    def ask(self, image: Any, question: str, **options: Any) -> Answers:
        self.options = options
        return Answers((Answer("yes", 0.5),))

    def score(self, image: Any, texts: list[str], **options: Any) -> list[Scored]:
        self.options = options | {"texts": texts}
        return [Scored(text, -1.0, -0.5) for text in texts]

    def stream(self, image: Any, **options: Any) -> Iterator[str]:
        self.options = options
        return iter(["a", " dog"])

    def encode(self, image: Any) -> Any:
        return SimpleNamespace(image=image, kind=None)

    def repeated_answers(self, answers: list[str]) -> list[str]:
        return []


ORIGIN = {
    "captioner": "1",
    "checkpoint": [{"name": "bundled", "revision": None}],
    "date": "2026-01-02T03:04:05+00:00",
}
DECODING = {field.name for field in dataclasses.fields(DecodingConfig)}
NESTED = {
    "decoding": DecodingOptions,
    "questions": QuestionOptions,
    "output": OutputOptions,
    "batch": BatchOptions,
}
"""The dataclass of each nested field of `CaptionOptions`."""
FIELDS = {
    flag: action.dest
    for flag, action in generate.build_parser("p")._option_string_actions.items()
    if action.dest not in ("help", argparse.SUPPRESS)  # they set no option
}
"""The field that each flag sets."""


def owner_of(flag: str) -> tuple[str, type]:
    """Return the nested field, or an empty text, and the dataclass that has the field of a flag."""
    for name, kind in NESTED.items():
        if FIELDS[flag] in kind.__dataclass_fields__:
            return name, kind
    return "", CaptionOptions


def value_of(options: CaptionOptions, flag: str) -> Any:
    nested, _ = owner_of(flag)
    return getattr(getattr(options, nested) if nested else options, FIELDS[flag])


def record_reads(patch: pytest.MonkeyPatch) -> set[tuple[type, str]]:
    """Return a set that grows by each field of the options that is read."""
    read: set[tuple[type, str]] = set()
    for kind in (CaptionOptions, *NESTED.values()):

        def get(self: object, name: str, kind: type = kind) -> Any:
            read.add((kind, name))
            return object.__getattribute__(self, name)

        patch.setattr(kind, "__getattribute__", get)
    return read


def test_each_flag_sets_a_field_of_the_options():
    kinds = (CaptionOptions, *NESTED.values())
    fields = [name for kind in kinds for name in kind.__dataclass_fields__ if name not in NESTED]
    assert sorted(set(FIELDS.values())) == sorted({*fields, "questions"} - {"paths"})
    assert len(fields) == len(set(fields)), "a flag would set two fields"


def test_the_decoding_options_are_the_fields_of_the_configuration():
    assert set(DecodingOptions.__dataclass_fields__) == DECODING


def assert_reached(given: CaptionOptions, flags: list[str], options: dict[str, Any]) -> None:
    """Check that the captioner was called with the values of the flags."""
    for flag in flags:
        option = {"score": "texts"}.get(FIELDS[flag], FIELDS[flag])
        if option not in DECODING | {"num_captions", "batch_size", "answers", "num_answers",
                                     "min_confidence", "texts"}:  # fmt: skip
            continue
        value = value_of(given, flag)
        value = value.split(",") if option == "answers" else value
        assert option in options, f"{flag} was ignored"
        if option == "beam_size":  # raised to the number of captions
            assert options[option] >= value
        else:
            assert options[option] == value, f"{flag} was not applied"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path, before = tmp_path_factory.mktemp("flags"), os.getcwd()
    yield path
    os.chdir(before)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=4), st.data())
def test_flags_of_generate_are_applied_or_rejected(folder, given, data):
    """The run uses the value of every flag that the parser accepts."""
    words = [word for flag in given for word in (flag, *data.draw(VALUES[flag]))]
    here = folder / str(len(list(folder.iterdir())))
    here.mkdir()
    os.chdir(here)
    picture(0).save("a.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "error", lambda self, message: exit(2))
        try:
            options = generate.parse(["a.png", *words])
        except SystemExit:
            return
        captioner, loaded = FakeCaptioner(), {}
        patch.setattr(
            "captioner.predict.loading.load", lambda name, **on: loaded.update(on) or captioner
        )
        patch.setattr(question_runs, "read_typed_lines", lambda: iter(["what?"]))
        patch.setattr(
            generate,
            "identify_checkpoints",
            lambda options: {"checkpoint": options.checkpoint or ["bundled"], ORIGINS: [ORIGIN]},
        )
        # Its lexicon takes a second to build.
        patch.setattr("captioner.cli.batch.runner.find_keywords", lambda caption: ["dog"])
        patch.setattr(generate_setup, "find_suffixes", lambda options: IMAGE_SUFFIXES)
        read = record_reads(patch)
        assert generate.run(options) == 0
    fields = {flag: (owner_of(flag)[1], FIELDS[flag]) for flag in given}
    if "--in-place" in given:
        fields["--write-xmp"] = (BatchOptions, "in_place")
    unread = {flag for flag in given if fields[flag] not in read}
    assert not unread, f"{unread} were not read"
    for name in ("backend", "dtype", "tta", "compile"):
        assert loaded[name] == getattr(options, name)
    assert loaded["device"] in ("cpu", options.device)
    assert_reached(options, given, captioner.options)
    assert Path("out.jsonl").exists() == ("--output" in given)
    assert Path("errors.txt").exists() == ("--errors-to" in given)
    assert Path("a.txt").exists() == ("--sidecar" in given)
    sidecar = "a.xmp" if "--xmp-names" in given else "a.png.xmp"
    assert Path(sidecar).exists() == ("--xmp-sidecar" in given)
    assert Path("captioned").exists() == ("--write-xmp" in given and "--in-place" not in given)
