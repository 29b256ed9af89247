"""Flags of the command lines: each is applied or rejected, and none is ignored."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny import picture

from captioner.cli import generate, score, serve, train
from captioner.cli.parser import Parser, add_renamed_flag
from captioner.cli.process import show_messages
from captioner.config import DecodingConfig
from captioner.predict import Answer, Answers, Caption, Result, Scored

PROGRAMS = {"generate.py": generate, "score.py": score, "serve.py": serve, "train.py": train}


def flags_of(module: Any) -> list[str]:
    """The flags of a program, by its own parser."""
    seen: list[Parser] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "_all_known", lambda self, args, rest: seen.append(self) or exit(0))
        with pytest.raises(SystemExit):
            module.parse(["--no-such-flag"])
    return [flag for flag in seen[0]._option_string_actions if flag.startswith("--")]


FLAGS = {name: flags_of(module) for name, module in PROGRAMS.items()}


def usage(capsys: pytest.CaptureFixture, program: Any, *words: str) -> str:
    """The message of a usage error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        program.parse(list(words))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()[-1]


# Unknown flags


@given(st.sampled_from(sorted(FLAGS)), st.data())
@settings(max_examples=60)
def test_an_unknown_flag_is_an_error_that_names_a_known_one(program, data):
    flag = data.draw(st.sampled_from(FLAGS[program]))
    place = data.draw(st.integers(3, len(flag) - 1))
    wrong = flag[:place] + data.draw(st.sampled_from("xq")) + flag[place + 1 :]
    assume(not any(known.startswith(wrong) for known in FLAGS[program]))
    with pytest.MonkeyPatch.context() as patch:
        messages: list[str] = []
        patch.setattr(Parser, "error", lambda self, message: messages.append(message) or exit(2))
        with pytest.raises(SystemExit):
            PROGRAMS[program].parse([wrong])
    assert f"unrecognized arguments: {wrong}" in messages[0]
    nearest = messages[0].split(f"the nearest to {wrong} is ")[1].split(";")[0]
    assert nearest in FLAGS[program]


@pytest.mark.parametrize(
    ("program", "wrong", "nearest"),
    [
        (generate, "--num-caption2", "--num-captions"),
        (generate, "--num_captions", "--num-captions"),
        (generate, "--beams=3", "--beam-size"),
        (generate, "--sidecars", "--sidecar"),
        (generate, "--recursiv3", "--recursive"),
        (score, "--refs", "--references"),
        (score, "--heldout", "--held-out"),
        (serve, "--max-batches", "--max-batch"),
        (train, "--configs", "--config"),
    ],
)
def test_the_nearest_flag_is_named(capsys, program, wrong, nearest):
    assert f"is {nearest}" in usage(capsys, program, "a", wrong)


def test_settings_are_told_to_have_no_dashes(capsys):
    message = usage(capsys, train, "--train.batch_size=4")
    assert "settings have no dashes: train.batch_size=VALUE" in message
    assert "key.path=value" in usage(capsys, train, "--lr", "1e-4")


def test_a_prefix_of_one_flag_is_that_flag_and_of_several_an_error(capsys):
    assert generate.parse(["a.png", "--num-caption", "2"]).num_captions == 2
    assert "ambiguous" in usage(capsys, generate, "a.png", "--num", "2")


# Renamed flags


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (generate, "a.png"),
        (score, "--checkpoint c --references r"),
        (serve, "--no-page"),
    ],
)
def test_looks_is_a_deprecated_name_of_tta(capsys, program, words):
    show_messages("prog")
    assert program.parse([*words.split(), "--looks", "2"]).tta == 2
    assert capsys.readouterr() == ("", "prog: --looks is deprecated; use --tta\n")
    assert program.parse([*words.split(), "--tta", "2"]).tta == 2
    assert capsys.readouterr() == ("", "")


def test_the_warning_of_a_renamed_flag_begins_with_the_program(capsys):
    assert generate.main(["--looks", "4", "none.png"], prog="captioner caption") == 1
    warning = capsys.readouterr().err.splitlines()[0]
    assert warning == "captioner caption: --looks is deprecated; use --tta"


