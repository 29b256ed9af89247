"""The data report of a run: how many rows are used, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from captioner.config import Config
from captioner.config.stage_graph import stage_names
from captioner.data import Report
from captioner.data.dataset import ImageDataset
from captioner.data.splits import Task
from captioner.data.tag_counts import MIN_TAG_IMAGES
from captioner.sources import short_name
from captioner.training.public_model import PublicModel
from captioner.training.stage import ranked_tasks
from captioner.training.validation import ranking_metric

MANY_BYTES = 0.1
"""Share of byte tokens above which the vocabulary does not fit the texts."""
SHOWN = 3
"""Number of image names in a line."""


@dataclass
class Lengths:
    """Lengths of the texts of one kind, in tokens, EOS included."""

    limit: int
    texts: int = 0
    truncated: int = 0
    """Texts longer than the limit."""
    longest: int = 0
    tokens: int = 0
    bytes: int = 0
    """Tokens that are single bytes of a character."""


def describe_data(
    config: Config,
    tasks: list[Task],
    train: ImageDataset,
    val: ImageDataset,
    report: Report,
    *,
    model: nn.Module,
) -> Iterator[str]:
    """Yield the lines of the data report.

    They account for all rows of each data set (read, used by split, not used and why), for training
    texts that exceed the limits of the model, for weights of texts, for tags that are not
    predicted, for images that may be mirrored, for data sets with too few validation images, and
    for stages without a score.
    """
    for name, part in report.parts.items():
        yield f"data: {name}: {_describe_rows(part)}"
    for line in report.summary().splitlines():
        yield f"data: {line}"
    for kind, lengths in measure_lengths(train).items():
        yield from _describe_lengths(kind, lengths, config, model)
    for number, task in enumerate(tasks):
        if task.kind == "tags":
            yield _describe_tags(task, number, train)
    yield from _describe_weights(train)
    yield _describe_mirroring(config, train)
    yield from _describe_ranking(tasks, val)
    yield from _describe_stages(config, tasks, val)


def measure_lengths(data: ImageDataset) -> dict[str, Lengths]:
    """Return the lengths of the captions, answers and questions of a data set, by kind."""
    kinds: dict[str, Lengths] = {}
    for kind, length, count, limit in data.texts.measure():
        lengths = kinds.setdefault(kind, Lengths(limit))
        lengths.texts += 1
        lengths.truncated += length > limit
        lengths.longest = max(lengths.longest, length)
        lengths.tokens += length
        lengths.bytes += count
    return kinds


def _describe_rows(report: Report) -> str:
    used = ", ".join(f"{count} {split}" for split, count in report.used.items() if count)
    parts = [f"{report.rows} rows read, {report.used.total()} used ({used or 'none'})"]
    if report.unused:
        unused = ", ".join(f"{split} ({count})" for split, count in report.unused.items())
        parts.append(f"{report.unused.total()} of other splits: {unused}")
    if report.dropped:
        reasons = Counter({kind: problem.rows for kind, problem in report if problem.rows})
        dropped = ", ".join(f"{kind} ({count})" for kind, count in reasons.most_common())
        parts.append(f"{report.dropped} dropped: {dropped}")
    return "; ".join(parts)


def _describe_lengths(
    kind: str, lengths: Lengths, config: Config, model: nn.Module
) -> Iterator[str]:
    is_question = kind == "question"
    setting = "model.question.max_length" if is_question else "model.max_length"
    if lengths.truncated:
        change = (
            setting if not config.train.start else f"train.{'question_' * is_question}max_length"
        )
        most = _largest_limit(model, is_question=is_question)
        if most is None or lengths.longest <= most:
            advice = f"{change}={lengths.longest} learns them in full"
        elif lengths.limit < most:
            advice = f"{change}={most} is the largest value of this model; shorten longer {kind}s"
        else:
            advice = f"this model takes no longer {kind}s; shorten them"
        yield (
            f"data: {lengths.truncated} of {lengths.texts} {kind}s are truncated: they have more"
            f" than {setting}={lengths.limit} tokens, the longest {lengths.longest}; {advice}"
        )
    if lengths.bytes > MANY_BYTES * lengths.tokens:
        yield (
            f"data: {lengths.bytes / lengths.tokens:.0%} of the tokens of the {kind}s are single"
            " bytes: the tokenizer has no pieces for their characters, which makes texts long and"
            " hard to learn; a run without train.start trains a tokenizer on these texts"
        )


def _largest_limit(model: nn.Module, *, is_question: bool) -> int | None:
    """Return the largest limit of texts or questions in tokens; None if the model has none."""
    if isinstance(model, PublicModel):
        return model.family.question_length if is_question else model.family.max_length
    if not is_question:
        return None
    encoder = getattr(getattr(model, "question_encoder", None), "model", None)
    limit: int | None = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
    return limit


def _describe_tags(task: Task, source: int, train: ImageDataset) -> str:
    columns = zip(train.rows["source"], train.rows["tags"], strict=True)
    rows = [tags for number, tags in columns if number == source]
    counts = Counter(tag for tags in rows for tag in tags)
    rare = sorted(counts.keys() - set(train.texts.known_tags[source]))
    line = (
        f"data: {task.name}: {len(counts) - len(rare)} tags, {counts.total() / len(rows):.1f} per"
        " training image"
    )
    if rare:
        more = ", ..." if len(rare) > SHOWN else ""
        line += (
            f"; not predicted: {len(rare)} of fewer than {MIN_TAG_IMAGES} images"
            f" ({', '.join(rare[:SHOWN])}{more})"
        )
    return line


def _describe_weights(train: ImageDataset) -> Iterator[str]:
    """Yield a line if the rows have weights: a column of this name may have another meaning."""
    weights = [x for own in train.rows["weights"] for x in own]
    if weights:
        yield (
            f"data: {sum(x != 1 for x in weights)} training texts have a weight other than 1"
            f" ({min(weights):g} to {max(weights):g}), by which their loss is multiplied"
        )


def _describe_ranking(tasks: list[Task], val: ImageDataset) -> Iterator[str]:
    """Yield a line for each data set of captions with too few validation images for CIDEr-D."""
    for number, task in enumerate(tasks):
        count = len(val.select_images(number))
        metric = ranking_metric(count)
        is_ranked = count and (task.source.rank or not any(t.source.rank for t in tasks))
        if task.kind == "captions" and is_ranked and metric != "CIDEr-D":
            yield (
                f"data: {count} validation images of {task.name} are too few for CIDEr-D; the best"
                f" checkpoint is chosen by {metric}"
            )


def _describe_stages(config: Config, tasks: list[Task], val: ImageDataset) -> Iterator[str]:
    """Yield a line for each stage whose checkpoints are not ranked."""
    stages = config.train.stages
    for name, stage in zip(stage_names(stages), stages, strict=True):
        ranked = ranked_tasks(stage, tasks)
        if ranked and not any(val.select_images(number) for number in ranked):
            yield (
                f"data: stage {name}: none of the data sets that rank its checkpoints"
                f" ({', '.join(tasks[number].name for number in ranked)}) has validation images;"
                " its result is the checkpoint of its last epoch; for the best one, set"
                " eval_images or rank"
            )


def _describe_mirroring(config: Config, train: ImageDataset) -> str:
    augmented = len(train) - sum(train.unaugmented)
    if not config.model.backbones:
        return "data: the model takes recordings only"
    if not config.image.flip or not any(stage.augment for stage in config.train.stages):
        return "data: no image is mirrored (image.flip or augment is off)"
    never = train.list_unflippable()
    line = f"data: {augmented - len(never)} of {len(train)} training images may be mirrored"
    if never:
        names = ", ".join(short_name(train.images[i]) for i in never[:SHOWN])
        more = ", ..." if len(never) > SHOWN else ""
        line += (
            f"; not mirrored: {len(never)} ({names}{more}), whose texts name left or right in a"
            " way that cannot be swapped, or are not in English"
        )
    return line
