"""The two formats of a checkpoint folder, recognized by their files, and checks of both.

A folder of captioner has `config.yaml` and `model.safetensors`. A folder of transformers has
`config.json` with a `model_type`, the weights in `model.safetensors` or in several files that
`model.safetensors.index.json` lists, and files of a tokenizer and of a preprocessor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from captioner.checkpoint.safetensors_header import read_header
from captioner.errors import CheckpointError
from captioner.text import one_line

CheckpointFormat = Literal["captioner", "transformers"]

CONFIG, WEIGHTS, TOKENIZER = "config.yaml", "model.safetensors", "tokenizer.model"
RUN_CONFIG = "run.yaml"
"""The settings of the run that trained a transformers model."""
PUBLIC_CONFIG = "config.json"
"""The configuration of a transformers model."""
INDEX = "model.safetensors.index.json"
"""The weights of a transformers model in several files: file by name of the tensor."""
OWN_TYPE = "captioner"
"""The `model_type` in the `config.json` of a checkpoint of captioner."""
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
    "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""A transformers tokenizer has at least one of them."""
PREPROCESSOR_FILES = (
    "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
)  # fmt: skip
"""A transformers preprocessor has at least one of them."""
QFORMER_TOKENIZER, CHAT_TEMPLATES = "qformer_tokenizer", "additional_chat_templates"
SUBFOLDERS = (QFORMER_TOKENIZER, CHAT_TEMPLATES)
"""Subfolders of a transformers folder: the second tokenizer of InstructBLIP, more templates."""
HOW_TO_CONVERT = (
    "pickles can run code when they are loaded, so they are never read; get safetensors from the"
    " authors, or load the model with transformers on an isolated machine and write it with"
    " save_pretrained(FOLDER), which writes model.safetensors"
)


def checkpoint_format(folder: str | Path) -> CheckpointFormat:
    """Return the format of a checkpoint folder; weights are not read.

    Raises:
        CheckpointError: The folder does not exist, or has files of neither format.
    """
    path = Path(folder)
    if path.is_file():
        raise CheckpointError(f"{path}: is a file; expected the folder of a checkpoint")
    has_weights, public = (path / WEIGHTS).is_file(), path / PUBLIC_CONFIG
    if public.is_file() and config_format(public) == "transformers":
        if not has_weights and not (path / INDEX).is_file():
            _report_missing(path)
        return "transformers"
    if not has_weights:
        _report_missing(path)
    return "captioner"


def config_format(config: Path) -> CheckpointFormat:
    """Return the format that a `config.json` belongs to.

    A checkpoint of captioner has this file only on the Hub, which counts its downloads.

    Raises:
        CheckpointError: It cannot be read.
    """
    is_own = read_object(config).get("model_type") == OWN_TYPE
    return "captioner" if is_own else "transformers"


def check_public_folder(folder: Path) -> None:
    """Raise CheckpointError unless a transformers folder is complete and its weights are whole.

    Only the headers of the weights are read.
    """
    config = read_object(folder / PUBLIC_CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            f"{folder / PUBLIC_CONFIG}: has no model_type; expected the configuration of a"
            " transformers model"
        )
    for path in list_weights(folder):
        read_header(path)
    names = {path.name for path in folder.iterdir()}
    for part, files in (("tokenizer", TOKENIZER_FILES), ("preprocessor", PREPROCESSOR_FILES)):
        if names.isdisjoint(files):
            raise CheckpointError(
                f"{folder}: has no {part}; expected {files[0]} or a similar file beside the"
                " weights, which the save_pretrained of a transformers processor writes"
            )


def list_weights(folder: Path) -> list[Path]:
    """Return the files of a checkpoint's weights, in order.

    Raises:
        CheckpointError: A file that the index lists is missing, or the index cannot be read.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    names = list_shards(folder / INDEX)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} of the {len(names)} files of the weights that {INDEX} lists"
            f" are missing (first: {missing[0]}); copy or download them"
        )
    return [folder / name for name in names]


def list_shards(index: Path) -> list[str]:
    """Return the names of the files that an index of weights lists; raise CheckpointError."""
    shards = read_object(index).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    # A name with a folder could point anywhere.
    if not names or not all(isinstance(n, str) and _is_shard(n) for n in names):
        raise CheckpointError(
            f"{index}: is no index of weights; expected weight_map, with the .safetensors file of"
            " each tensor"
        )
    return sorted(set(names))


def first_pickle(names: Iterable[str]) -> str | None:
    """Return the first of the file names, in order, that is a pickle; None if none is."""
    return min((name for name in names if name.endswith(PICKLE_SUFFIXES)), default=None)


def _is_shard(name: str) -> bool:
    return re.fullmatch(r"[^./\\][^/\\]*\.safetensors", name) is not None


def _report_missing(folder: Path) -> None:
    """Raise CheckpointError for a folder without weights in a format that is read."""
    pickle = first_pickle(p.name for p in folder.iterdir()) if folder.is_dir() else None
    if pickle:
        raise CheckpointError(f"{folder}: has only pickles ({pickle}); {HOW_TO_CONVERT}")
    raise CheckpointError(
        f"{folder}: no {WEIGHTS} there; expected a checkpoint folder, such as the best/ of a"
        " training run, hf-hub:USER/NAME, or the word bundled"
    )


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object; raise CheckpointError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a JSON object is expected, not {type(content).__name__}")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {one_line(error)}") from None
    return content
