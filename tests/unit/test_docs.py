"""The documentation: commands parse, links resolve, and each score appears in one file only."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from captioner.cli.recipes import RECIPES
from captioner.config import Config, DecodingConfig, load_config
from captioner.config.parsing import load_yaml, parse_value
from captioner.data import READERS

ROOT = Path(__file__).resolve().parents[2]


def parse(program: str, words: list[str]) -> Any:
    """Parse the arguments of `program` (generate, train, score or serve) without running it."""
    return importlib.import_module(f"captioner.cli.{program}").parse(words)


def load_settings(name: str | None, overrides: list[str]) -> None:
    """Read a configuration by path or name, with key=value overrides.

    The name may be that in the first line of a YAML block of the documentation.
    """
    from captioner.cli.recipes import config_path

    if name in SETTINGS:
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(SETTINGS[name], encoding="utf-8")
            load_config(path, overrides)
        return
    path = None if name is None else ROOT / name if name.endswith(".yaml") else config_path(name)
    load_config(path, overrides)


def decoding_flags() -> set[str]:
    """Return the flags of the decoding options."""
    from captioner.cli.generate_args import add_decoding

    parser = argparse.ArgumentParser()
    add_decoding(parser)
    return {flag for action in parser._actions for flag in action.option_strings}


PROGRAMS = {"caption": "generate", "train": "train", "score": "score", "serve": "serve"}
PROGRAMS |= {"check": "check", "export": "export", "web": "web", "push": "push", "scale": "scale"}
"""The module of each subcommand of `captioner`."""
LAUNCHERS = ("accelerate launch", "torchrun")
SYSTEM = {"cat", "git", ".", "cd", "npm", "npx"}
"""Commands that are only words to this test."""

INCLUDED = ["CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md"]
"""Pages of the site that lie elsewhere."""
CARD = "captioner/pretrained/README.md"
PAGES = sorted(
    ["README.md", CARD, *INCLUDED, *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
)
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}

SAME_NUMBER = {
    "0.252": "BLEU-4 of the bundled checkpoint, in README.md and in the model card",
    "0.653": "its CIDEr-D, in both files",
    "0.235": "a peer's BLEU-4 in README.md; a peer's exact match on DAQUAR in the model card",
    "0.497": "a peer's CIDEr in README.md; ROUGE-L in the model card",
    "0.589": "a peer's CIDEr in README.md; easy-VQA with another image in the model card",
    **dict.fromkeys(
        ("65.3", "25.4", "75.9", "26.5"), "the bundled checkpoint, in experiments and compression"
    ),
    **dict.fromkeys(("24.1", "58.8"), "scores of smaller checkpoints; scores of experiments"),
    **dict.fromkeys(
        ("16.1", "16.6", "22.7", "46.4", "63.9"), "scores of experiments; benchmarked times"
    ),
}
"""Scores in several files: equal by coincidence, or repeated on purpose."""


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced code blocks of a language, without their indentation."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```$"
    found = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


YAML = [(page, block) for page in PAGES for block in blocks(TEXTS[page], "yaml")]
SETTINGS = {named[1]: b for _, b in YAML if (named := re.match(r"# (\S+\.yaml)\n", b))}
"""The settings that the documentation shows as files, by name."""


def commands(text: str) -> Iterator[str]:
    """Yield the commands of the shell blocks, one by one, without comments and redirections."""
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line)
            # No command has a pipe or && within quotation marks, except in must_include.
            for command in re.split(r"&&|\s\|\s", line):
                command = re.sub(r"\s>\s*\S+", "", command).strip()
                if command:
                    yield command


COMMANDS = sorted({(page, command) for page in PAGES for command in commands(TEXTS[page])})


def check_program(program: str, words: list[str]) -> None:
    """Parse the arguments of a program; of training, load the settings as well."""
    args = parse(program, words)
    if program == "train":
        load_settings(args.config, args.overrides)
    elif program == "serve":
        assert args.host == "127.0.0.1"
    elif program == "score":
        assert args.compared or args.references or args.held_out
    elif program == "generate":
        assert args.paths or args.questions.file
    for word in words:
        assert not word.startswith("examples/") or (ROOT / word).is_file(), word


def check_python(words: list[str]) -> None:
    """Check `python ...`: a script of this project, or a module."""
    if words[0] == "-m":
        assert words[1] in ("pytest", "venv", "captioner", "http.server"), words
        if words[1] == "captioner":
            check_program(PROGRAMS[words[2]], words[3:])
        return
    assert (ROOT / words[0]).is_file(), words[0]
    program = words[0].removesuffix(".py")
    if program in PROGRAMS.values():
        check_program(program, words[1:])
    else:
        source = (ROOT / words[0]).read_text(encoding="utf-8")
        for flag in words[1:]:
            assert not flag.startswith("--") or f'"{flag}"' in source, flag


def check_make(targets: list[str]) -> None:
    """Check that the Makefile has the targets."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def check_pip(words: list[str]) -> None:
    """Check that the requirement files and the extras exist."""
    assert words[0] == "install"
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for before, word in pairwise(words):
        assert before != "-r" or (ROOT / word).is_file(), word
        extras = re.fullmatch(r"\.\[(.*)\]", word)
        for extra in extras[1].split(",") if extras else ():
            assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), word


