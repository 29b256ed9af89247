"""The model card of a checkpoint: README.md with the metadata that the Hugging Face Hub reads.

The format of the metadata is documented at https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from captioner import __version__
from captioner.backends.public.family_registry import Tasks, find_tasks
from captioner.checkpoint import CONFIG, METRICS, WEIGHTS
from captioner.checkpoint.folder_format import PREPROCESSOR_FILES, PUBLIC_CONFIG, RUN_CONFIG
from captioner.checkpoint.hub_names import PREFIX
from captioner.checkpoint.safetensors_header import read_header
from captioner.config import Config
from captioner.config.parsing import parse_value
from captioner.errors import CheckpointError, ConfigError
from captioner.export.published_files import PublishedFiles, read_metrics
from captioner.files import file_digest
from captioner.text import one_line

TEMPLATE = Path(__file__).with_name("card_template.md")
METRIC_TYPES = {
    "CIDEr-D": "cider", "CIDEr": "cider", "BLEU-1": "bleu", "BLEU-2": "bleu", "BLEU-3": "bleu",
    "BLEU-4": "bleu", "ROUGE-L": "rouge", "exact match": "exact_match",
    "mAP": "mean_average_precision",
}  # fmt: skip
"""The Hub's identifier of each validation score; other scores are not in the card."""
VQA = "visual-question-answering"
"""The Hub's identifier of the task."""
QUESTION = "what is in the picture?"
"""The question of the examples."""
CALLS = (
    'print(model.caption(["photo.jpg"])[0].text)',
    f'print(model.ask("photo.jpg", "{QUESTION}").text)',
)
"""Examples in Python: a caption and an answer."""
QUANTILE = 1.96
"""Of the normal distribution, for 95 % intervals."""


@dataclass(frozen=True)
class Score:
    """A validation score of a data set, 0 to 1 (CIDEr-D: above)."""

    data: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    """The 95 % interval, if it is known."""


def make_card(files: PublishedFiles, repository: str, license: str) -> str:
    """Return the text of README.md for a repository `USER/NAME`.

    `license` is an identifier of the Hub, such as `mit`.
    """
    config = read_config(files)
    try:
        scores = list(list_scores(read_metrics(files), config))
        provenance = "\n".join(_provenance(files, config))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{METRICS}: is not as training writes it ({type(error).__name__}: {one_line(error)});"
            " restore it, or delete it"
        ) from None
    tasks = _find_tasks(files, config)
    header = _metadata(files, config, scores, repository, license)
    command = f"captioner caption photo.jpg --checkpoint hf-hub:{repository}"
    body = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=repository.partition("/")[2],
        repository=repository,
        extras="hub" if files.kind == "captioner" else "train,hub",
        commands=_examples(tasks, command, f'{command} --question "{QUESTION}"'),
        calls=_examples(tasks, *CALLS),
        library=_library_use(files, repository),
        summary=_summary(files, tasks),
        recipe="\n".join(_recipe(files, config)),
        scores=_score_table(scores),
        limits="\n".join(_limits(config, tasks)),
        provenance=provenance,
    )
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{body}"


def read_config(files: PublishedFiles) -> Config | None:
    """Return the configuration of a run; None if the checkpoint has none."""
    name = CONFIG if CONFIG in files.texts else RUN_CONFIG
    if name not in files.texts:
        return None
    try:
        config: Config = parse_value(Config, yaml.safe_load(files.texts[name]))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return config


