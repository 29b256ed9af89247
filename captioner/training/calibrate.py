"""Temperature scaling: answers with a confidence of 0.7 should be correct in 70 % of the cases.

Guo et al., On calibration of modern neural networks (ICML 2017), section 4.2. The probability is
that of a whole answer, so the likelihood of the answers' tokens is maximized.

Shapes: L answer tokens, V vocabulary; of a classifier of questions, L questions and V answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from captioner.data.collate import Batch
from captioner.data.dataset import ImageDataset, Key
from captioner.data.splits import Task
from captioner.metrics import fit_temperature
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, PAD, UNK
from captioner.training.validation import QUESTION_IMAGES, load_batches

CALIBRATION_IMAGES = 400
"""Images of each source: one number needs no more, and all logits are held in memory."""


def fit_answer_temperature(
    model: Seq2Seq, dataset: ImageDataset, tasks: Sequence[Task], accelerator: Accelerator
) -> float | None:
    """Return the temperature that maximizes the likelihood of the held-out answers, if any."""
    batches: list[list[Key]] = []
    for number, task in enumerate(tasks):
        images = dataset.select_images(number) if task.kind == "questions" else []
        count = min(CALIBRATION_IMAGES, len(images))
        chosen = random.Random(f"temperature {number}").sample(images, count)
        keys = [Key(0, index, number) for index in chosen]
        batches += [keys[at : at + QUESTION_IMAGES] for at in range(0, len(keys), QUESTION_IMAGES)]
    if not batches:
        return None
    logits, labels = _compute_logits(model, load_batches(dataset, batches), accelerator)

    def loss(temperature: float) -> float:
        parts = zip(logits, labels, strict=True)
        sums = [F.cross_entropy(x.float() / temperature, y, reduction="sum") for x, y in parts]
        return float((sum(sums, torch.zeros(())) / sum(map(len, labels))).item())

    return fit_temperature(loss)


@torch.inference_mode()
def _compute_logits(
    model: Seq2Seq, loader: DataLoader[Batch], accelerator: Accelerator
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the logits (L, V) of each batch, and the labels (L,) or the targets (L, V)."""
    model.eval()
    logits, labels = [], []
    for batch in loader:
        if not batch.is_readable:
            continue
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            inputs = batch.images, batch.tokens, batch.questions, batch.owners
            x = model(*inputs, batch.spectrograms, batch.both)  # (L, V)
        if batch.targets is not None:
            logits.append(x.half())
            labels.append(batch.targets)
            continue
        x[:, [PAD, UNK, BOS]] = float("-inf")  # as in generation
        logits.append(x.half())
        labels.append(batch.labels[batch.labels != PAD])
    return logits, labels
