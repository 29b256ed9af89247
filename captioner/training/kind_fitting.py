"""Fit the head that recognizes images which are not photographs: `train.kinds`.

It is a logistic regression on statistics of the backbone's features, from rendered images and the
photographs of the training data. The bias of photographs is then set so that the share
`MOST_FLAGGED` of the held-out photographs is taken for something else.

Shapes: N images, F statistics, K kinds.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from captioner.build import load_checkpoint
from captioner.checkpoint import METRICS
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.checkpoint.weights import save_best
from captioner.data.dataset import ImageDataset
from captioner.data.rendered_images import RENDERERS, WITH_PHOTOGRAPH, render_image
from captioner.errors import ImageError
from captioner.images import load_image
from captioner.images.kinds import PHOTOGRAPH
from captioner.images.transforms import to_pixels
from captioner.model.kind_head import KindHead, summarize

if TYPE_CHECKING:
    from captioner.training.run import Run

logger = logging.getLogger(__name__)
KINDS = (PHOTOGRAPH, *RENDERERS)
IMAGES_PER_KIND = 300
PHOTOGRAPHS, HELD_OUT = 2000, 1500
"""Most photographs to fit the head, and to choose its threshold."""
FEWEST_HELD_OUT = 20
MOST_FLAGGED = 0.005
"""Share of the held-out photographs; below 1 %, because it varies between samples."""
FEWEST_OF_SOURCE = 200
"""Held-out photographs with which a data set has its own limit, so that one may be flagged."""
PENALTY = 0.1
BATCH = 32
Source = Callable[[], Image.Image]


def fit_kind_head(run: Run) -> None:
    """Fit the head for the best checkpoint of a run, and write the checkpoint again with it."""
    train, held_out = list_photographs(run)
    count = len(held_out[0])
    if not train or count < FEWEST_HELD_OUT:
        logger.warning(
            f"train.kinds: {len(train)} training and {count} validation photographs are"
            f" too few (at least {FEWEST_HELD_OUT}); the model will not recognize kinds of images"
        )
        return
    model, tokenizer, config = load_checkpoint(run.best, for_training=True)
    model.to(run.accelerator.device)
    spec = pixel_spec(config)

    @torch.inference_mode()
    def encode(sources: Iterable[Source], name: str) -> dict[int, Tensor]:
        """Return the statistics (F,) of the images that can be read, by their place."""
        rows: dict[int, Tensor] = {}
        for places, images in tqdm(_batches(sources), name, leave=False):
            pixels = torch.from_numpy(np.stack([to_pixels(image, spec) for image in images]))
            features = model.extract(pixels.to(run.accelerator.device))
            rows.update(zip(places, summarize(features).cpu().double(), strict=True))
        return rows

    def encode_class(sources: Iterable[Source], name: str) -> Tensor:
        return torch.stack([*encode(sources, name).values()])

    photographs = encode_class((partial(load_image, path) for path in train), "photographs")
    rendered = [
        encode_class(_renderers(kind, run.settings.seed, train), kind) for kind in KINDS[1:]
    ]
    paths = list(dict.fromkeys(path for group in held_out for path in group))
    encoded = encode((partial(load_image, path) for path in paths), "held-out photographs")
    rows = {paths[place]: row for place, row in encoded.items()}
    held = [torch.stack([rows[path] for path in group if path in rows]) for group in held_out]
    weight, bias = fit_regression([photographs, *rendered], penalty=PENALTY)
    dtype = getattr(torch, config.train.save_dtype)
    weight = weight.to(dtype).double()  # the threshold is that of the rounded weights
    bias[0] += max(choose_shift(x @ weight.T + bias, MOST_FLAGGED) for x in held)
    model.kind_head = KindHead(weight.shape[1] // 2, KINDS)
    model.kind_head.load_state_dict({"weight": weight, "bias": bias})
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, kinds=KINDS))
    metrics = json.loads((run.best / METRICS).read_text(encoding="utf-8"))
    save_best(run.best, config, tokenizer, model, metrics)
    _report(weight, bias, held[0], rendered)


def list_photographs(run: Run) -> tuple[list[str], list[list[str]]]:
    """Return the paths of photographs to fit the head, and of others to choose its threshold.

    The others are those of all data sets, then those of each data set that has enough.
    """
    sources = [n for n, task in enumerate(run.tasks) if task.source.photographs]

    def select(dataset: ImageDataset, source: int) -> list[str]:
        return [dataset.images[i] for i in dataset.select_images(source)]

    train = dict.fromkeys(path for n in sources for path in select(run.train_set, n))
    groups = [[p for p in select(run.val_set, n) if p not in train] for n in sources]
    held_out = list(dict.fromkeys(path for group in groups for path in group))
    groups = [group for group in groups if len(group) >= FEWEST_OF_SOURCE]
    rng = random.Random(f"kinds {run.settings.seed}")
    photographs = _sample(rng, list(train), PHOTOGRAPHS)
    return photographs, [_sample(rng, paths, HELD_OUT) for paths in (held_out, *groups)]


def _sample(rng: random.Random, paths: list[str], most: int) -> list[str]:
    return rng.sample(paths, min(most, len(paths)))


def _renderers(kind: str, seed: int, photographs: Sequence[str]) -> Iterator[Source]:
    """Yield functions that render the images of a kind."""
    for index in range(IMAGES_PER_KIND):
        yield partial(_render, kind, index, seed, photographs[index % len(photographs)])


def _render(kind: str, index: int, seed: int, photograph: str) -> Image.Image:
    image = load_image(photograph) if kind in WITH_PHOTOGRAPH else None
    return render_image(kind, index, seed=seed, photograph=image)


def _batches(sources: Iterable[Source]) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Yield the places of the images that can be read, and these images, in batches."""
    places: list[int] = []
    images: list[Image.Image] = []
    for place, source in enumerate(sources):
        try:
            images.append(source())
        except ImageError:
            continue  # reported before training
        places.append(place)
        if len(images) == BATCH:
            yield places, images
            places, images = [], []
    if images:
        yield places, images


