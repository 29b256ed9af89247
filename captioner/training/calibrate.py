"""One temperature for the answers, so that a confidence of 0.7 is right seven times in ten.

Guo et al., On calibration of modern neural networks (ICML 2017), section 4.2; the probability is
that of a whole answer, so the likelihood that is raised is that of the answers' tokens.

Shapes: L answer tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from captioner.data.dataset import ImageDataset, Key
from captioner.data.splits import Task
from captioner.metrics import fit_temperature
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, PAD, UNK
from captioner.training.validation import QUESTION_IMAGES, load_batches

IMAGES = 400
"""Of each source; logits are kept for the search, and one number needs no more questions."""


def fit_answer_temperature(
    model: Seq2Seq, dataset: ImageDataset, tasks: Sequence[Task], accelerator: Accelerator
) -> float | None:
    """The temperature under which the held-out answers are likeliest; None without questions."""
    batches = []
    for number, task in enumerate(tasks):
        images = dataset.select_images(number) if task.has_questions else []
        chosen = random.Random(f"temperature {number}").sample(images, min(IMAGES, len(images)))
        keys = [Key(0, index, number) for index in chosen]
        batches += [keys[at : at + QUESTION_IMAGES] for at in range(0, len(keys), QUESTION_IMAGES)]
    if not batches:
        return None
    logits, labels = _logits(model, load_batches(dataset, batches), accelerator)

    def loss(temperature: float) -> float:
        parts = zip(logits, labels, strict=True)
        total = sum(F.cross_entropy(x.float() / temperature, y, reduction="sum") for x, y in parts)
        return (total / sum(map(len, labels))).item()

    return fit_temperature(loss)


@torch.inference_mode()
def _logits(
    model: Seq2Seq, loader: DataLoader, accelerator: Accelerator
) -> tuple[list[Tensor], list[Tensor]]:
    """Logits (L, V) of each batch, and the labels (L,)."""
    model.eval()
    logits, labels = [], []
    for batch in loader:
        if batch.images is None:
            continue
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            found = model(batch.images, batch.tokens, batch.questions, batch.owners)
        found[:, [PAD, UNK, BOS]] = float("-inf")  # as in use
        logits.append(found.half())
        labels.append(batch.labels[batch.labels != PAD])
    return logits, labels