def check_curl(words: list[str]) -> None:
    """Check the path of a request and the names of its fields."""
    sources = (ROOT / "captioner/serve").rglob("*.py")
    source = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    (address,) = (word for word in words if word.startswith("http://127.0.0.1:7860"))
    assert address.rsplit("/", 1)[1] in source, address
    fields = [word for before, word in pairwise(words) if before == "-F"]
    assert fields
    for name in (field.split("=")[0] for field in fields):
        assert re.search(rf"\b{name}\b", source), name


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command_is_valid(page, command):
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):  # environment variables
        words = words[1:]
    first, *rest = words
    if command.startswith(LAUNCHERS):
        place = words.index("train.py")
        for before, word in pairwise(words[:place]):
            assert before != "--config_file" or (ROOT / word).is_file(), word
        check_program("train", words[place + 1 :])
    elif first == "captioner":
        check_program(PROGRAMS[rest[0]], rest[1:])
    elif first in ("python", "make", "pip", "curl"):
        checks = {"python": check_python, "make": check_make, "pip": check_pip, "curl": check_curl}
        checks[first](rest)
    else:
        assert first in SYSTEM, f"{page}: {command}"


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page}: {target}"


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST form them."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"```{include} (\S+)", text):
        text += (path.parent / name).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_the_project_exist(page):
    if page == "CHANGELOG.md":  # names what was removed, too
        return
    paths = r"`((?:captioner|configs|benchmarks|examples|tests)/[\w./]+)`"
    for name in re.findall(paths, TEXTS[page]):
        assert (ROOT / name.removesuffix("/")).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_compile(page):
    for block in blocks(TEXTS[page], "python"):
        compile(block, page, "exec")


@pytest.mark.parametrize(("page", "block"), YAML)
def test_settings_load(page, block):
    settings = load_yaml(block)
    if "stages" in settings:  # an excerpt of the section `train`
        settings = {"train": settings}
    parse_value(Config, settings)


@pytest.mark.slow
def test_example_of_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (block,) = blocks(TEXTS["README.md"], "python")
    exec(compile(block, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_readme_is_short_and_begins_with_the_two_commands():
    assert (ROOT / "README.md").stat().st_size <= 9 * 1024
    first, second = blocks(TEXTS["README.md"], "bash")[:2]
    assert first.startswith("pip install . && python generate.py examples/")
    assert second.startswith("pip install -r requirements-dev.txt && python -m pytest")


UNITS = r"MB|GB|ms|captions/s|million"


def scores(text: str) -> set[str]:
    """Return the numbers that are written as scores: 0.594, or 59.4 where scores are x 100."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return set(re.findall(rf"(?<![\d.])(?:0\.\d{{3}}|\d{{2}}\.\d)(?![\d.]| (?:{UNITS})\b)", text))


def test_each_score_is_in_one_file():
    places = defaultdict(set)
    for page in PAGES:
        for score in scores(TEXTS[page]):
            places[score].add(page)
    twice = {score: pages for score, pages in places.items() if len(pages) > 1}
    assert twice.keys() == SAME_NUMBER.keys(), twice


def test_no_placeholders_are_left():
    texts = [*TEXTS.values()]
    texts += [path.read_text(encoding="utf-8") for path in RECIPES.glob("**/*.yaml")]
    assert not [found for text in texts for found in re.findall(r"@[A-Z]+@|TODO|FIXME", text)]


def test_no_conflict_markers_are_left():
    folders = ("captioner", "configs", "docs", "tests", "web/src", "web/tests")
    paths = [path for name in folders for path in (ROOT / name).rglob("*.*")]
    texts = [path for path in paths if path.suffix in {".md", ".py", ".ts", ".yaml", ".css"}]
    marker = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    texts.append(ROOT / "CHANGELOG.md")
    assert [path for path in texts if marker.search(path.read_text(encoding="utf-8"))] == []


def test_citation_has_the_version_of_the_changelog():
    (version, date), *_ = re.findall(
        r"^## \[([\d.]+)\] - (\S+)$", TEXTS["CHANGELOG.md"], re.MULTILINE
    )
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {version}\n" in citation
    assert f'date-released: "{date}"\n' in citation


def test_table_of_formats_is_complete():
    table = TEXTS["docs/data-formats.md"].split("| name |")[1].split("\n\n")[0]
    last_cells = re.findall(r"\| ([^|]*) \|$", table, re.MULTILINE)
    names = {name for cell in last_cells for name in re.findall(r"`(\w+)`", cell)}
    assert names == set(READERS)


def test_decoding_reference_is_complete():
    text = TEXTS["docs/decoding.md"]
    fields = {field.name for field in dataclasses.fields(DecodingConfig)}
    assert fields <= set(re.findall(r"`(\w+)", text))
    flags = decoding_flags()
    named = set(re.findall(r"`(--[\w-]+)", text))
    assert named - flags == {"--answers", "--checkpoint", "--num-captions", "--score", "--stream"}
    assert flags - named <= {"-h", "--help"}
    for name in fields:
        flag = {"banned": "--ban", "method": "--sample"}.get(name, f"--{name.replace('_', '-')}")
        assert flag in flags
