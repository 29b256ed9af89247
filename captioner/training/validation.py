"""Validation: caption every image and answer every question once, over all ranks, and score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from tqdm import tqdm

from captioner.config import Config
from captioner.data import Report
from captioner.data.collate import Batch, collate
from captioner.data.dataset import ImageDataset, Key
from captioner.data.splits import Task
from captioner.generation.captions import answer, search
from captioner.generation.constraints import Constraints, build_constraints
from captioner.metrics import FEW_IMAGES, score_answers, score_captions
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training.setup import report_unreadable
from captioner.training.watch import watch

QUESTION_IMAGES = 8
"""Images of one batch of questions, of which an image may have dozens."""


class Validation(NamedTuple):
    """What a validation found."""

    scores: dict[str, float]
    captions: list[dict[str, Any]]
    """Of each captioned image: its path, the caption, the references."""
    warnings: list[str]


def validate(
    model: Seq2Seq,
    dataset: ImageDataset,
    tasks: Sequence[Task],
    *,
    tokenizer: Tokenizer,
    config: Config,
    accelerator: Accelerator,
    report: Report,
) -> Validation:
    """Every task's scores, on every rank, and `score`, by which checkpoints are ranked.

    That is the mean over the tasks: CIDEr-D of captions (ROUGE-L of few images, see
    `ranking_metric`), exact match of answers. With several tasks, each score has its task's name
    before it.
    """
    shared = {"model": model, "tokenizer": tokenizer, "config": config}
    constraints = build_constraints(config.decoding, tokenizer, lowercase=config.data.lowercase)
    answers, captions = (
        partial(_answers, **shared),
        partial(_captions, constraints=constraints, **shared),
    )
    model.eval()
    scores, main, rows, warnings = {}, [], [], []
    for number, task in enumerate(tasks):
        images = dataset.select_images(number)
        if not images:
            continue
        run = answers if task.asks else captions
        size = QUESTION_IMAGES if task.asks else 32
        found = _over_ranks(
            run, dataset, images, number, size=size, accelerator=accelerator, report=report
        )
        if task.asks:
            values = _score_answers(found, dataset)
            main.append(values["exact match"])
        else:
            references = {i: _captions_of(dataset, i, number) for i in found}
            values = score_captions(found, references)
            main.append(values[ranking_metric(len(images))])
            figures, told = watch(found, references, score=values["CIDEr-D"])
            values |= figures
            warnings += told
            rows += [
                {"image": dataset.images[i], "caption": found[i], "references": references[i]}
                for i in sorted(found)
            ]
        prefix = f"{task.name} " if len(tasks) > 1 else ""
        scores |= {f"{prefix}{name}": value for name, value in values.items()}
    return Validation({"score": sum(main) / max(1, len(main))} | scores, rows, warnings)


def ranking_metric(images: int) -> str:
    """Return the caption metric by which checkpoints are ranked on so many validation images.

    CIDEr-D weighs words by how few of the images' references have them, which a few images cannot
    tell: on one, each weight is 0.
    """
    return "CIDEr-D" if images >= FEW_IMAGES else "ROUGE-L"


def load_batches(dataset: ImageDataset, batches: list[list[Key]]) -> DataLoader:
    """The batches of these keys, each of one source, in order."""
    pad = dataset.tokenizer.question_tokenizer.pad
    return DataLoader(dataset, batch_sampler=batches, collate_fn=partial(collate, question_pad=pad))


def _over_ranks(
    run: Callable[[Batch], Iterator[tuple[int, str]]],
    dataset: ImageDataset,
    images: list[int],
    source: int,
    *,
    size: int,
    accelerator: Accelerator,
    report: Report,
) -> dict[int, str]:
    """What `run` yields of the images' batches, on every rank; unreadable images are reported."""
    rank, world = accelerator.process_index, accelerator.num_processes
    # Images are dealt out here, since a training sampler may leave out the last few.
    mine = [Key(0, index, source) for index in images[rank::world]]
    batches = [mine[at : at + size] for at in range(0, len(mine), size)]
    found, unreadable = [], []
    loader = load_batches(dataset, batches)
    for batch in tqdm(loader, desc="validation", leave=False, disable=rank != 0):
        unreadable.extend(batch.unreadable)
        if batch.images is None:
            continue
        with accelerator.autocast(), torch.inference_mode():
            found.extend(run(batch.to(accelerator.device)))
    report_unreadable(gather_object(unreadable), dataset, report)
    return dict(gather_object(found))


def _captions(
    batch: Batch, *, model: Seq2Seq, tokenizer: Tokenizer, config: Config, constraints: Constraints
) -> Iterator[tuple[int, str]]:
    """Image number and caption."""
    found = search([model], [batch.images], config.decoding, constraints)
    # Rules that the configuration sets may leave an image without a caption.
    texts = (tokenizer.decode(some[0].tokens) if some else "" for some in found)
    return zip(batch.indices, texts, strict=True)


def _answers(
    batch: Batch, *, model: Seq2Seq, tokenizer: Tokenizer, config: Config
) -> Iterator[tuple[int, str]]:
    """Row number and answer."""
    memory = model.encode(batch.images)
    asked = (batch.questions, batch.owners, config.answers)
    found = answer([model], [memory], *asked, wanted=1)
    texts = (tokenizer.decode(hypotheses[0].tokens) for hypotheses in found)
    return zip((row for rows in batch.rows for row in rows), texts, strict=True)


def _captions_of(dataset: ImageDataset, index: int, source: int) -> list[str]:
    return [
        t for row in dataset.select_rows(index, source) for t in dataset.rows[row]["references"]
    ]


def _score_answers(answers: dict[int, str], dataset: ImageDataset) -> dict[str, float]:
    references: dict[int, Any] = {row: dataset.rows[row]["references"] for row in answers}
    found = score_answers(answers, references)
    return {"exact match": found.exact_match}