def fit_regression(classes: Sequence[Tensor], *, penalty: float) -> tuple[Tensor, Tensor]:
    """Fit a multinomial logistic regression with an L2 penalty on standardized inputs.

    Args:
        classes: The statistics (N, F) of each class, float64. All classes have the same weight.
        penalty: Factor of half the squared norm of the weights.

    Returns:
        The weight (K, F) and the bias (K,) for inputs that are not standardized.
    """
    x = torch.cat(list(classes))
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    x = (x - mean) / scale
    y = torch.arange(len(classes)).repeat_interleave(torch.tensor([*map(len, classes)]))
    share = torch.tensor([1 / len(rows) for rows in classes], dtype=x.dtype) / len(classes)
    weight = torch.zeros(len(classes), x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(len(classes), dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=200, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(x @ weight.T + bias, y, reduction="none")
        total = (losses * share[y]).sum() + penalty / 2 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[arg-type]  # it may return a tensor
    scaled = weight.detach() / scale
    return scaled, bias.detach() - scaled @ mean


def choose_shift(logits: Tensor, most_flagged: float) -> float:
    """Return what to add to the logits of class 0 so that few of its images are misclassified.

    `logits` (N, K) are those of held-out images of class 0. At most the share `most_flagged` of
    them then has a larger logit in another class.
    """
    excess = (logits[:, 1:].max(1).values - logits[:, 0]).sort(descending=True).values
    return float(excess[int(most_flagged * len(excess))]) + 1e-6


def _report(weight: Tensor, bias: Tensor, held: Tensor, rendered: Sequence[Tensor]) -> None:
    flagged = [
        f"{kind} {(((x @ weight.T + bias).argmax(1)) > 0).double().mean():.1%}"
        for kind, x in zip(KINDS, [held, *rendered], strict=True)
    ]
    logger.info(f"images that are taken for no photograph: {', '.join(flagged)}")
