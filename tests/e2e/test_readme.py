"""What the README tells people to type exists, and is understood."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from captioner.cli import generate, score, serve
from captioner.cli.generate_args import add_decoding
from captioner.config import DecodingConfig, load_config
from captioner.data import READERS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    command.strip()
    for block in BLOCKS
    for line in block.splitlines()
    for command in re.split(r"&&|\|", line.split(" #")[0])
    if command.strip()
]


def words_of(program: str) -> list[list[str]]:
    found = [shlex.split(c) for c in COMMANDS if f" {program}" in c]
    return [words[words.index(program) + 1 :] for words in found]


def test_the_two_commands_come_first():
    first, second = BLOCKS[:2]
    assert first.startswith("pip install -r requirements.txt && python generate.py examples/")
    assert second.startswith("pip install -r requirements-dev.txt && python -m pytest")


@pytest.mark.parametrize("words", words_of("generate.py"), ids=" ".join)
def test_generate_commands_are_understood(words):
    args = generate.parse(words)
    assert args.paths or args.questions
    for word in words:
        assert not word.startswith("examples/") or (ROOT / word).is_file()


@pytest.mark.parametrize("words", words_of("score.py"), ids=" ".join)
def test_score_commands_are_understood(words):
    args = score.parse(words)
    assert args.references or args.held_out


@pytest.mark.parametrize("words", words_of("serve.py"), ids=" ".join)
def test_serve_commands_are_understood(words):
    assert serve.parse(words).host == "127.0.0.1"


@pytest.mark.parametrize("words", words_of("train.py"), ids=" ".join)
def test_train_commands_load(words):
    assert words[0] == "--config"
    load_config(ROOT / words[1], words[2:])


def test_files_and_readers_it_names_exist():
    for name in re.findall(r"`((?:captioner|configs|benchmarks|examples)/[\w./]+)`", TEXT):
        assert (ROOT / name.removesuffix("/")).exists(), name
    table = TEXT.split("| by name |")[1].split("\n\n")[0]
    last_cells = re.findall(r"\| ([^|]*) \|$", table, re.MULTILINE)
    named = {name for cell in last_cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(READERS)


def test_nothing_is_left_to_fill_in():
    cards = [TEXT, (ROOT / "captioner/pretrained/README.md").read_text(encoding="utf-8")]
    cards += [path.read_text(encoding="utf-8") for path in (ROOT / "configs").glob("*.yaml")]
    assert not [found for card in cards for found in re.findall(r"@[A-Z]+@", card)]


def test_every_way_to_decode_is_in_the_table_and_has_a_flag():
    table = TEXT.split("## Decode")[1].split("\n## ")[0]
    told = set(re.findall(r"`(\w+)", table))
    assert {field.name for field in dataclasses.fields(DecodingConfig)} <= told
    parser = argparse.ArgumentParser()
    add_decoding(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    named = set(re.findall(r"`(--[\w-]+)", table))
    others = "--answers --checkpoint --compile --dtype --looks --num-captions --score --stream"
    assert named - flags <= set(others.split())
    for field in dataclasses.fields(DecodingConfig):
        flag = {"banned": "--ban", "method": "--sample"}.get(
            field.name, f"--{field.name.replace('_', '-')}"
        )
        assert flag in flags
