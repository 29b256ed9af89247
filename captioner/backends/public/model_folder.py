"""Load the parts of a transformers folder: model, image processor and tokenizer.

Nothing is downloaded, and no code of the folder is executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import nn

from captioner.checkpoint.folder_format import list_weights
from captioner.checkpoint.safetensors_header import read_header
from captioner.errors import CheckpointError
from captioner.text import one_line

Part = TypeVar("Part")
LARGEST_RATIO = 4
"""Of the weights of a model to those stored; tied weights are stored once."""
LONGEST_REASON = 240
"""Characters of an error of transformers that a message quotes."""
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


def check_generation_settings(settings: dict[str, Any]) -> None:
    """Raise CheckpointError, with the name of a setting, if transformers refuses the settings."""
    problem = _refusal(settings)
    if problem is None:
        return
    rest = ({k: v for k, v in settings.items() if k != name} for name in settings)
    pairs = zip(settings.items(), rest, strict=True)
    single = (f"{k}={v!r}: " for (k, v), others in pairs if _refusal(others) is None)
    raise CheckpointError(
        f"generation_config.json: {next(single, '')}{_explain(problem)}; correct or remove it"
    )


def _refusal(settings: dict[str, Any]) -> Exception | None:
    """Return the error of transformers for settings of `generate`; None if they are accepted."""
    try:
        with _quiet():
            transformers.GenerationConfig.from_dict(dict(settings))
    except Exception as error:  # damaged settings make the library raise errors of many types
        return error
    return None


def load_model(
    folder: str, name: str, dtype: torch.dtype | str, *, unused: str | None = None
) -> Any:
    """Return a model of the class `name` of transformers, for inference; raise CheckpointError.

    Weights whose names begin with `unused` may be missing, because they have no effect.
    """
    kind: Any = getattr(transformers, name)

    def load() -> nn.Module:
        _check_count(folder, kind)
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

    return _load(folder, f"a {name}", load, "config.json and the weights")


def _check_count(folder: str, kind: Any) -> None:
    """Raise CheckpointError if a model has far more weights than the folder.

    The `config.json` of another family leaves out settings, whose defaults may describe a model of
    billions of weights, for which no memory would be left.
    """
    config = kind.config_class.from_pretrained(folder, **LOCAL)
    if getattr(config, "quantization_config", None) is not None:
        return
    with torch.device("meta"):
        expected = sum(weights.numel() for weights in kind(config).parameters())
    headers = [read_header(path) for path in list_weights(Path(folder))]
    stored = sum(math.prod(x.shape) for header in headers for x in header.tensors.values())
    if expected > LARGEST_RATIO * stored:
        raise CheckpointError(f"config.json describes {expected:,} weights, of {stored:,} stored")


def load_processor(folder: str) -> Any:
    """Return the image processor; raise CheckpointError."""
    kind: Any = transformers.AutoImageProcessor
    files = "preprocessor_config.json"
    return _load(folder, "an image processor", lambda: kind.from_pretrained(folder, **LOCAL), files)


def load_tokenizer(folder: str, part: str = "") -> Any:
    """Return the tokenizer, or that of a subfolder; raise CheckpointError."""
    kind: Any = transformers.AutoTokenizer
    place = str(Path(folder) / part)
    files = "tokenizer.json and the other files of the tokenizer"
    return _load(place, "a tokenizer", lambda: kind.from_pretrained(place, **LOCAL), files)


def _load(folder: str, what: str, load: Callable[[], Part], files: str) -> Part:
    """Return the result of a loading function; raise CheckpointError for any failure.

    `files` are those that the part is read from.
    """
    try:
        with _quiet():  # the error below is the only message
            return load()
    except Exception as error:  # damaged files make the library raise errors of many types
        raise CheckpointError(
            f"{folder}: cannot be loaded as {what}: {_explain(error)}; check {files}, or copy the"
            " whole folder again"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers print nothing."""
    logging = transformers.utils.logging
    show_progress, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if show_progress:
            logging.enable_progress_bar()


def _explain(error: Exception) -> str:
    """Return the message of an error in one line, with its type if the message may be a name."""
    text = one_line(error).rstrip(" .")
    if len(text) > LONGEST_REASON:
        text = text[:LONGEST_REASON].rpartition(" ")[0] + " ..."
    is_plain = isinstance(error, (CheckpointError, OSError, ValueError))
    return text if text and is_plain else f"{type(error).__name__}: {text}"
