"""Write a static web page that runs a checkpoint in the browser.

The page is built from the folder `web` of the repository. Next to it are the model's files in the
folder `model`, and `model.json`, which describes them: the input format, the settings of the
searches, and the size and digest of each file. All addresses are relative.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

from captioner.checkpoint import CONFIG, TOKENIZER, WEIGHTS, resolve_own_checkpoint
from captioner.checkpoint.graph_files import (
    ANSWER,
    ATTENTION,
    CAPTION,
    CROSS,
    IMAGE,
    MEMORY,
    QUESTION,
    graph_path,
    has_graphs,
    weights_digest,
)
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import Config, DecodingConfig, load_config, to_dict
from captioner.errors import CaptionerError, CheckpointError
from captioner.files import MANIFEST, file_digest, replace_folder
from captioner.tokenizer import Tokenizer

BUILT = Path("web", "dist")
"""The built page of a checkout."""
MODEL_JSON, TOKENIZER_JSON = "model.json", "tokenizer.json"
FORMAT = 1
"""The version of `model.json`; the page rejects others."""
NUM_ANSWERS = 3
"""Answers that the page shows; the search has at least so many beams."""
_SEARCH = ("method", "beam_size", "max_length", "length_penalty", "length_form")
"""Settings of `DecodingConfig` that the page supports, besides those of sampling."""


def write_site(
    folder: Path, checkpoint: str | Path = "bundled", page: Path | None = None
) -> list[str]:
    """Write the page with a checkpoint to a folder, atomically.

    Args:
        folder: The folder to write. An existing one is replaced if it is a site or empty.
        checkpoint: A checkpoint folder with graphs, or `bundled`.
        page: The built page; by default, that of the checkout around the working directory.

    Returns:
        The settings of the checkpoint that the page ignores, such as `decoding.min_length=5`.

    Raises:
        CheckpointError: The checkpoint has no graphs, or its question encoder is from Hugging
            Face; or the folder cannot be written.
        CaptionerError: The page is not built, or the folder holds something else.
    """
    page = page or find_built_page()
    source = resolve_own_checkpoint(checkpoint, "captioner web")
    config = load_config(source / CONFIG)
    graphs = list_graphs(source, config)
    if not (page / "index.html").is_file():
        raise CaptionerError(
            f"{page}: no built page there; build it with `cd web && npm ci && npm run build`, or"
            " name the folder with --site"
        )
    folder, page = folder.resolve(), page.resolve()
    if folder.is_relative_to(page) or page.is_relative_to(folder):
        raise CaptionerError(f"{folder}: the built page is in {page}; name a folder apart from it")
    if folder.exists() and not _is_site(folder):
        raise CaptionerError(
            f"{folder}: is no site that `captioner web` has written, or has other files, too; name"
            " another folder"
        )
    files = [*graphs, source / WEIGHTS, *(path for path in page.rglob("*") if path.is_file())]
    with replace_folder(folder, sum(path.stat().st_size for path in files)) as partial:
        shutil.copytree(page, partial, dirs_exist_ok=True)
        digests = describe_files(partial)
        model = partial / "model"
        model.mkdir()
        for path in (source / WEIGHTS, *graphs):
            shutil.copyfile(path, model / path.name)
        _write_json(model / TOKENIZER_JSON, export_tokenizer(source, config))
        description = describe_model(config) | {"model": describe_files(model), "page": digests}
        version = hashlib.sha256(json.dumps(description).encode()).hexdigest()
        _write_json(partial / MODEL_JSON, {"format": FORMAT, "version": version} | description)
    return ignored_settings(config.decoding)


def find_built_page() -> Path:
    """Return the folder of the built page: that of the checkout in or below which a user is."""
    for parent in (Path.cwd(), *Path.cwd().parents):
        if (parent / BUILT).is_dir():
            return parent / BUILT
    return Path(__file__).resolve().parents[2] / BUILT


def list_graphs(folder: Path, config: Config) -> list[Path]:
    """Return the graphs that the page needs; raise CheckpointError if one cannot be used."""
    question = config.model.question
    if config.model.audio:
        raise CheckpointError(f"{folder}: takes recordings; the page is for models of images")
    if question is not None and question.is_pretrained:
        raise CheckpointError(
            f"{folder}: its question encoder is {question.encoder}, whose tokenizer the page does"
            " not have; expected a model with model.question.encoder=shared, lstm or gru"
        )
    if config.model.decoder != "transformer":
        raise CheckpointError(
            f"{folder}: its decoder is {config.model.decoder}, which the page does not run;"
            " expected a model with model.decoder=transformer"
        )
    if question is not None and question.classes:
        raise CheckpointError(
            f"{folder}: classifies questions, which the page cannot; expected a model with"
            " model.question.classes=0"
        )
    if not has_graphs(folder):
        raise CheckpointError(f"{folder}: no ONNX graphs; write them with `captioner export`")
    names = [IMAGE, MEMORY, CAPTION, f"{CAPTION}_{CROSS}", f"{CAPTION}_{ATTENTION}"]
    if question is not None:
        names += [QUESTION, *([ANSWER, f"{ANSWER}_{CROSS}"] if question.decoder_layers else [])]
    paths = [graph_path(folder, name) for name in names]
    digest = weights_digest(folder).encode()
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{path}: missing; write the graphs with `captioner export`")
        if digest not in path.read_bytes():  # the digest of its weights is in its metadata
            raise CheckpointError(
                f"{path}: belongs to other weights than {WEIGHTS} beside it; write the graphs"
                " again with `captioner export`"
            )
    return paths


def describe_model(config: Config) -> dict[str, Any]:
    """Return what the page needs to know of a configuration."""
    spec, search, answers = pixel_spec(config), config.decoding, config.answers
    question, longest = config.model.question, config.model.max_length
    (height, width), form = spec.size, {"mean": spec.mean, "std": spec.std, "resize": spec.resize}
    return {
        "pixels": {"height": height, "width": width} | form,
        "lowercase": config.data.lowercase,
        "kinds": config.model.kinds,
        "captions": {
            "beams": search.beam_size,
            "max_length": min(search.max_length, longest),
            "length_penalty": search.length_penalty,
            "length_form": search.length_form,
            "confidence": to_dict(config.confidence.captions),
        },
        "answers": question
        and {
            "beams": max(answers.beam_size, NUM_ANSWERS),
            "max_length": min(answers.max_length, longest),
            "temperature": answers.temperature,
            "max_question": question.max_length,
            "confidence": to_dict(config.confidence.answers),
            "decoder": ANSWER if question.decoder_layers else CAPTION,
        },
    }


def export_tokenizer(folder: Path, config: Config) -> dict[str, Any]:
    """Return the pieces of a checkpoint's tokenizer; raise CheckpointError if it is unreadable."""
    pieces = Tokenizer.load(folder / TOKENIZER).export_pieces()
    return {"kind": config.tokenizer.kind} | pieces


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the size and digest of each file of a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ignored_settings(decoding: DecodingConfig) -> list[str]:
    """Return the settings of a search that the page ignores, as `decoding.name=value`."""
    default = DecodingConfig()
    values = {f.name: getattr(decoding, f.name) for f in fields(decoding) if f.name not in _SEARCH}
    changed = {k: v for k, v in values.items() if v != getattr(default, k)}
    if decoding.method != default.method:
        changed = {"method": decoding.method} | changed
    return [f"decoding.{name}={value}" for name, value in changed.items()]


def _is_site(folder: Path) -> bool:
    """Return whether a folder is empty or holds nothing but what `write_site` wrote."""
    if not folder.is_dir():
        return False
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if not any(folder.iterdir()):
        return True
    try:
        description = json.loads((folder / MODEL_JSON).read_text(encoding="utf-8"))
        written = {MODEL_JSON, *description["page"]}
        written |= {f"model/{name}" for name in description["model"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return present - {MANIFEST} <= written


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
