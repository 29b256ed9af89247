"""The head that recognizes kinds of images, in the model, in a graph and in both backends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from backend_pairs import load_pair
from kind_heads import IMAGES, KIND_OF_IMAGES, KINDS, add_kind_head
from tiny import make_checkpoint
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.export.onnx_graphs import export_graphs
from captioner.model.kind_head import KindHead, summarize


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = add_kind_head(make_vqa_checkpoint(tmp_path_factory.mktemp("kinds") / "best"))
    export_graphs(folder, dtype="int8")
    return folder


def test_statistics_are_the_mean_and_the_deviation():
    features = torch.randn(2, 9, 5)
    expected = torch.cat([features.mean(1), features.std(1, correction=0)], 1)
    torch.testing.assert_close(summarize(features), expected)


def test_probabilities_do_not_depend_on_the_order_of_positions():
    head = KindHead(5, KINDS)
    torch.nn.init.normal_(head.weight)
    features = torch.randn(4, 9, 5)
    probabilities = head(features)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    torch.testing.assert_close(head(features[:, torch.randperm(9)]), probabilities)


@pytest.mark.slow
def test_both_backends_recognize_the_same_kinds(folder):
    pair = load_pair(folder)
    found, expected = pair.onnx.caption(IMAGES), pair.torch.caption(IMAGES)
    assert [r.kind for r in found] == [r.kind for r in expected] == KIND_OF_IMAGES
    probabilities = [[r.kind_probability for r in results] for results in (found, expected)]
    np.testing.assert_allclose(*probabilities, atol=1e-4)
    assert [r.text for r in found] == [r.text for r in expected]


@pytest.mark.slow
def test_the_kind_is_not_rounded_to_integers(folder):
    exact = captioner.load(folder, backend="onnx").caption(IMAGES)
    rounded = captioner.load(folder, backend="onnx", dtype="int8").caption(IMAGES)
    probabilities = [[r.kind_probability for r in results] for results in (exact, rounded)]
    np.testing.assert_allclose(*probabilities, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_results_have_the_kind_of_their_image(folder, backend):
    model = captioner.load(folder, backend=backend)
    alone = [model.encode(image) for image in IMAGES]
    kinds = [(image.kind, pytest.approx(image.kind_probability, abs=1e-4)) for image in alone]
    damaged = [IMAGES[0], b"no image", *IMAGES[1:]]
    results = model.caption(damaged, batch_size=2)
    assert [(r.kind, r.kind_probability) for r in results if not r.error] == kinds
    assert [bool(r.error) for r in results] == [image == b"no image" for image in damaged]
    answers = model.answer([(image, QUESTIONS[0]) for image in IMAGES], batch_size=2)
    assert [(a.kind, a.kind_probability) for a in answers] == kinds


@pytest.mark.slow
@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_the_kind_is_that_of_the_first_view(folder, backend, views):
    results = captioner.load(folder, backend=backend).caption(IMAGES)
    averaged = captioner.load(folder, backend=backend, tta=views).caption(IMAGES)
    assert [r.kind for r in averaged] == [r.kind for r in results]
    probabilities = [[r.kind_probability for r in found] for found in (results, averaged)]
    np.testing.assert_allclose(*probabilities, atol=1e-5)
    assert [r.best.score for r in averaged] != [r.best.score for r in results]


@pytest.mark.slow
def test_the_first_member_of_an_ensemble_decides(folder, tmp_path):
    other = add_kind_head(make_vqa_checkpoint(tmp_path / "other"), ("icon", "chart", "blank"))
    both = captioner.load([folder, other], backend="torch")
    assert [r.kind for r in both.caption(IMAGES)] == KIND_OF_IMAGES


@pytest.mark.slow
def test_models_without_a_head_recognize_no_kinds(tmp_path, add_graphs):
    for model in load_pair(add_graphs(make_checkpoint(tmp_path / "best"))):
        (result,) = model.caption(IMAGES[0])
        assert (result.kind, result.kind_probability, result.notice) == (None, None, "")
