"""Load the parts of a transformers folder: model, image processor and tokenizer.

Nothing is downloaded, and no code of the folder is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from logging import CRITICAL
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import nn

from captioner.errors import CheckpointError
from captioner.text import one_line

Part = TypeVar("Part")
LOCAL = {"local_files_only": True, "trust_remote_code": False}


def read_config(folder: str) -> dict[str, Any]:
    """Return the content of `config.json`; raise CheckpointError."""
    return read_settings(Path(folder) / "config.json")


def read_settings(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object; raise CheckpointError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {one_line(error)}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return config


def load_model(
    folder: str, name: str, dtype: torch.dtype | str, *, unused: str | None = None
) -> Any:
    """Return a model of the class `name` of transformers, for inference; raise CheckpointError.

    Weights whose names begin with `unused` may be missing, because they have no effect.
    """

    def load() -> nn.Module:
        kind: Any = getattr(transformers, name)
        model, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are an error below, without a report
            **LOCAL,
        )
        for what in ("missing_keys", "mismatched_keys"):
            keys = (x if isinstance(x, str) else x[0] for x in report[what])
            names = sorted(x for x in keys if not (unused and x.startswith(unused)))
            if names:
                problem = "are missing" if what == "missing_keys" else "have another shape"
                raise CheckpointError(f"{len(names)} weights {problem} (first: {names[0]})")
        model.eval().requires_grad_(False)
        return model

    return _load(folder, f"a {name}", load)


def load_processor(folder: str) -> Any:
    """Return the image processor; raise CheckpointError."""
    kind: Any = transformers.AutoImageProcessor
    return _load(folder, "an image processor", lambda: kind.from_pretrained(folder, **LOCAL))


def load_tokenizer(folder: str, part: str = "") -> Any:
    """Return the tokenizer, or that of a subfolder; raise CheckpointError."""
    kind: Any = transformers.AutoTokenizer
    place = str(Path(folder) / part)
    return _load(place, "a tokenizer", lambda: kind.from_pretrained(place, **LOCAL))


def _load(folder: str, what: str, load: Callable[[], Part]) -> Part:
    """Return the result of a loading function; raise CheckpointError for any failure."""
    logging = transformers.utils.logging
    show_progress, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(CRITICAL)  # the error below is the only message
    try:
        return load()
    except Exception as error:  # damaged files make the library raise errors of many types
        raise CheckpointError(f"{folder}: cannot be loaded as {what}: {one_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)
        if show_progress:
            logging.enable_progress_bar()
