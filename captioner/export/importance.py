"""Importance of heads and inner units: the estimated change of the loss if a unit is removed.

Each unit gets a gate of value 1 on its output. The importance is the mean over images of the
absolute gradient of the image's loss with respect to the gate, which is the first-order Taylor
estimate of the change. Sources: Michel et al., Are sixteen heads really better than one? (2019),
for heads; Molchanov et al., Importance estimation for neural network pruning (2019), for the units
of other layers.

Shapes: B images, H, W pixels, P positions, C channels, U units, M tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from captioner.checkpoint.audio_format import first_spec, second_spec
from captioner.config import Config
from captioner.data.collate import Batch, collate
from captioner.data.dataset import ImageDataset, Key, Sample
from captioner.data.splits import read_splits
from captioner.errors import ConfigError, DataError
from captioner.model.layer_units import Units
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import PAD, Tokenizer

Tasks = Sequence[Sequence[Batch]]
"""The batches of each task (captions or questions of a data set); each batch is one image."""


@torch.no_grad()
def read_batches(model: Seq2Seq, tokenizer: Tokenizer, config: Config, *, images: int) -> Tasks:
    """Return training data of a configuration, with features of the backbone instead of pixels.

    Args:
        model: The model whose backbone computes the features.
        tokenizer: Its tokenizer.
        config: Its configuration, with the data sets to read.
        images: Images of each task, drawn at random; fewer if there are fewer.

    Raises:
        ConfigError: No data set is named.
        DataError: A data set cannot be read, or no image with texts for the model.
    """
    if second_spec(config):
        raise ConfigError("pruning is for models with one encoder, not with two")
    tasks, rows, _, _ = read_splits(config)
    question = config.model.question
    dataset = ImageDataset(
        rows,
        spec=first_spec(config),
        tokenizer=tokenizer,
        max_length=config.model.max_length,
        question_length=32 if question is None else question.max_length,
        lowercase=config.data.lowercase,
        answers=model.answers,
    )
    result: list[list[Batch]] = []
    for number, task in enumerate(tasks):
        if task.kind == "tags" or (task.kind == "questions" and question is None):
            continue
        indices = dataset.select_images(number)
        chosen = random.Random(f"importance {number}").sample(indices, min(images, len(indices)))
        bar = tqdm(chosen, f"encoding {task.name}", leave=False)
        samples = (dataset[Key(0, index, number)] for index in bar)
        batches = [_encode(model, sample) for sample in samples if isinstance(sample, Sample)]
        result += [batches] if batches else []
    if not result:
        raise DataError(f"{config.data.roots}: no image with texts for this model can be used")
    return result


def _encode(model: Seq2Seq, sample: Sample) -> Batch:
    """Return a batch of one sample, with features (1, P, C) in float16."""
    batch = collate([sample], question_pad=model.pad)
    return replace(batch, images=model.backbone(batch.images).half())


def image_loss(model: Seq2Seq, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the tokens of a batch, or of its classified questions."""
    assert batch.images is not None
    logits = model(batch.images.float(), batch.tokens, batch.questions, batch.owners)  # (M, V)
    if batch.targets is not None:
        return F.cross_entropy(logits, batch.targets)
    return F.cross_entropy(logits, batch.labels[batch.labels != PAD])


@torch.no_grad()
def mean_loss(model: Seq2Seq, tasks: Tasks) -> float:
    """Return the mean over the tasks of the mean loss of an image."""
    losses = [sum(image_loss(model, b).item() for b in batches) / len(batches) for batches in tasks]
    return sum(losses) / len(losses)


def measure_importance(
    model: Seq2Seq, units: Mapping[str, Units], tasks: Tasks
) -> dict[str, Tensor]:
    """Return the importance (U,) of units by name, the sum over the tasks.

    Units that no task uses, such as those of the question modules if there are only captions, are
    left out: their importance is unknown.
    """
    importance: dict[str, Tensor] = {}
    with _gates(units) as gates:
        for batches in tasks:
            for batch in batches:
                loss = image_loss(model, batch)
                gradients = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
                for name, gradient in zip(gates, gradients, strict=True):
                    if gradient is not None:
                        share = gradient.abs() / len(batches)
                        importance[name] = importance.get(name, torch.zeros(())) + share
    return importance


@contextmanager
def _gates(units: Mapping[str, Units]) -> Iterator[dict[str, Tensor]]:
    """Multiply the output of each unit by a gate of value 1 within the block."""
    gates, hooks = {}, []

    def install(layer: nn.Module, gate: Tensor, depth: int) -> None:
        def multiply(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
            return inputs[0] * gate.repeat_interleave(depth)

        hooks.append(layer.register_forward_pre_hook(multiply))

    for name, group in units.items():
        gates[name] = torch.ones(group.count, requires_grad=True)
        install(getattr(group.owner, group.output), gates[name], group.depth)
    try:
        yield gates
    finally:
        for hook in hooks:
            hook.remove()