def test_a_renamed_flag_is_checked_and_is_in_no_help(capsys):
    assert "argument --looks: invalid choice" in usage(capsys, generate, "a.png", "--looks", "3")
    assert "the nearest to --lookz is --lo" not in usage(capsys, generate, "a", "--lookz=2")
    with pytest.raises(SystemExit):
        generate.parse(["--help"])
    shown = capsys.readouterr().out
    assert "--tta" in shown
    assert "--looks" not in shown


def test_one_flag_is_parsed_by_its_old_and_its_new_name():
    parser = Parser()
    parser.add_argument("--new-name", type=int, default=1)
    add_renamed_flag(parser, "--old-name", "--new-name", type=int)
    assert parser.parse_args([]).new_name == 1
    assert parser.parse_args(["--old-name", "2"]).new_name == 2
    assert parser.parse_args(["--new-name", "3"]).new_name == 3


# Flags without effect


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("a.png --stream --batch-size 2", "--batch-size cannot be used with --stream"),
        ("a.png --score t --batch-size 2", "--batch-size cannot be used with --score"),
        ("a.png --ask --batch-size 2", "--batch-size cannot be used with --ask"),
        ("a.png --score t --compile", "--compile cannot be used with --score"),
        ("a.png --stream --beam-size 3", "--beam-size cannot be used with --stream"),
        ("a.png --stream --groups 2 --diversity 1", "--groups is of beam search"),
        ("a.png --stream --length-penalty 2", "--length-penalty is of beam search"),
        ("a.png --stream --question q --length-form gnmt", "--length-form is of beam search"),
        ("a.png --stream --num-captions 2", "--num-captions cannot be used"),
        ("a.png --stream --seed 1", "--seed needs --sample"),
        ("a.png --sample --length-penalty 2", "--length-penalty is of beam search"),
        ("a.png --sample --length-form average", "--length-form is of beam search"),
        ("a.png --seed 0", "--seed needs --sample"),
        ("a.png --temperature 1", "--temperature needs --sample"),
        ("a.png --prefix  ", "expected one argument"),
        ("- --recursive", "--recursive has no effect"),
        ("a.png --question q --max-length 3", "--max-length is for captions"),
        ("a.png --overwrite", "--overwrite needs"),
        ("a.png --errors-to b.JPG", "is the name of an image"),
        ("a.png --output b.png", "is the name of an image"),
        ("@l.txt --errors-to ./l.txt", "is a file that the run reads"),
        ("a.png --question q --answers @l.txt --output l.txt", "is a file that the run reads"),
        ("a.png --output o --errors-to ./o", "of one file"),
    ],
)
def test_flags_of_generate_without_effect(capsys, words, told):
    assert told in usage(capsys, generate, *words.split())


def test_a_blank_prefix_is_no_prefix(capsys):
    assert "--prefix is empty" in usage(capsys, generate, "a.png", "--prefix", " ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        *(
            (f"a.json --references r {flag}", f"{flag.split()[0]} has no effect")
            for flag in ("--beam-size 2", "--batch-size 2", "--device cpu", "--dtype float32",
                         "--tta 1", "--images d")
        ),
        ("compare a b --references r --tta 2", "two files are compared"),
        ("compare a b --references r --questions", "cannot be used with compare"),
        ("--checkpoint c --held-out model.width=3", "has no effect on the scores"),
        ("--checkpoint c --held-out data.sources.0.weight=3", "has no effect on the scores"),
        ("--checkpoint c --references r --output o.csv", "the format is JSONL"),
        ("--checkpoint c --held-out --output o.TSV", "the format is JSONL"),
    ],
)  # fmt: skip
def test_flags_of_score_without_effect(capsys, words, told):
    assert told in usage(capsys, score, *words.split())


def test_flags_of_a_checkpoint_are_for_a_comparison_with_one(capsys):
    words = ["compare", "bundled", "b.jsonl", "--references", "r"]
    args = score.parse([*words, "--tta", "2", "--images", "d"])
    assert (args.tta, args.batch_size, args.dtype, args.device) == (2, 16, "float32", "cpu")


