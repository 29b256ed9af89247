"""Optional dependencies: the extra of each, and the error where one is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from captioner.errors import DependencyError

EXTRAS = {
    "train": ("accelerate", "datasets", "evaluate", "filelock", "fsspec", "onnx", "onnxscript",
              "psutil", "pyarrow", "safetensors", "tensorboard", "timm", "torch", "torchvision",
              "transformers"),
    "serve": ("fastapi", "fastapi_offline", "gradio", "httpcore", "prometheus_client", "pydantic",
              "starlette", "uvicorn"),
    "hub": ("huggingface_hub",),
    "lora": ("peft",),
    "heif": ("pillow_heif",),
    "audio": ("soundfile",),
    "scale": ("ray",),
    "check": ("ftfy", "imagehash", "py3langid"),
    "raw": ("rawpy",),
    "deepspeed": ("deepspeed",),
}  # fmt: skip
"""The modules that each extra of the package installs; pyproject.toml declares the versions."""


@contextmanager
def explain_missing(user: str) -> Iterator[None]:
    """Within it, importing an optional dependency that is not installed raises DependencyError.

    The message begins with `user`, the part of the package that needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        extra = next((extra for extra, names in EXTRAS.items() if name in names), None)
        if extra is None:
            raise
        command = install_command(extra)
        raise DependencyError(f"{user} needs {name}, which is not installed; {command}") from None


def is_installed(module: str) -> bool:
    """Return whether an optional dependency can be imported; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # blocked, or without a specification
        return False


def install_command(extra: str) -> str:
    """Return the end of a message: the command that installs an extra."""
    return f'run: pip install "captioner[{extra}]"'
