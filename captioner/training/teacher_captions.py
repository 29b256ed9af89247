"""Sequence-level distillation: captions of the training images from the teacher's beam search.

They are rows of the training set beside those with the references, so that each step trains on both
(Kim and Rush, Sequence-level knowledge distillation, 2016, section 3.2). They are decoded once,
before training, and kept in the folder of the run, one file for each rank.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from captioner.backends.encoder_outputs import EncoderOutputs
from captioner.backends.torch_backend import TorchBackend
from captioner.backends.torch_members import build_backend
from captioner.build import load_checkpoint
from captioner.checkpoint import fingerprint
from captioner.config import Config, DecodingConfig, TeacherConfig, to_dict
from captioner.data.dataset import ImageDataset
from captioner.data.splits import Task
from captioner.errors import ConfigError, ImageError
from captioner.generation.captions import search_caption_stream
from captioner.training.distributed import any_rank
from captioner.training.signals import Signals, Stopped
from captioner.training.teacher import check_takes_images

if TYPE_CHECKING:
    from datasets import Dataset

FILES = "teacher_captions.*.jsonl"
"""Names of the files in the folder of a run. The first line is the key of the captions; each other
line is an image with its captions."""
TEACHER = "teacher"
"""`question_type` of the rows with captions of the teacher."""
BATCH = 8


def add_teacher_captions(
    rows: Dataset,
    tasks: Sequence[Task],
    config: Config,
    accelerator: Accelerator,
    signals: Signals | None = None,
) -> Dataset:
    """Return training rows with one more row for each image that the teacher captions.

    All ranks must call this; each decodes its share of the images that have no captions yet.

    Raises:
        CheckpointError: A checkpoint cannot be read.
        ConfigError: No data set has captions.
        Stopped: A signal was received. The captions so far are kept.
    """
    from datasets import concatenate_datasets

    settings = config.train.teacher
    if settings is None or not settings.captions:
        return rows
    sources = choose_sources(rows, tasks, settings)
    key = _key(settings, config)
    folder, rank = Path(config.train.output), accelerator.process_index
    known = read_captions(folder, key)
    left = [image for image in sources if image not in known]
    accelerator.wait_for_everyone()  # no rank may write before all have read what is left
    _decode(left[rank :: accelerator.num_processes], settings, config, key, accelerator, signals)
    name = signals.name if signals else ""
    if any_rank(accelerator, bool(name)):  # the signal may have reached some of the ranks only
        kept = "the captions so far are kept; the same command continues from them"
        raise Stopped(name or "SIGTERM", kept)
    known = read_captions(folder, key)
    images = [image for image in sources if known.get(image)]
    places = {image: i for i, image in enumerate(rows["image"])}
    new = [
        rows[places[image]]
        | {"references": known[image], "question": "", "question_id": "", "tags": None}
        | {"question_type": TEACHER, "answer_type": "", "source": sources[image], "weights": []}
        for image in images
    ]
    more = rows.from_list(new, features=rows.features) if new else rows.select([])
    return concatenate_datasets([rows, more])


def choose_sources(rows: Dataset, tasks: Sequence[Task], settings: TeacherConfig) -> dict[str, int]:
    """Return the images that the teacher captions, each with the index of the task of its captions.

    Raises:
        ConfigError: No data set has captions.
    """
    captioned = [number for number, task in enumerate(tasks) if task.kind == "captions"]
    if not captioned:
        raise ConfigError("train.teacher.captions needs a data set with captions; set it to 0")
    everything = settings.captions_for == "all"
    sources = dict.fromkeys(rows["image"], captioned[0]) if everything else {}
    for image, source in zip(rows["image"], rows["source"], strict=True):
        if source in captioned:
            sources[image] = source
    return sources


def human_captions(dataset: ImageDataset) -> dict[int, list[str]]:
    """Return the captions by image index: those of the teacher only where there are no others."""
    rows, indices = dataset.rows, {image: i for i, image in enumerate(dataset.images)}
    captions: dict[bool, dict[int, list[str]]] = {True: {}, False: {}}
    columns = (rows[name] for name in ("image", "question", "question_type", "references"))
    for image, question, kind, references in zip(*columns, strict=True):
        if references and not question:  # rows of tags have no references
            captions[kind == TEACHER].setdefault(indices[image], []).extend(references)
    return captions[True] | captions[False]


def _key(settings: TeacherConfig, config: Config) -> dict[str, Any]:
    """Return all that the captions depend on, apart from the images."""
    search: dict[str, Any] = to_dict(_search(settings, config))
    return {"teacher": fingerprint(settings.checkpoints), "captions": settings.captions} | search


def _search(settings: TeacherConfig, config: Config) -> DecodingConfig:
    own = config.decoding
    return DecodingConfig(
        beam_size=max(own.beam_size, settings.captions),
        max_length=own.max_length,
        length_penalty=own.length_penalty,
        length_form=own.length_form,
    )


def read_captions(folder: Path, key: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the captions by image from the files of all ranks that have this key."""
    captions: dict[str, list[str]] = {}
    for path in sorted(folder.glob(FILES)):
        lines = list(_read_lines(path))
        if lines[:1] == [key]:
            captions |= {line["image"]: line["captions"] for line in lines[1:]}
    return captions


