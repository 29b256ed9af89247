"""The ONNX Runtime backend of ensembles, with test-time augmentation, in commands and servers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from backend_pairs import (
    Pair,
    assert_same_answers,
    assert_same_attention,
    assert_same_captions,
    assert_same_scores,
    load_pair,
    make_full_checkpoint,
)
from folder_runs import rows
from tiny import make_checkpoint, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.backends import image_views
from captioner.cli import generate
from captioner.config import GraphConfig
from captioner.errors import CaptionerError
from captioner.export.onnx_graphs import export_graphs

pytestmark = pytest.mark.slow
PICTURES = [picture(i) for i in range(7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, add_graphs) -> Path:
    return add_graphs(make_full_checkpoint(tmp_path_factory.mktemp("one") / "best"))


@pytest.fixture(scope="module")
def other(tmp_path_factory, add_graphs) -> Path:
    """A checkpoint for larger images, whose memory of a question is not padded."""
    path = tmp_path_factory.mktemp("other") / "best"
    return add_graphs(make_vqa_checkpoint(path, fusion="multiply", size=96))


@pytest.fixture(scope="module")
def graph(tmp_path_factory, add_graphs) -> Path:
    """A checkpoint with graph layers between 3 x 3 positions, and between them and a question."""
    path = tmp_path_factory.mktemp("graph") / "best"
    layers = GraphConfig(layers=2, neighbors=2, heads=2)
    return add_graphs(make_vqa_checkpoint(path, fusion="graph", graph=layers, size=96))


@pytest.fixture(scope="module")
def lstm(tmp_path_factory, add_graphs) -> Path:
    path = tmp_path_factory.mktemp("lstm") / "best"
    return add_graphs(make_full_checkpoint(path, decoder="lstm"))


@pytest.fixture(
    scope="module",
    params=[["folder"], ["folder", "folder"], ["folder", "other"], ["folder", "lstm"], ["graph"]],
    ids="-".join,
)
def pair(request) -> Pair:
    return load_pair([request.getfixturevalue(name) for name in request.param])


@pytest.mark.parametrize(
    "options",
    [
        {"num_captions": 3},
        {"no_repeat_ngram": 1, "max_length": 12, "batch_size": 2},
        {"method": "sample", "num_captions": 2, "temperature": 1.5},
        {"beam_size": 4, "groups": 2, "diversity": 0.4, "must_include": "dog"},
    ],
    ids=str,
)
def test_captions_of_ensembles(pair, options):
    found, expected = (model.caption(PICTURES, **options) for model in pair)
    assert_same_captions(found, expected)


def test_answers_scores_and_attention_of_ensembles(pair):
    questions = [(image, question) for image in PICTURES[:3] for question in QUESTIONS[:3]]
    for options in ({"num_answers": 2}, {"answers": ["red", "a dog", "7"], "batch_size": 4}):
        found, expected = (model.answer(questions, **options) for model in pair)
        assert_same_answers(found, expected)
    for question in (None, QUESTIONS[0]):
        texts = ["a red dog", "7", "boat"]
        assert_same_scores(*(m.score(PICTURES[0], texts, question=question) for m in pair))
        assert_same_attention(*(m.attention(PICTURES[0], "a dog", question=question) for m in pair))


@pytest.mark.parametrize("tta", [2, 4])
@pytest.mark.parametrize("name", ["folder", "other"])
def test_views_are_averaged_as_by_torch(name, tta, request):
    checkpoint = request.getfixturevalue(name)
    pair = load_pair(checkpoint, tta=tta)
    assert_same_captions(*(model.caption(PICTURES, num_captions=2) for model in pair))
    states = [
        np.asarray(model.encode(PICTURES[0]).memory.states[0])
        for model in (*pair, captioner.load(checkpoint, backend="onnx"))
    ]
    np.testing.assert_allclose(states[0], states[1], atol=1e-4)
    assert np.abs(states[0] - states[2]).max() > 0.01


def test_views_of_ensembles(folder, other):
    pair = load_pair([folder, other], tta=4)
    assert_same_captions(*(model.caption(PICTURES, num_captions=2) for model in pair))


def test_four_views_need_a_graph_for_the_smaller_ones(folder, tmp_path):
    copied = Path(shutil.copytree(folder, tmp_path / "best"))
    (copied / "small_image.onnx").unlink()
    assert captioner.load(copied, backend="onnx", tta=2).caption(PICTURES[0])[0].text
    with pytest.raises(CaptionerError, match=r"tta=4 needs .* small_image\.onnx.*of one size"):
        captioner.load(copied, backend="onnx", tta=4)


@pytest.mark.parametrize("decoder", ["transformer", "lstm"])
def test_scores_with_int8_graphs_are_close(decoder, tmp_path):
    folder = make_checkpoint(tmp_path / "best", decoder=decoder)
    export_graphs(folder, dtype="int8")
    models = [captioner.load(folder, backend="onnx", dtype=dtype) for dtype in ("float32", "int8")]
    scores = [[result.best.score for result in model.caption(PICTURES)] for model in models]
    assert scores[0] != scores[1]
    np.testing.assert_allclose(*scores, atol=0.3)


@pytest.mark.parametrize(("old", "new"), [(64, 32), (96, 64), (224, 192), (7, 6)])
def test_resizing_weights_are_those_of_torch(old, new):
    import torch
    import torch.nn.functional as F

    pixels = torch.randn(2, 3, old, old, generator=torch.Generator().manual_seed(old))
    expected = F.interpolate(pixels, (new, new), mode="bicubic", antialias=True)
    found = image_views.resize_bicubic(pixels.numpy(), (new, new))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    grid = pixels[:, :, :new, :new]
    expected = F.interpolate(grid, (old, old), mode="bilinear").permute(0, 2, 3, 1)
    found = image_views._enlarge(grid.permute(0, 2, 3, 1).numpy(), old)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ["--num-captions", "2"],
        ["--question", QUESTIONS[0], "--num-answers", "2"],
        ["--attention", "sheets"],
        ["--tta", "2", "--beam-size", "2"],
    ],
    ids=lambda words: words[0],
)
def test_a_folder_has_the_same_rows(words, album, folder, working_folder, capsys):
    found = {}
    for backend in ("onnx", "torch"):
        output = f"{backend}.jsonl"
        command = [album, "--recursive", "--output", output, "--checkpoint", str(folder), *words]
        if "--attention" in words:
            command += ["--overwrite"]
        assert generate.main([*command, "--batch-size", "2", "--backend", backend]) == 3
        found[backend] = [_rounded(row) for row in rows(output)]
    capsys.readouterr()
    assert found["onnx"] == found["torch"]
    assert len(found["onnx"]) == 7


def _rounded(value):
    """Round the numbers of a row, because the last digits of scores differ."""
    if isinstance(value, dict):
        return {key: _rounded(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_rounded(x) for x in value]
    return round(value, 3) if isinstance(value, float) else value


def test_a_run_is_resumed_by_the_other_backend(album, folder, working_folder, capsys):
    command = [album, "--recursive", "--output", "out.jsonl", "--checkpoint", str(folder)]
    assert generate.main([*command, "--backend", "torch"]) == 3
    whole = Path("out.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    Path("out.jsonl").write_text("".join(lines[:4]))
    assert generate.main([*command, "--backend", "onnx", "--resume"]) == 3
    resumed = Path("out.jsonl").read_text().splitlines()
    assert [_rounded(json.loads(line)) for line in resumed] == [
        _rounded(json.loads(line)) for line in lines
    ]
    capsys.readouterr()
