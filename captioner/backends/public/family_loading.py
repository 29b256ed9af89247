"""Load a transformers folder as a backend with its configuration."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from captioner.backends.public.families import load_family
from captioner.backends.public.family_settings import build_config
from captioner.backends.public.generation_settings import list_ignored
from captioner.backends.public.public_backend import PublicBackend
from captioner.config import Config
from captioner.errors import CaptionerError
from captioner.text import one_line

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_public(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    tta: int = 1,
    compile: bool = False,
) -> tuple[PublicBackend, Config]:
    """Return the backend of a transformers folder, and the settings of its searches.

    Args:
        folder: A folder with `config.json`, safetensors weights, tokenizer and image processor.
        device: Where the model runs.
        dtype: The type of weights and arithmetic, or `auto`, which is also the default: on a CPU
            float32, on other devices the type of the stored weights.
        tta: Only 1 is supported.
        compile: Only False is supported.

    Raises:
        CheckpointError: The folder cannot be loaded, or its model type is not supported.
        CaptionerError: An option cannot be used with these models.
    """
    place = _find_device(device)
    if tta != 1:
        raise CaptionerError(f"tta={tta}: test-time augmentation is for models of this package")
    if compile:
        raise CaptionerError("compile: only models of this package can be compiled")
    if dtype not in (None, "auto", *DTYPES):
        raise CaptionerError(
            f"dtype {dtype!r}: a model of transformers runs in one of {', '.join(DTYPES)}, auto"
        )
    family = load_family(str(folder), _choose_dtype(dtype, place))
    try:
        family.model.to(place)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA raises the second
        raise CaptionerError(f"device {str(place)!r} cannot be used: {error}") from None
    backend, config = PublicBackend(family), build_config(family)
    if ignored := list_ignored(family.generator):
        names = ", ".join(ignored)
        logger.warning(f"{folder}: settings of generation_config.json that are ignored: {names}")
    return backend, config


def _find_device(device: str | torch.device) -> torch.device:
    """Return a device that holds weights; raise CaptionerError."""
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise CaptionerError(f"device {str(device)!r}: {one_line(error)}") from None
    if place.type == "meta":
        raise CaptionerError("device 'meta' holds no weights; use cpu or cuda")
    return place


def _choose_dtype(dtype: str | None, device: torch.device) -> torch.dtype | str:
    """Return the type of the weights; `auto` is that of the stored ones."""
    if dtype in DTYPES:
        return DTYPES[dtype]
    return torch.float32 if device.type == "cpu" else "auto"
