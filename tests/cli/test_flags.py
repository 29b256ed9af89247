"""Flags of all commands: unknown, renamed, and without effect."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from captioner.cli import generate, score, serve, train
from captioner.cli.parser import Parser, add_renamed_flag
from captioner.cli.process import show_messages

PROGRAMS = {"generate.py": generate, "score.py": score, "serve.py": serve, "train.py": train}


def flags_of(module: Any) -> list[str]:
    """Return the flags of a command."""
    seen: list[Parser] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "_reject_unknown", lambda self, unknown: seen.append(self) or exit(0))
        with pytest.raises(SystemExit):
            module.parse(["--no-such-flag"])
    return [flag for flag in seen[0]._option_string_actions if flag.startswith("--")]


FLAGS = {name: flags_of(module) for name, module in PROGRAMS.items()}


def usage(capsys: pytest.CaptureFixture, program: Any, *words: str) -> str:
    """Return the message of a usage error."""
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
def test_the_error_of_an_unknown_flag_names_a_known_flag(program, data):
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
def test_the_error_names_the_nearest_flag(capsys, program, wrong, nearest):
    assert f"is {nearest}" in usage(capsys, program, "a", wrong)


def test_a_setting_with_dashes_is_explained(capsys):
    message = usage(capsys, train, "--train.batch_size=4")
    assert "settings have no dashes: train.batch_size=VALUE" in message
    assert "key.path=value" in usage(capsys, train, "--lr", "1e-4")


def test_a_unique_prefix_is_accepted_and_an_ambiguous_one_rejected(capsys):
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
    ("words", "message"),
    [
        ("a.png --stream --batch-size 2", "--batch-size cannot be used with --stream"),
        ("a.png --score t --batch-size 2", "--batch-size cannot be used with --score"),
        ("a.png --ask --batch-size 2", "--batch-size cannot be used with --ask"),
        ("a.png --score t --compile", "--compile cannot be used with --score"),
        ("a.png --stream --beam-size 3", "--beam-size cannot be used with --stream"),
        ("a.png --stream --groups 2 --diversity 1", "--groups applies to beam search"),
        ("a.png --stream --length-penalty 2", "--length-penalty applies to beam search"),
        ("a.png --stream --question q --length-form gnmt", "--length-form applies to beam search"),
        ("a.png --stream --num-captions 2", "--num-captions cannot be used"),
        ("a.png --stream --seed 1", "--seed needs --sample"),
        ("a.png --sample --length-penalty 2", "--length-penalty applies to beam search"),
        ("a.png --sample --length-form average", "--length-form applies to beam search"),
        ("a.png --seed 0", "--seed needs --sample"),
        ("a.png --temperature 1", "--temperature needs --sample"),
        ("a.png --prefix  ", "expected one argument"),
        ("- --recursive", "--recursive has no effect"),
        ("a.png --question q --max-length 3", "--max-length applies to captions only"),
        ("a.png --overwrite", "--overwrite needs"),
        ("a.png --errors-to b.JPG", "is the name of an image"),
        ("a.png --output b.png", "is the name of an image"),
        ("@l.txt --errors-to ./l.txt", "is a file that the run reads"),
        ("a.png --question q --answers @l.txt --output l.txt", "is a file that the run reads"),
        ("a.png --output o --errors-to ./o", "of one file"),
    ],
)
def test_flags_of_caption_without_effect_are_rejected(capsys, words, message):
    assert message in usage(capsys, generate, *words.split())


def test_a_blank_prefix_is_rejected(capsys):
    assert "--prefix is empty" in usage(capsys, generate, "a.png", "--prefix", " ")


@pytest.mark.parametrize(
    ("words", "message"),
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
def test_flags_of_score_without_effect(capsys, words, message):
    assert message in usage(capsys, score, *words.split())


def test_checkpoint_flags_are_accepted_for_a_comparison_with_one(capsys):
    words = ["compare", "bundled", "b.jsonl", "--references", "r"]
    args = score.parse([*words, "--tta", "2", "--images", "d"])
    assert (args.tta, args.batch_size, args.dtype, args.device) == (2, 16, None, "auto")


def test_the_output_of_score_cannot_replace_the_references(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val.jsonl").write_text("{}\n")
    for references in (tmp_path / "data", tmp_path / "data" / "val.jsonl"):
        words = ["--checkpoint", "c", "--references", str(references)]
        words += ["--output", str(tmp_path / "data" / ".." / "data" / "val.jsonl")]
        assert "is a file of the data set" in usage(capsys, score, *words)
    score.parse([*words[:-1], str(tmp_path / "new.jsonl")])


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        (train, "--force", "--force needs --resume"),
        (train, "--check --resume", "--resume cannot be used with --check"),
        (train, "--check --force", "--force cannot be used with --check"),
        (serve, "--no-page --corrections d", "--corrections applies to the page"),
    ],
)
def test_flags_of_train_and_serve_without_effect_are_rejected(capsys, program, words, message):
    assert message in usage(capsys, program, *words.split())
