"""The diagnosis of captions, the log of a run and its HTML report."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from drawn_images import make_flickr
from runs import run, stop_after
from tiny import picture

from captioner.evaluation.class_tables import tabulate_classes
from captioner.metrics import caption_statistics, cider_d, score_captions
from captioner.training.html_report import (
    CAPTIONS,
    LOG,
    load_rows,
    log_row,
    replace_rows,
    write_report,
)
from captioner.training.validation import diagnose, ends_dangling

COLOURS = ("red", "green", "blue", "black", "white", "brown", "grey", "pink", "gold", "navy")
THINGS = ("dog", "boat", "horse", "child", "bird", "car")


def paired() -> tuple[dict[int, str], dict[int, list[str]]]:
    """Return correct captions of sixty images and their references."""
    names = [f"{c} {t}" for c in COLOURS for t in THINGS]
    references = {i: [f"a {n} on the grass", f"the {n} runs"] for i, n in enumerate(names)}
    return {i: f"a {n} runs on the grass" for i, n in enumerate(names)}, references


def watch(captions, references):
    score = cider_d(captions, {i: references[i] for i in captions}).corpus if captions else 0.0
    return diagnose(captions, references, score=score)


# Diagnosis of captions


def test_captions_that_depend_on_the_images_give_no_warning():
    captions, references = paired()
    result, warnings = watch(captions, references)
    assert warnings == []
    assert result["different"] == 1
    assert result["dangling"] == 0
    moved = {i: captions[(i + 1) % 60] for i in captions}
    assert result["CIDEr-D, other image"] == pytest.approx(cider_d(moved, references).corpus)


def test_equal_captions_for_all_images_give_a_warning():
    captions, references = paired()
    result, (message,) = watch(dict.fromkeys(captions, "a red dog on the grass"), references)
    assert result["different"] == pytest.approx(1 / 60)
    assert "1 different captions for 60 images" in message


def test_captions_of_other_images_give_a_warning():
    captions, references = paired()
    shuffled = {i: captions[(i + 17) % 60] for i in captions}
    _, (message,) = watch(shuffled, references)
    assert "do not depend on the images" in message


def test_few_captions_give_no_warning():
    _, references = paired()
    assert watch(dict.fromkeys(range(3), "a dog"), references)[1] == []
    assert watch({0: "a dog"}, references) == ({}, [])
    assert watch({}, references) == ({}, [])


@pytest.mark.parametrize(
    ("text", "dangling"),
    [
        ("a man with a", True),
        ("a man with a.", True),
        ("A man is wearing", True),
        ("a man", False),
        ("a man with a hat", False),
        ("", False),
    ],
)
def test_ends_dangling(text, dangling):
    assert ends_dangling(text) == dangling


# The report


class Reader(HTMLParser):
    """Collects the texts of a page and the addresses that it loads from."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.sources += [v for k, v in attrs if k in ("src", "href", "srcset") and v]

    def handle_data(self, data):
        self.texts.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture
def folder(tmp_path) -> Path:
    rows = []
    for i in range(5):
        picture(i).save(path := tmp_path / f"{i}.png")
        references = [f"a {COLOURS[i]} <dog> & ball", "a dog"]
        rows.append(
            {"image": str(path), "caption": f"a {COLOURS[i]} dog", "references": references}
        )
    (tmp_path / "4.png").unlink()
    replace_rows(tmp_path / CAPTIONS, rows)
    log = [
        {"stage": 0, "epoch": 0, "loss": 3.25},
        {"stage": 0, "epoch": 1, "loss": 9.0},
        {"stage": 0, "epoch": 1, "loss": 2.5, "CIDEr-D": 0.125},
    ]
    for row in log:
        log_row(tmp_path / LOG, row)
    return tmp_path


def test_report_loads_nothing_from_elsewhere(folder):
    result = read(write_report(folder))
    assert result.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in result.sources)
    text = " ".join(result.texts)
    assert "a red dog" in text
    assert "a red <dog> & ball" in text
    assert "4.png" in text  # an error is shown in place of the image


def test_report_has_scores_with_intervals(folder):
    rows = load_rows(folder / CAPTIONS)
    captions = {i: row["caption"] for i, row in enumerate(rows)}
    references = {i: row["references"] for i, row in enumerate(rows)}
    text = " ".join(read(write_report(folder)).texts)
    for name, value in score_captions(captions, references).items():
        assert name in text
        assert f"{value:.3f}" in text
    _, low, high = caption_statistics(captions, references).intervals()["CIDEr-D"]
    assert f"{low:.3f} to {high:.3f}" in text


def test_report_has_the_classes_of_answers(folder):
    tables = {"all": tabulate_classes(["<a>", "b", "b"], ["<a>", "<a>", "b"])}
    (folder / "best").mkdir()
    metrics = {"val": {}, "classes": {"colors": tables}}
    (folder / "best" / "metrics.json").write_text(json.dumps(metrics))
    texts = read(write_report(folder)).texts
    start = texts.index("Classes of colors")
    scores = texts[texts.index("all", start) :]
    assert scores[1:7] == ["3", "2", "0.667", "0.750", "0.750", "0.667"]
    end = texts.index(next(t for t in texts if t.startswith("Scores of")))
    assert texts[end - 8 : end] == ["<a>", "b", "<a>", "1", "1", "b", "0", "1"]


def test_repeated_epoch_counts_once_with_its_last_values(folder):
    assert [row["loss"] for row in load_rows(folder / LOG)] == [3.25, 2.5]
    text = write_report(folder).read_text()
    assert "loss, epoch 2: 2.5" in text
    assert "loss, epoch 1: 3.25" in text
    assert ": 9" not in text
    assert "CIDEr-D, epoch 2: 0.125" in text


def test_incomplete_row_is_skipped(folder):
    with (folder / LOG).open("a") as file:
        file.write('{"stage": 1, "ep')
    assert len(load_rows(folder / LOG)) == 2
    write_report(folder)


def test_report_of_an_empty_folder_is_empty(tmp_path):
    assert read(write_report(tmp_path)).sources == []


@pytest.mark.slow
def test_resumed_run_writes_the_same_report(tmp_path, monkeypatch):
    data = make_flickr(tmp_path / "data")
    words = ["train.stages=[{epochs: 3, lr: 1e-3}]", "train.ema=0.9"]
    output = tmp_path / "run"
    assert run(data, output, *words) == 0
    whole = output.rename(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        assert run(data, output, *words) == 130
    assert run(data, output, *words, resume=True) == 0
    assert (output / CAPTIONS).read_text() == (whole / CAPTIONS).read_text()
    logs = [load_rows(one / LOG) for one in (output, whole)]
    for row in (row for log in logs for row in log):
        del row["texts/s"], row["TFLOP/s"]  # measured times differ
    assert logs[0] == logs[1]
    assert len(read(output / "report.html").sources) == len(read(whole / "report.html").sources) > 0
    rows = load_rows(output / CAPTIONS)
    scores = score_captions(
        {i: row["caption"] for i, row in enumerate(rows)},
        {i: row["references"] for i, row in enumerate(rows)},
    )
    best = json.loads((output / "best" / "metrics.json").read_text())["val"]
    assert best["CIDEr-D"] == pytest.approx(scores["CIDEr-D"])
