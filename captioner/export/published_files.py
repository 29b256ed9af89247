"""The files of a checkpoint to publish, without paths of this machine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from captioner.checkpoint import (
    ANSWERS,
    CONFIG,
    METRICS,
    TEXT_ENCODER,
    TOKENIZER,
    WEIGHTS,
    checkpoint_format,
    load_answers,
)
from captioner.checkpoint.folder_format import (
    INDEX,
    OWN_TYPE,
    PUBLIC_CONFIG,
    RUN_CONFIG,
    CheckpointFormat,
    check_public_folder,
    first_pickle,
    list_weights,
)
from captioner.checkpoint.graph_files import weights_digest
from captioner.checkpoint.safetensors_header import read_header
from captioner.config import load_config
from captioner.errors import CheckpointError
from captioner.text import one_line
from captioner.tokenizer import Tokenizer

CARD = "README.md"
PUBLIC_SUFFIXES = (".json", ".model", ".txt", ".jinja")
NOT_PUBLISHED = ("trainer_state.json", "manifest.json")
"""Files of a run that belong to no model."""
_LOCAL = re.compile(r"(?:[/\\~]|[A-Za-z]:[/\\]|\.\.(?:[/\\]|$))")
"""The beginning of a path that has a meaning on one machine only."""


@dataclass(frozen=True)
class PublishedFiles:
    """The content of a repository."""

    kind: CheckpointFormat
    copies: dict[str, Path]
    """Files that are uploaded as they are, by their path in the repository."""
    texts: dict[str, str]
    """Content of the other files, by their path in the repository."""

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes, ordered by path."""
        sizes = {name: path.stat().st_size for name, path in self.copies.items()}
        return dict(sorted((sizes | {k: len(v.encode()) for k, v in self.texts.items()}).items()))


def collect_files(folder: Path) -> PublishedFiles:
    """Return the files of a checkpoint folder to publish, after checking that they are complete.

    Raises:
        CheckpointError: A file is missing, damaged or does not fit the others.
        ConfigError: The configuration is invalid.
    """
    kind = checkpoint_format(folder)
    if kind == "transformers":
        check_public_folder(folder)
        names = [p.name for p in folder.iterdir() if p.suffix in PUBLIC_SUFFIXES and p.is_file()]
        weights = [path.name for path in list_weights(folder)]
        if WEIGHTS in weights:
            names = [name for name in names if name != INDEX]
        names += weights
    else:
        _check_own(folder)
        graphs = [path.name for path in folder.glob("*.onnx")]
        encoder = [p for p in (folder / TEXT_ENCODER).rglob("*") if p.is_file()]
        names = [WEIGHTS, TOKENIZER, *graphs]
        names += [p.relative_to(folder).as_posix() for p in encoder if not first_pickle([p.name])]
        names += [ANSWERS] if (folder / ANSWERS).exists() else []
    texts = {}
    for name in (CONFIG, RUN_CONFIG, METRICS, PUBLIC_CONFIG, CARD):
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8")
            texts[name] = text if name == CARD else remove_local_paths(text, name)
    if kind == "captioner":
        about = {"model_type": OWN_TYPE, "library_name": "captioner"}
        texts[PUBLIC_CONFIG] = json.dumps(about, indent=2) + "\n"
    skipped = {*texts, *NOT_PUBLISHED}
    copies = {name: folder / name for name in sorted(set(names)) if name not in skipped}
    return PublishedFiles(kind, copies, texts)


def _check_own(folder: Path) -> None:
    """Raise CheckpointError unless the files of a checkpoint of captioner fit each other."""
    config = load_config(folder / CONFIG)
    read_header(folder / WEIGHTS)
    load_answers(folder, config, Tokenizer.load(folder / TOKENIZER))
    question = config.model.question
    if question and question.is_pretrained and not (folder / TEXT_ENCODER).is_dir():
        raise CheckpointError(f"{folder}: the folder {TEXT_ENCODER} is missing; copy it there")
    for path in folder.glob("*.onnx"):
        if weights_digest(folder).encode() not in path.read_bytes():
            raise CheckpointError(
                f"{path}: belongs to other weights; run `captioner export {folder}`, or delete it"
            )


def remove_local_paths(text: str, name: str) -> str:
    """Return a YAML or JSON file in which paths of this machine are reduced to their last part.

    A path is of this machine if it is absolute or begins with `~` or `..`. A text without one is
    returned as it is.

    Raises:
        CheckpointError: The text cannot be parsed.
    """
    is_json = name.endswith(".json")
    try:
        content = json.loads(text) if is_json else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{name}: cannot be read: {one_line(error)}") from None
    is_config = name in (CONFIG, RUN_CONFIG)
    sections = [k for k in ("data", "model", "train") if k in content] if is_config else []
    changed = {k: _clean(content[k]) for k in sections}
    cleaned = {**content, **changed} if is_config else _clean(content)
    if cleaned == content:
        return text
    if is_json:
        return json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n"
    return str(yaml.safe_dump(cleaned, sort_keys=False, allow_unicode=True))


def _clean(value: Any) -> Any:
    """Return plain data with the last part of each string that is a path of this machine."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, str) and _LOCAL.match(value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1].lstrip("~.") or "local"
    return value


def read_metrics(files: PublishedFiles) -> dict[str, Any]:
    """Return the content of `metrics.json`; empty if there is none."""
    content = json.loads(files.texts.get(METRICS, "{}"))
    return content if isinstance(content, dict) else {}
