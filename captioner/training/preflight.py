"""Check before a run: overfit one batch of each data set and generate its texts or tags.

Within a minute, this shows a wrong label shift, a missing EOS, wrong pixels or a decoder that
ignores the image, which would otherwise show after hours of training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.config import AnswerConfig, Config, DecodingConfig, StageConfig
from captioner.data.collate import Batch, collate_for
from captioner.data.dataset import ImageDataset, Key, Sample
from captioner.data.splits import read_splits
from captioner.tokenizer import BOS, EOS, PAD
from captioner.training import setup
from captioner.training.data_report import describe_data
from captioner.training.loss import Objective
from captioner.training.public_model import CaptionModel, CaptionTokenizer, PublicModel
from captioner.training.run import check_export
from captioner.training.stage import unfreeze
from captioner.training.validation import generate_texts

BATCH_IMAGES, MAX_STEPS, LEARNING_RATE = 4, 300, 1e-3
TRAINED_RATE = 1e-4
"""Learning rate of the weights of a transformers model, which are trained already."""
OVERFIT = 0.1
"""Loss per token below which the batch counts as learned."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    """What is true if the check passes."""
    fine: bool
    detail: str
    problem: str
    """What is true if it fails."""
    advice: str
    """What to do then."""
    source: str = ""
    """The data set of the batch."""

    def __str__(self) -> str:
        if self.fine:
            return f"ok    {self.name}: {self.detail}"
        return f"failed: {self.problem} ({self.detail}), in {self.source}; {self.advice}"


def preflight(config: Config, tell: Callable[[str], None]) -> Iterator[Finding]:
    """Check a run: report its data, then overfit one batch of each data set.

    The model is trained on the batch without augmentation or dropout, with a frozen backbone, and
    must then generate the batch's texts or predict its tags. No file is written. `tell` receives
    the lines of the data report.
    """
    check_export(config.train)
    torch.manual_seed(config.train.seed)
    tasks, train_rows, val_rows, report = read_splits(config)
    model, tokenizer, config = setup.build_start(config, train_rows)
    setup.check_sizes(model, config)
    dataset, val = setup.build_datasets(config, tasks, train_rows, val_rows, tokenizer, model=model)
    for line in describe_data(config, tasks, dataset, val, report, model=model):
        tell(line)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for number, task in enumerate(tasks):
        model.load_state_dict(start)
        prefix = f"{task.name}: " if len(tasks) > 1 else ""
        for finding in _check_source(model, dataset, number, tokenizer, config):
            source = str(task.source.root) if len(tasks) == 1 else task.name
            yield replace(finding, name=prefix + finding.name, source=source)


def _check_source(
    model: CaptionModel,
    dataset: ImageDataset,
    source: int,
    tokenizer: CaptionTokenizer,
    config: Config,
) -> Iterator[Finding]:
    samples: list[Sample] = []
    for index in dataset.select_images(source):
        sample = dataset[Key(0, index, source)]
        if isinstance(sample, Sample):
            samples.append(_keep_one_text(sample))
        if len(samples) == BATCH_IMAGES:
            break
    if not samples:
        yield Finding(
            "images can be read", False, "no batch can be made",
            "no image can be read", "check data.root and the files",
        )  # fmt: skip
        return
    batch = collate_for(tokenizer)(samples)
    yield from check_batch(batch, pad=tokenizer.pad, ends=tokenizer.ends)
    losses = overfit(model, batch, pad=tokenizer.pad)
    unit = "token" if batch.tags is None else "image"
    detail = f"loss per {unit} {losses[0]:.2f} to {losses[-1]:.3f} in {len(losses)} steps"
    yield Finding(
        "the model overfits one batch", losses[-1] < OVERFIT, detail,
        "the model does not overfit one batch", "check the texts of its images and the model",
    )  # fmt: skip
    if batch.tags is None:
        yield _check_generation(model, batch, tokenizer, config)
    else:
        yield _check_tags(model, batch, batch.tags)


def _keep_one_text(sample: Sample) -> Sample:
    """Return a sample with its first text, as if the weight of its row were 1.

    A model cannot know which of several texts to generate, and a text of a small weight may not be
    learned beside others.
    """
    targets = sample.targets  # (Q, A)
    if targets is not None:
        targets = targets[:1] / (sample.weights[0] if sample.weights else 1.0)
    texts, questions, rows = sample.texts[:1], sample.questions[:1], sample.rows[:1]
    return replace(sample, texts=texts, questions=questions, rows=rows, targets=targets, weights=[])


def check_batch(batch: Batch, *, pad: int = PAD, ends: Sequence[int] = (EOS,)) -> Iterator[Finding]:
    """Check the pixels and, unless the batch is of tags, the shift of the labels and EOS."""
    inputs = batch.spectrograms if batch.images is None else batch.images
    assert inputs is not None
    mean, deviation = inputs.mean().item(), inputs.std().item()
    # True of pixels with mean 0 and deviation 1 and of pixels in [-1, 1], but not in [0, 255].
    fine = bool(inputs.isfinite().all()) and abs(mean) < 3 and 0.05 < deviation < 5
    yield Finding(
        "pixels are normalized", fine, f"mean {mean:.2f}, deviation {deviation:.2f}",
        "the pixels are not normalized", "correct image.mean and image.std, or the images",
    )  # fmt: skip
    if batch.tags is not None:
        return
    tokens, labels = batch.tokens, batch.labels  # (B, K, T)
    continues = labels[..., 1:] != pad
    equal = (tokens[..., 1:] == labels[..., :-1])[continues].all()
    shifted = bool(equal and (tokens[..., 0] == BOS).all())
    yield Finding(
        "labels are one token ahead", shifted, f"{tokens.shape[-1]} tokens at most",
        "the labels are not one token ahead of the inputs", "correct how batches are collated",
    )  # fmt: skip
    lengths = (labels != pad).sum(-1)  # (B, K)
    last = labels.gather(-1, (lengths - 1).clamp(min=0)[..., None])[..., 0]
    is_end = torch.isin(last, torch.tensor(ends))
    ended = (is_end & (lengths > 0))[labels[..., 0] != pad]
    yield Finding(
        "texts end in EOS", bool(ended.all()), f"{int(ended.sum())} of {ended.numel()}",
        "not all texts end in EOS", "correct the tokenizer or how batches are collated",
    )  # fmt: skip


def overfit(model: CaptionModel, batch: Batch, *, pad: int = PAD) -> list[float]:
    """Train on one batch until it is learned; return the loss per token or image of each step."""
    model.eval()  # no dropout
    fixed = {id(p) for backbone in model.backbones() for p in backbone.parameters()}
    rate = LEARNING_RATE
    if isinstance(model, PublicModel):
        unfreeze(StageConfig(), model)
        rate = LEARNING_RATE if model.has_adapters else TRAINED_RATE
    parameters = [p for p in model.parameters() if id(p) not in fixed and p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    if batch.images is not None:
        with torch.no_grad():
            batch = replace(batch, images=model.backbone(batch.images))
    objective = Objective(StageConfig(), smoothing=0.0, max_length=1, pad=pad)
    losses: list[float] = []
    for _ in range(MAX_STEPS):
        result = objective(model, batch, full_model=lambda: nullcontext(model))
        loss = result.total / result.tokens
        losses.append(loss.item())
        if losses[-1] < OVERFIT:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return losses


def _check_tags(model: CaptionModel, batch: Batch, tags: Tensor) -> Finding:
    """Check that the tags (B, G) of each image score higher than all absent ones."""
    with torch.inference_mode():
        logits = model(batch.images)  # (B, G)
    infinity = float("inf")
    lowest = logits.masked_fill(tags != 1, infinity).amin(1)  # (B,)
    highest = logits.masked_fill(tags != 0, -infinity).amax(1)
    count = int((lowest > highest).sum())
    detail = f"{count} of {len(tags)} images"
    return Finding(
        "the model predicts the tags of the batch", count == len(tags), detail,
        "the model does not predict the tags of the batch", "check the tags of its images",
    )  # fmt: skip


def _check_generation(
    model: CaptionModel, batch: Batch, tokenizer: CaptionTokenizer, config: Config
) -> Finding:
    """Check that the model generates the texts of the batch."""
    expected = [tokenizer.decode(row) for row in batch.labels.flatten(0, 1).tolist()]
    longest = config.model.max_length
    greedy = replace(
        config,
        decoding=DecodingConfig(beam_size=1, max_length=longest),
        answers=AnswerConfig(beam_size=1, max_length=longest),
    )
    with torch.inference_mode():
        pairs = generate_texts(model, batch, tokenizer=tokenizer, config=greedy)
        texts = [text for _, text in pairs]
    wrong = [f"; {a!r} for {b!r}" for a, b in zip(texts, expected, strict=True) if a != b]
    detail = f"{len(expected) - len(wrong)} of {len(expected)}{''.join(wrong[:1])}"
    return Finding(
        "the model generates the texts of the batch", not wrong, detail,
        "the model does not generate the texts of the batch",
        "check the texts, or ignore it if few words differ and the loss is small",
    )  # fmt: skip