def test_an_output_of_score_replaces_no_references(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val.jsonl").write_text("{}\n")
    for references in (tmp_path / "data", tmp_path / "data" / "val.jsonl"):
        words = ["--checkpoint", "c", "--references", str(references)]
        words += ["--output", str(tmp_path / "data" / ".." / "data" / "val.jsonl")]
        assert "is a file of the data set" in usage(capsys, score, *words)
    score.parse([*words[:-1], str(tmp_path / "new.jsonl")])


@pytest.mark.parametrize(
    ("program", "words", "told"),
    [
        (train, "--force", "--force needs --resume"),
        (train, "--check --resume", "--resume cannot be used with --check"),
        (train, "--check --force", "--force cannot be used with --check"),
        (serve, "--no-page --corrections d", "--corrections is for the page"),
    ],
)
def test_flags_of_train_and_serve_without_effect(capsys, program, words, told):
    assert told in usage(capsys, program, *words.split())


# Flags that are accepted


VALUES: dict[str, st.SearchStrategy[list[str]]] = {
    flag: st.just([])
    for flag in ("--jsonl", "--stream", "--compile", "--ask", "--sample", "--no-dangling", "--csv",
                 "--recursive", "--resume", "--retry-failed", "--sidecar", "--in-place",
                 "--overwrite", "--alt-text", "--write-xmp")
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
    }.items()
}  # fmt: skip
"""Flags of generate.py, with values other than the defaults."""


class FakeCaptioner:
    """Notes the options that it is called with."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.config = argparse.Namespace(decoding=DecodingConfig())

    def caption_stream(self, sources: Iterator[Any], **options: Any) -> Iterator[Result]:
        self.options = options
        return (Result((Caption("a dog runs", -0.5),)) for _ in sources)

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
        return image

    def repeated_answers(self, answers: list[str]) -> list[str]:
        return []


class Recorder(argparse.Namespace):
    """Arguments that note which of them are read."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            super().__getattribute__("_read").add(name)
        return super().__getattribute__(name)


DECODING = {field.name for field in dataclasses.fields(DecodingConfig)}
RENAMED = {"ban": "banned", "sample": "method", "score": "texts"}


def assert_reached(args: argparse.Namespace, given: list[str], options: dict[str, Any]) -> None:
    """What was given is among the options that the captioner was called with."""
    for flag in given:
        name = flag[2:].replace("-", "_")
        option = RENAMED.get(name, name)
        if option not in DECODING | {"num_captions", "batch_size", "answers", "num_answers",
                                     "min_confidence", "texts"}:  # fmt: skip
            continue
        value = {"sample": "sample"}.get(name, getattr(args, name))
        assert option in options, f"{flag} was ignored"
        if option == "beam_size":  # widened to the captions
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
    """A flag that the parser accepts is read by the run, and its value is used."""
    words = [word for flag in given for word in (flag, *data.draw(VALUES[flag]))]
    here = folder / str(len(list(folder.iterdir())))
    here.mkdir()
    os.chdir(here)
    picture(0).save("a.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "error", lambda self, message: exit(2))
        try:
            args = generate.parse(["a.png", *words])
        except SystemExit:
            return
        captioner, loaded = FakeCaptioner(), {}
        recorder = Recorder(_read=set(), **vars(args))
        patch.setattr("captioner.predict.load", lambda name, **on: loaded.update(on) or captioner)
        patch.setattr(generate, "typed", lambda: iter(["what?"]))
        patch.setattr(generate, "checkpoints", lambda args: {"checkpoint": args.checkpoint})
        assert generate.run(recorder) == 0
    names = {flag: flag[2:].replace("-", "_") for flag in given}
    names |= {"--alt-text": "alt_length"}  # which it sets
    names |= {"--write-xmp": "in_place"} if "--in-place" in given else {}
    unread = {flag for flag in given if names[flag] not in recorder._read}
    assert not unread, f"{unread} were not read"
    for name in ("device", "dtype", "compile"):
        assert loaded[name] == getattr(args, name)
    assert loaded["tta"] == args.tta
    assert_reached(recorder, given, captioner.options)
    assert Path("out.jsonl").exists() == ("--output" in given)
    assert Path("errors.txt").exists() == ("--errors-to" in given)
    assert Path("a.txt").exists() == ("--sidecar" in given)
    assert Path("captioned").exists() == ("--write-xmp" in given and "--in-place" not in given)
