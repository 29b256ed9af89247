"""Fixtures of the tests of score.py: pictures, a checkpoint that answers, and the program.

The fixtures import what they need, because every test process imports this module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from captioner.predict import Captioner


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures 0.png, 1.png and so on."""
    from score_data import PICTURES
    from tiny import picture

    folder = tmp_path_factory.mktemp("pictures")
    for i in range(PICTURES):
        picture(i).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def vqa_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that answers questions."""
    from tiny_vqa import make_vqa_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "best"
    return str(make_vqa_checkpoint(folder, fusion="add"))


@pytest.fixture(scope="session")
def vqa_captioner(vqa_checkpoint: str) -> Captioner:
    """The loaded checkpoint."""
    from captioner.predict import load

    return load(vqa_checkpoint)


@pytest.fixture(scope="session")
def vqa_answers(vqa_captioner: Captioner, pictures: Path) -> dict[tuple[int, int], str]:
    """The answers of the checkpoint, by the numbers of picture and question."""
    from score_data import PICTURES
    from tiny_vqa import QUESTIONS

    pairs = [(i, q) for i in range(PICTURES) for q in range(len(QUESTIONS))]
    rows = [(pictures / f"{i}.png", QUESTIONS[q]) for i, q in pairs]
    answers = dict(zip(pairs, (a.text for a in vqa_captioner.answer(rows)), strict=True))
    assert len({answers[i, 0] for i in range(4)}) > 1, "answers must differ between pictures"
    return answers


@pytest.fixture
def run_score(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run score.py in this process; return the exit status, stdout and stderr."""

    from captioner.cli import score

    def call(*words: object) -> tuple[int, str, str]:
        status = score.main(list(map(str, words)))
        return (status, *capsys.readouterr())

    return call
