"""Validation: caption images, answer questions and predict tags, on all ranks, and score them.

Shapes: B images, G tags.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from tqdm import tqdm

from captioner.config import Config, StageConfig
from captioner.data import Report
from captioner.data.collate import Batch, collate_for
from captioner.data.dataset import ImageDataset, Key, UnreadableImage
from captioner.data.report import UNREADABLE_IMAGE
from captioner.errors import DataError
from captioner.evaluation.class_tables import tabulate_answers
from captioner.generation.answers import search_answers
from captioner.generation.captions import UNCONSTRAINED, search_captions
from captioner.generation.constraints import Constraints, build_constraints
from captioner.metrics import (
    FEW_IMAGES,
    cider_d,
    mean_average_precision,
    question_type,
    score_answers,
    score_captions,
    tokenize,
)
from captioner.text import DANGLING_WORDS
from captioner.training.public_model import CaptionModel, CaptionTokenizer, backend_of
from captioner.training.stage import ranked_tasks, trained_tasks

if TYPE_CHECKING:
    from captioner.training.run import Run

IMAGES, QUESTION_IMAGES = 32, 8
"""Images per batch; one image may have dozens of questions."""
ENOUGH_CAPTIONS = 50
"""Number of captions below which `diagnose` gives no warning."""
COLLAPSED = 0.05
"""Share of distinct captions below which the model ignores its input."""
IMAGE_DEPENDENCE = 1.5
"""Ratio to the score on other images' references that a model that sees the images exceeds."""
BLEU_DIGITS = 4
"""Decimals of BLEU in logs; without matches, it is up to 1e-4 in place of 0."""
RANKING = {"questions": "exact match", "tags": "mAP"}
"""The score that ranks checkpoints, by kind of task; for captions, see `ranking_metric`."""
Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")


@dataclass
class Validation:
    """The results of a validation."""

    scores: dict[str, float] = field(default_factory=dict)
    captions: list[dict[str, Any]] = field(default_factory=list)
    """For each captioned image: its path, the caption and the references."""
    warnings: list[str] = field(default_factory=list)
    classes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By task with questions, the tables of `tabulate_answers`."""


def validate(
    model: CaptionModel, run: Run, stage: StageConfig, numbers: Sequence[int] | None = None
) -> Validation:
    """Score a model, with all of its weights, on each task that a stage trains, or on `numbers`.

    All ranks must call this and get the same result. With several tasks, the name of each score
    begins with that of the task. `score` ranks checkpoints. It is the mean over `ranked_tasks` of
    one value for each: `ranking_metric` for captions, the exact match for answers, and the mean
    average precision (mAP) for tags. It is missing if none of these tasks has validation images.

    Raises:
        DataError: None of the validation images of a task can be read.
    """
    model.eval()
    dataset, tasks, tokenizer, config = run.val_set, run.tasks, run.tokenizer, run.config
    constraints = build_constraints(config.decoding, tokenizer, lowercase=config.data.lowercase)
    generate = partial(
        generate_texts, model, tokenizer=tokenizer, config=config, constraints=constraints
    )
    result, ranking = Validation(), dict[int, float]()
    scores: dict[str, float] = {}
    for number in trained_tasks(stage, tasks) if numbers is None else numbers:
        task = tasks[number]
        images = dataset.select_images(number)
        if not images:
            continue
        keys = [Key(0, index, number) for index in images]
        if task.kind == "tags":
            tags = _gather_outputs(partial(_score_tags, model), run, keys, IMAGES)
            values = {"mAP": mean_average_precision(*np.stack(list(tags.values()), 1))}
        elif task.kind == "questions":
            answers = _gather_outputs(generate, run, keys, QUESTION_IMAGES)
            values = _score_answers(answers, dataset, task.name, result)
        else:
            captions = _gather_outputs(generate, run, keys, IMAGES)
            values = _score_captions(captions, dataset, number, result)
        ranking[number] = values[RANKING.get(task.kind) or ranking_metric(len(images))]
        prefix = f"{task.name} " if len(tasks) > 1 else ""
        scores |= {f"{prefix}{name}": value for name, value in values.items()}
    ranked = [ranking[number] for number in ranked_tasks(stage, tasks) if number in ranking]
    result.scores = ({"score": sum(ranked) / len(ranked)} if ranked else {}) | scores
    return result


def ranking_metric(images: int) -> str:
    """Return the caption metric that ranks checkpoints on this number of validation images.

    CIDEr-D weights words by their document frequency, which few images do not determine: with a
    single image, all weights are 0.
    """
    return "CIDEr-D" if images >= FEW_IMAGES else "ROUGE-L"


def describe_scores(scores: Mapping[str, float]) -> str:
    """Return names and values in one line; BLEU without matches, a tiny number, is 0."""
    rounded = {k: round(v, BLEU_DIGITS) if "BLEU-" in k else v for k, v in scores.items()}
    return "  ".join(f"{name} {value:.4g}" for name, value in rounded.items())


def load_batches(dataset: ImageDataset, batches: list[list[Key]]) -> DataLoader[Batch]:
    """Return a loader of these batches in order; all keys of a batch are of one source."""
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_sampler=batches, collate_fn=collate_for(dataset.tokenizer)
    )
    return loader


def report_unreadable(
    unreadable: list[UnreadableImage], data: ImageDataset, report: Report
) -> None:
    """Count the images that could not be decoded, each once per run."""
    for item in unreadable:
        report.add_once(UNREADABLE_IMAGE, item.reason, key=data.images[item.index])


def _gather_outputs(
    generate: Callable[[Batch], Iterator[tuple[int, T]]], run: Run, keys: list[Key], size: int
) -> dict[int, T]:
    """Return the outputs of all ranks, in batches of `size` images; report unreadable images.

    Raises:
        DataError: None of the images can be read.
    """
    accelerator, rank = run.accelerator, run.accelerator.process_index
    # Not `EpochBatches`, which may leave out the last few images.
    share = keys[rank :: accelerator.num_processes]
    batches = [share[at : at + size] for at in range(0, len(share), size)]
    pairs: list[tuple[int, T]] = []
    unreadable: list[UnreadableImage] = []
    loader = load_batches(run.val_set, batches)
    for batch in tqdm(loader, desc="validation", leave=False, disable=rank != 0):
        unreadable.extend(batch.unreadable)
        if not batch.is_readable:
            continue
        with accelerator.autocast(), torch.inference_mode():
            pairs.extend(generate(batch.to(accelerator.device)))
    report_unreadable(gather_object(unreadable), run.val_set, run.report)
    if not (outputs := dict(gather_object(pairs))):
        name = run.tasks[keys[0].source].name
        raise DataError(f"{name}: none of its validation images can be read; replace them")
    return outputs


def generate_texts(
    model: CaptionModel,
    batch: Batch,
    *,
    tokenizer: CaptionTokenizer,
    config: Config,
    constraints: Constraints = UNCONSTRAINED,
) -> Iterator[tuple[int, str]]:
    """Yield (index, caption) of each image, or (row, answer) of each question."""
    backend = backend_of(model, device=batch.device)
    for part in batch.split():
        memories: list[Any] = backend.encode_tensors([part.images], [part.spectrograms])
        if part.questions is None:
            numbers = part.indices
            result = search_captions(backend, memories, config.decoding, constraints)
        else:
            assert part.owners is not None
            numbers = [row for rows in part.rows for row in rows]
            memories = backend.fuse_questions(memories, part.questions, part.owners)
            result = search_answers(backend, memories, config.answers, num_return=1)
        # The constraints of the configuration may leave an image without a caption.
        texts = (tokenizer.decode(some[0].tokens) if some else "" for some in result)
        yield from zip(numbers, texts, strict=True)


def _score_tags(model: Any, batch: Batch) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Return (index, logits and presence of the tags (2, G)) of each image."""
    assert batch.images is not None
    assert batch.tags is not None
    logits = model.score_tags(batch.images).float()  # (B, G)
    outputs = torch.stack([logits, (batch.tags == 1).float()], 1)  # (B, 2, G)
    return zip(batch.indices, outputs.cpu().numpy(), strict=True)