def list_scores(metrics: Mapping[str, Any], config: Config | None) -> Iterator[Score]:
    """Yield the validation scores of `metrics.json` that have an entry in `METRIC_TYPES`.

    A 95 % interval is that of `intervals` in the file or, for exact match with a known number of
    questions, Wilson's (E. B. Wilson, Probable Inference, 1927).
    """
    intervals, classes = metrics.get("intervals") or {}, metrics.get("classes") or {}
    names = _data_names(config)
    for name, value in (metrics.get("val") or {}).items():
        metric = next((m for m in METRIC_TYPES if name == m or name.endswith(f" {m}")), None)
        if metric is None or not isinstance(value, (int, float)) or not math.isfinite(value):
            continue
        task = name[: -len(metric)].strip()
        count = ((classes.get(task) or {}).get("all") or {}).get("examples")
        interval = None
        if name in intervals:
            low, high = map(float, intervals[name])
            interval = low, high
        if interval is None and metric == "exact match" and count:
            interval = wilson_interval(value, count)
        yield Score(task or ", ".join(names) or "validation", metric, value, interval)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` independent trials."""
    square = QUANTILE**2 / count
    middle = (share + square / 2) / (1 + square)
    half = QUANTILE * math.sqrt(share * (1 - share) / count + square / 4 / count) / (1 + square)
    return middle - half, middle + half


def _metadata(
    files: PublishedFiles,
    config: Config | None,
    scores: list[Score],
    repository: str,
    license: str,
) -> dict[str, Any]:
    tasks = _find_tasks(files, config)
    tags = ["captioner", *["image-captioning"] * tasks.captions, *[VQA] * tasks.questions]
    header: dict[str, Any] = {
        "library_name": files.kind,
        "pipeline_tag": "image-to-text" if tasks.captions else VQA,
        "license": license,
        "tags": tags,
    }
    if datasets := _data_names(config):
        header["datasets"] = datasets
    start = config.train.start if config else None
    if start and start.startswith(PREFIX):
        header["base_model"] = start.removeprefix(PREFIX).partition("@")[0]
    if scores:
        results = [_result(data, scores) for data in dict.fromkeys(s.data for s in scores)]
        header["model-index"] = [{"name": repository.partition("/")[2], "results": results}]
    return header


def _result(data: str, scores: list[Score]) -> dict[str, Any]:
    """Return the scores of a data set as an entry of `model-index`."""
    own = [score for score in scores if score.data == data]
    asked = any(score.metric == "exact match" for score in own)
    task = (VQA, "Visual question answering") if asked else (
        "image-to-text", "Image captioning")  # fmt: skip
    metrics = []
    for score in own:
        name = f"{score.metric} (validation)"
        if score.interval:
            low, high = score.interval
            name = f"{score.metric} (validation, 95 % interval {low:.3f} to {high:.3f})"
        kind = METRIC_TYPES[score.metric]
        metrics.append({"type": kind, "name": name, "value": round(score.value, 4)})
    return {
        "task": {"type": task[0], "name": task[1]},
        "dataset": {"type": data, "name": data, "split": "validation"},
        "metrics": metrics,
    }


def _data_names(config: Config | None) -> list[str]:
    """Return the names of the data sets of a run, without folders and suffixes."""
    sources = config.data.all_sources if config else ()
    return list(dict.fromkeys(Path(s.root).stem for s in sources if s.root))


def _find_tasks(files: PublishedFiles, config: Config | None) -> Tasks:
    """Return what a model does, as its family or its own configuration states."""
    if files.kind == "transformers":
        processors = (json.loads(files.texts.get(name, "{}")) for name in PREPROCESSOR_FILES)
        tasks = find_tasks(json.loads(files.texts[PUBLIC_CONFIG]), processors)
        return tasks or Tasks(questions=False)
    return Tasks(questions=config is not None and config.model.question is not None)


def _summary(files: PublishedFiles, tasks: Tasks) -> str:
    headers = [read_header(p) for n, p in files.copies.items() if n.endswith(".safetensors")]
    tensors = [tensor for header in headers for tensor in header.tensors.values()]
    millions = sum(math.prod(tensor.shape) for tensor in tensors) / 1e6
    verbs = "captions images" if tasks.captions else "answers questions about images"
    verbs += " and answers questions about them" * (tasks.captions and tasks.questions)
    kind = "A captioner checkpoint"
    if files.kind == "transformers":
        kind = f"A transformers model (`{json.loads(files.texts[PUBLIC_CONFIG])['model_type']}`)"
    return f"{kind} that {verbs}: {millions:.1f} million parameters."


def _examples(tasks: Tasks, caption: str, question: str) -> str:
    """Return the examples of what a model does, one a line."""
    return "\n".join([caption] * tasks.captions + [question] * tasks.questions)


def _library_use(files: PublishedFiles, repository: str) -> str:
    """Return how transformers loads the model; empty for a checkpoint of captioner."""
    if files.kind != "transformers":
        return ""
    names = json.loads(files.texts[PUBLIC_CONFIG]).get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or not name.isidentifier():
        name = "AutoModelForImageTextToText"
    code = f'from transformers import {name}\nmodel = {name}.from_pretrained("{repository}")'
    return f"\nWith transformers alone:\n\n```python\n{code}\n```\n"


def _recipe(files: PublishedFiles, config: Config | None) -> Iterator[str]:
    """Yield the lines about data and training."""
    if config is None:
        yield "They were not stored with the model."
        return
    yield "| data set | format | passes per epoch | validation |"
    yield "|---|---|---|---|"
    for source in config.data.all_sources:
        name = Path(source.root).name if source.root else "not stored"
        splits = ", ".join(source.val_splits)
        yield f"| {name} | {source.format} | {source.weight:g} | {splits} |"
    train = config.train
    yield ""
    yield "| stage | objective | epochs | learning rate | of the encoder |"
    yield "|---|---|---|---|---|"
    for number, stage in enumerate(train.stages):
        name = stage.name or str(number)
        rates = f"{stage.lr:g} | {stage.encoder_lr:g}"
        yield f"| {name} | {stage.objective} | {stage.epochs} | {rates} |"
    yield ""
    start = f"`{train.start}`" if train.start else "new decoder weights"
    optimizer = f"{train.optimizer}, batches of {train.batch_size} images"
    yield f"Training started from {start}, with {optimizer} and seed {train.seed}. The"
    yield f"settings are in `{CONFIG if CONFIG in files.texts else RUN_CONFIG}`."


def _score_table(scores: list[Score]) -> str:
    if not scores:
        return "No scores were stored with the checkpoint."
    lines = ["Of the validation data, which also chose the checkpoint.", ""]
    lines += ["| data set | metric | score | 95 % interval |", "|---|---|---|---|"]
    for score in scores:
        interval = "not measured"
        if score.interval:
            interval = "{:.3f} to {:.3f}".format(*score.interval)
        lines.append(f"| {score.data} | {score.metric} | {score.value:.3f} | {interval} |")
    return "\n".join(lines)


def _limits(config: Config | None, tasks: Tasks) -> Iterator[str]:
    yield "- Texts can be wrong or incomplete, above all for images unlike the training data. A"
    yield "  person should review them before they are published."
    yield "- The model repeats biases of its data sets."
    if not tasks.questions:
        yield "- It answers no questions."
    if not tasks.captions:
        yield "- It writes no captions: each image needs a question."
    if config:
        yield f"- Texts have at most {config.model.max_length} tokens."


def _provenance(files: PublishedFiles, config: Config | None) -> Iterator[str]:
    yield f"- Published with captioner {__version__}."
    if config and config.train.start:
        yield f"- Weights from `{config.train.start}`, then trained as above."
    for record in read_metrics(files).get("data", ()):
        yield f"- Captions of `{record['file']}` were written by {describe_writers(record)}."
    for name, path in files.copies.items():
        if name == WEIGHTS:
            yield f"- SHA-256 of `{WEIGHTS}`: `{file_digest(path)}`."


def describe_writers(record: Mapping[str, Any]) -> str:
    """Return the models that wrote captions for training, with their options.

    `record` is an entry of `data` in `metrics.json`.
    """
    models = [model for origin in record["origins"] for model in origin.get("checkpoint", ())]
    names = dict.fromkeys(
        f"`{model['name']}`" + (f" at revision {model['revision']}" if model["revision"] else "")
        for model in models
    )
    chosen = {k: v for k, v in record["options"].items() if k != "checkpoint"}
    options = ", ".join(f"{key} {value}" for key, value in chosen.items())
    return ", ".join(names or ["an unknown model"]) + (f" ({options})" if options else "")
