"""Before a long run: can this model learn a few of these images by heart, and say them?

What a wrong label shift, a lost EOS, wrong pixels or a decoder that does not see would spoil shows
in a minute then, and not after a night.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from captioner.backends.torch_backend import TorchBackend
from captioner.config import Config, DecodingConfig
from captioner.data.collate import Batch, collate
from captioner.data.dataset import ImageDataset, Key, Sample
from captioner.data.splits import read_splits
from captioner.generation.answers import search_answers
from captioner.generation.captions import search_captions
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer
from captioner.training import setup
from captioner.training.data_report import describe_data
from captioner.training.loss import caption_loss

IMAGES, STEPS, RATE = 4, 300, 1e-3
LEARNT = 0.1
"""Loss for each token at which a text counts as learnt."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    fine: bool
    detail: str


def preflight(config: Config, tell: Callable[[str], None]) -> Iterator[Finding]:
    """Check a run: report its data, then overfit one batch of each data set.

    The model is trained on the batch without augmentation or dropout, with a frozen backbone, and
    must then generate the batch's texts. No file is written. `tell` receives the lines of the data
    report.
    """
    torch.manual_seed(config.train.seed)
    tasks, train_rows, val_rows, report = read_splits(config)
    model, tokenizer, config = setup.build_start(config, train_rows)
    dataset, val = setup.build_datasets(config, tasks, train_rows, val_rows, tokenizer)
    for line in describe_data(config, tasks, dataset, val, report):
        tell(line)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for number, task in enumerate(tasks):
        model.load_state_dict(start)
        prefix = f"{task.name}: " if len(tasks) > 1 else ""
        for finding in _of_source(model, dataset, number, tokenizer, config):
            yield Finding(prefix + finding.name, finding.fine, finding.detail)


def _of_source(
    model: Seq2Seq, dataset: ImageDataset, source: int, tokenizer: Tokenizer, config: Config
) -> Iterator[Finding]:
    samples = []
    for index in dataset.select_images(source):
        sample = dataset[Key(0, index, source)]
        if isinstance(sample, Sample):
            samples.append(_first_text(sample))
        if len(samples) == IMAGES:
            break
    if not samples:
        yield Finding("images", False, "none of them can be read")
        return
    batch = collate(samples, question_pad=tokenizer.question_tokenizer.pad)
    yield from look_at(batch, config)
    losses = overfit(model, batch)
    detail = f"loss a token {losses[0]:.2f} to {losses[-1]:.3f} in {len(losses)} steps"
    yield Finding("one batch is learnt", losses[-1] < LEARNT, detail)
    yield _recall(model, batch, tokenizer, config)


def _first_text(sample: Sample) -> Sample:
    """One text of an image: several are not to be told apart by the image alone."""
    return Sample(
        sample.index,
        sample.image,
        sample.texts[:1],
        sample.questions[:1],
        sample.rows[:1],
        sample.source,
    )


def look_at(batch: Batch, config: Config) -> Iterator[Finding]:
    """The batch as it is: pixels, shift of the labels, EOS."""
    mean, spread = batch.images.mean().item(), batch.images.std().item()
    # Of pixels scaled to mean 0 and deviation 1, or to [-1, 1]; those of 0 to 255 are far off.
    fine = bool(batch.images.isfinite().all()) and abs(mean) < 3 and 0.05 < spread < 5
    yield Finding("pixels are normalised", fine, f"mean {mean:.2f}, deviation {spread:.2f}")
    tokens, labels = batch.tokens, batch.labels
    goes_on = labels[..., 1:] != PAD
    shifted = (tokens[..., 1:] == labels[..., :-1])[goes_on].all() and (tokens[..., 0] == BOS).all()
    yield Finding("labels are one token ahead", bool(shifted), f"{tokens.shape[-1]} tokens at most")
    lengths = (labels != PAD).sum(-1)
    last = labels.gather(-1, (lengths - 1).clamp(min=0)[..., None])[..., 0]
    ended = ((last == EOS) & (lengths > 0))[labels[..., 0] != PAD]
    yield Finding("texts end in EOS", bool(ended.all()), f"{int(ended.sum())} of {ended.numel()}")


def overfit(model: Seq2Seq, batch: Batch) -> list[float]:
    """The loss a token of each step; it ends where the batch is learnt."""
    model.eval()  # no dropout
    behind = [
        parameter
        for name, part in model.named_children()
        if name != "backbone"
        for parameter in part.parameters()
    ]
    optimizer = torch.optim.AdamW(behind, lr=RATE, weight_decay=0.0)
    with torch.no_grad():
        features = model.backbone(batch.images)
    labels = batch.labels[batch.labels != PAD]
    losses = []
    for _ in range(STEPS):
        logits = model(features, batch.tokens, batch.questions, batch.owners)
        loss = caption_loss(logits, labels) / len(labels)
        losses.append(loss.item())
        if losses[-1] < LEARNT:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(behind, 1.0)
        optimizer.step()
    return losses


def _recall(model: Seq2Seq, batch: Batch, tokenizer: Tokenizer, config: Config) -> Finding:
    """Whether the model, asked for the texts, gives them."""
    wanted = [tokenizer.decode(row) for row in batch.labels.flatten(0, 1).tolist()]
    longest = config.model.max_length
    backend = TorchBackend.of_model(model, device=batch.images.device)
    with torch.inference_mode():
        memories = backend.encode_tensors([batch.images])
        if batch.questions is None:
            greedy = DecodingConfig(beam_size=1, max_length=longest)
            found = search_captions(backend, memories, greedy)
        else:
            settings = type(config.answers)(beam_size=1, max_length=longest)
            memories = backend.fuse_questions(memories, batch.questions, batch.owners)
            found = search_answers(backend, memories, settings)
    said = [tokenizer.decode(hypotheses[0].tokens) for hypotheses in found]
    right = sum(one == other for one, other in zip(said, wanted, strict=True))
    wrong = next((f"; {a!r} for {b!r}" for a, b in zip(said, wanted, strict=True) if a != b), "")
    return Finding("and said again", right == len(wanted), f"{right} of {len(wanted)}{wrong}")