def _score_captions(
    captions: dict[int, str], dataset: ImageDataset, source: int, result: Validation
) -> dict[str, float]:
    """Return the scores of captions; add captions and warnings to the result."""
    references = {i: dataset.texts.list_references(i, source) for i in captions}
    values = score_captions(captions, references)
    figures, warnings = diagnose(captions, references, score=values["CIDEr-D"])
    result.warnings += warnings
    result.captions += [
        {"image": dataset.images[i], "caption": captions[i], "references": references[i]}
        for i in sorted(captions)
    ]
    return values | figures


def _score_answers(
    answers: dict[int, str], dataset: ImageDataset, task: str, result: Validation
) -> dict[str, float]:
    """Return the scores of answers by row; add the tables of their classes to the result."""
    rows = {row: dataset.rows[row] for row in answers}
    references = {i: row["references"] for i, row in rows.items()}
    types = {i: row["question_type"] or question_type(row["question"]) for i, row in rows.items()}
    result.classes[task] = tabulate_answers(references, answers, types)
    return {"exact match": score_answers(answers, references).exact_match}


def diagnose(
    captions: Mapping[Name, str], references: Mapping[Name, Sequence[str]], *, score: float
) -> tuple[dict[str, float], list[str]]:
    """Detect captions that are nearly identical for all images or do not depend on the images.

    `score` is the CIDEr-D of the captions. Returns figures for the log, and warnings. `different`
    is the share of distinct captions; `dangling` is the share of captions that end on a word such
    as "with"; `CIDEr-D, other image` is the score of each caption against the references of another
    image, which a model reaches without looking at the image.
    """
    texts = list(captions.values())
    if len(texts) < 2:
        return {}, []
    names = list(captions)
    shifted = dict(zip(names, texts[1:] + texts[:1], strict=True))
    other = cider_d(shifted, {name: references[name] for name in names}).corpus
    figures = {
        "different": len(set(texts)) / len(texts),
        "dangling": sum(ends_dangling(text) for text in texts) / len(texts),
        "CIDEr-D, other image": other,
    }
    warnings = []
    if len(texts) >= ENOUGH_CAPTIONS and figures["different"] < COLLAPSED:
        warnings.append(
            f"only {len(set(texts))} different captions for {len(texts)} images: the model has"
            " collapsed; lower the learning rate, and check that the images are read correctly"
        )
    elif len(texts) >= ENOUGH_CAPTIONS and score < IMAGE_DEPENDENCE * other:
        warnings.append(
            f"CIDEr-D is {score:.3f}, and {other:.3f} against the references of other images: the"
            " captions do not depend on the images; check that each text belongs to its image"
        )
    return figures, warnings


def ends_dangling(text: str) -> bool:
    """Return whether a caption ends on a word that needs another one, as in "a man with a"."""
    # Without the full stop: the tokenizer would read a final "a." as an initial.
    return tokenize(text.rstrip(" .!?"))[-1:] in ([word] for word in DANGLING_WORDS)