def _read_lines(path: Path) -> Iterator[Any]:
    """Yield the lines of a JSONL file; a killed process may have left the last one incomplete."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _decode(
    images: Sequence[str],
    settings: TeacherConfig,
    config: Config,
    key: Mapping[str, Any],
    accelerator: Accelerator,
    signals: Signals | None,
) -> None:
    """Caption images until a signal is received, and add them to the file of this rank."""
    if not images:
        return
    folder = Path(config.train.output)
    path = folder / FILES.replace("*", str(accelerator.process_index))
    folder.mkdir(parents=True, exist_ok=True)
    old = list(_read_lines(path)) if path.exists() else []
    backend = _load_backend(settings, accelerator.device)
    captions = caption_images(backend, images, _search(settings, config))
    hidden = not accelerator.is_main_process
    with path.open("w", encoding="utf-8") as file:
        for line in old if old[:1] == [key] else [key]:
            file.write(json.dumps(line) + "\n")
        for image, texts in tqdm(captions, "captions of the teacher", len(images), disable=hidden):
            row = {"image": image, "captions": texts[: settings.captions]}
            file.write(json.dumps(row) + "\n")
            file.flush()
            if signals and signals.name:
                break


def _load_backend(settings: TeacherConfig, device: torch.device) -> TorchBackend:
    members = [load_checkpoint(name) for name in settings.checkpoints]
    tokenizer = members[0][1]
    for name, (_, other, own) in zip(settings.checkpoints, members, strict=True):
        check_takes_images(name, own)
        if other.model != tokenizer.model:
            raise ConfigError(
                f"train.teacher: {name}: its tokenizer differs from that of"
                f" {settings.checkpoints[0]}; the members of an ensemble must have the same tokens"
            )
    return build_backend([(model, own) for model, _, own in members], tokenizer, device=device)


def caption_images(
    backend: TorchBackend, images: Sequence[str], search: DecodingConfig
) -> Iterator[tuple[str, list[str]]]:
    """Yield each image with its captions, best first; images that cannot be read have none."""
    search = dataclasses.replace(search, max_length=min(search.max_length, backend.max_length))
    readable: list[str] = []
    unreadable: list[str] = []

    def batches() -> Iterator[Sequence[EncoderOutputs]]:
        pixels = []
        for image in images:
            try:
                pixels.append(backend.read(image))
                readable.append(image)
            except ImageError:
                unreadable.append(image)
            if len(pixels) == BATCH:
                yield backend.encode(pixels)
                pixels = []
        if pixels:
            yield backend.encode(pixels)

    stream = search_caption_stream(backend, batches(), search)
    for number, hypotheses in enumerate(stream):
        texts = (backend.tokenizer.decode(hypothesis.tokens) for hypothesis in hypotheses)
        yield readable[number], list(dict.fromkeys(texts))
    yield from ((image, []) for image in unreadable)
