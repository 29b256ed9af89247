"""Fitting the head that recognizes images which are not photographs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from captioner.training.kind_fitting import (
    FEWEST_OF_SOURCE,
    choose_shift,
    fit_regression,
    list_photographs,
)


def test_the_regression_minimizes_the_penalized_loss():
    generator = torch.Generator().manual_seed(0)
    classes = [torch.randn(n, 3, generator=generator).double() + n / 20 for n in (20, 10, 15)]
    weight, bias = fit_regression(classes, penalty=0.1)
    x = torch.cat(classes)
    mean, scale = x.mean(0), x.std(0)
    scaled = (weight * scale).requires_grad_()
    constant = (bias + weight @ mean).requires_grad_()
    losses = [
        torch.nn.functional.cross_entropy(
            (rows - mean) / scale @ scaled.T + constant, torch.full((len(rows),), number)
        )
        for number, rows in enumerate(classes)
    ]
    (sum(losses) / 3 + 0.05 * scaled.square().sum()).backward()
    torch.testing.assert_close(scaled.grad, torch.zeros_like(scaled), atol=1e-4, rtol=0)
    torch.testing.assert_close(constant.grad, torch.zeros_like(constant), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("most", "flagged"), [(0.0, 0), (0.01, 2), (0.105, 21)])
def test_the_threshold_flags_the_share_of_the_held_out_photographs(most, flagged):
    logits = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)).double()
    logits[:, 0] += choose_shift(logits, most)
    assert int((logits.argmax(1) > 0).sum()) == flagged


def make_run(train: list[list[str]], val: list[list[str]]) -> SimpleNamespace:
    """Return what `list_photographs` uses of a run, from the images of each data set."""

    def make_dataset(sources):
        images = list(dict.fromkeys(path for paths in sources for path in paths))
        places = [[images.index(path) for path in paths] for paths in sources]
        return SimpleNamespace(images=images, select_images=places.__getitem__)

    photographs = [SimpleNamespace(source=SimpleNamespace(photographs=True)) for _ in train]
    return SimpleNamespace(
        tasks=photographs,
        train_set=make_dataset(train),
        val_set=make_dataset(val),
        settings=SimpleNamespace(seed=0),
    )


def test_each_data_set_with_many_held_out_photographs_has_its_own_group():
    large = [f"large{i}.jpg" for i in range(FEWEST_OF_SOURCE)]
    other = [f"other{i}.jpg" for i in range(FEWEST_OF_SOURCE)]
    run = make_run([["a.jpg"], ["b.jpg"], ["b.jpg"]], [large, [*other, "a.jpg"], ["few.jpg"]])
    train, held_out = list_photographs(run)
    assert sorted(train) == ["a.jpg", "b.jpg"]
    assert [sorted(group) for group in held_out] == [
        sorted([*large, *other, "few.jpg"]),
        sorted(large),
        sorted(other),
    ]


def test_a_run_without_data_sets_of_photographs_has_an_empty_group():
    run = make_run([["a.jpg"]], [["b.jpg"]])
    run.tasks[0].source.photographs = False
    assert list_photographs(run) == ([], [[]])
