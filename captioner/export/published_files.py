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
    CHAT_TEMPLATES,
    INDEX,
    OWN_TYPE,
    PREPROCESSOR_FILES,
    PUBLIC_CONFIG,
    RUN_CONFIG,
    SUBFOLDERS,
    TOKENIZER_FILES,
    CheckpointFormat,
    check_public_folder,
    list_weights,
)
from captioner.checkpoint.graph_files import weights_digest
from captioner.checkpoint.safetensors_header import read_header
from captioner.config import load_config
from captioner.errors import CheckpointError
from captioner.text import one_line
from captioner.tokenizer import Tokenizer

CARD = "README.md"
PUBLIC_FILES = {
    *TOKENIZER_FILES, *PREPROCESSOR_FILES, PUBLIC_CONFIG, "generation_config.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
}  # fmt: skip
"""Files that the `save_pretrained` of transformers writes beside the weights. Other files of a
folder, such as keys and notes, are never published."""
CLEANED = {PUBLIC_CONFIG, "generation_config.json", "tokenizer_config.json", *PREPROCESSOR_FILES}
"""Files of transformers that can hold paths; the others hold tokens, which can be like a path."""
_KEPT = re.compile(r".*_tokens?|.*_tokens_decoder|id2label|chat_template")
"""Keys of tokens and labels, which can be like a path."""
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
        names = [*_list_public(folder), *(path.name for path in list_weights(folder))]
        names += [] if WEIGHTS in names else [INDEX]
        for place in SUBFOLDERS:
            names += [f"{place}/{name}" for name in _list_public(folder / place)]
    else:
        _check_own(folder)
        names = [WEIGHTS, TOKENIZER, *(path.name for path in _list_graphs(folder))]
        names += [f"{TEXT_ENCODER}/{name}" for name in _list_public(folder / TEXT_ENCODER)]
        names += [ANSWERS] if (folder / ANSWERS).exists() else []
    own = [name for name in (CONFIG, RUN_CONFIG, METRICS, CARD) if (folder / name).is_file()]
    for name in (*names, *own):
        _check_inside(folder, folder / name)
    texts = {name: _read_text(folder, name) for name in own}
    texts |= {name: _read_text(folder, name) for name in names if Path(name).name in CLEANED}
    if kind == "captioner":
        about = {"model_type": OWN_TYPE, "library_name": "captioner"}
        texts[PUBLIC_CONFIG] = json.dumps(about, indent=2) + "\n"
    copies = {name: folder / name for name in sorted(set(names)) if name not in texts}
    return PublishedFiles(kind, copies, texts)


def _list_public(folder: Path) -> list[str]:
    """Return the names of the files of a transformers folder to publish, beside its weights."""
    if not folder.is_dir():
        return []
    template = folder.name == CHAT_TEMPLATES
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_file()
        and (path.name in PUBLIC_FILES or (template and re.fullmatch(r"\w.*\.jinja", path.name)))
    ]


def _list_graphs(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.onnx")) if not path.name.startswith(".")]


def _check_inside(folder: Path, path: Path) -> None:
    """Raise CheckpointError if a file is a link out of the folder, except into the Hub's cache."""
    root, target = folder.resolve(), path.resolve()
    if target.is_relative_to(root):
        return
    cache = root.parent.parent
    in_cache = root.parent.name == "snapshots" and cache.name.startswith("models--")
    if not (in_cache and target.parent == cache / "blobs"):
        raise CheckpointError(
            f"{path}: is a link out of the folder; copy the file there to publish it, or delete"
            " the link"
        )


def _read_text(folder: Path, name: str) -> str:
    """Return a text file as it is published; raise CheckpointError if it cannot be read."""
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / name}: cannot be read: {one_line(error)}") from None
    if name != CARD:
        return remove_local_paths(text, name)
    _check_front_matter(text, folder / name)
    return text


def _check_front_matter(text: str, path: Path) -> None:
    """Raise CheckpointError if a card begins with metadata that the Hub would reject."""
    match = re.match(r"---[ \t]*\n(.*?)^---[ \t]*$", text, re.DOTALL | re.MULTILINE)
    if match is None:
        return
    try:
        header = yaml.safe_load(match[1])
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: its metadata is no YAML: {one_line(error)}") from None
    if not isinstance(header, dict | None):
        raise CheckpointError(f"{path}: its metadata is no mapping; expected lines KEY: VALUE")


def _check_own(folder: Path) -> None:
    """Raise CheckpointError unless the files of a checkpoint of captioner fit each other."""
    config = load_config(folder / CONFIG)
    read_header(folder / WEIGHTS)
    load_answers(folder, config, Tokenizer.load(folder / TOKENIZER))
    question = config.model.question
    if question and question.is_pretrained and not (folder / TEXT_ENCODER).is_dir():
        raise CheckpointError(f"{folder}: the folder {TEXT_ENCODER} is missing; copy it there")
    for path in _list_graphs(folder):
        if weights_digest(folder).encode() not in path.read_bytes():
            raise CheckpointError(
                f"{path}: belongs to other weights; run `captioner export {folder}`, or delete it"
            )


def remove_local_paths(text: str, name: str) -> str:
    """Return a YAML or JSON file in which paths of this machine are reduced to their last part.

    A path is of this machine if it is absolute or begins with `~` or `..`. A text without one is
    returned as it is.

    Raises:
        CheckpointError: The text cannot be parsed, or is no mapping.
    """
    is_json = name.endswith(".json")
    try:
        content = json.loads(text) if is_json else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointError(f"{name}: cannot be read: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{name}: holds a {type(content).__name__}; expected a mapping of names to values"
        )
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
        return {k: v if _KEPT.fullmatch(str(k)) else _clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, str) and _LOCAL.match(value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1].lstrip("~.") or "local"
    return value


def read_metrics(files: PublishedFiles) -> dict[str, Any]:
    """Return the content of `metrics.json`; empty if there is none."""
    content: dict[str, Any] = json.loads(files.texts.get(METRICS, "{}"))
    return content
