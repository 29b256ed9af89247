"""Load a captioner from checkpoints, and load it again when a copy or a pickle is made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint import (
    CONFIG,
    checkpoint_files,
    fingerprint,
    load_answers,
    pin_checkpoint,
    resolve_checkpoint,
)
from captioner.checkpoint.folder_format import checkpoint_format
from captioner.checkpoint.resolution import absolute_name
from captioner.config import Config, load_config
from captioner.errors import CaptionerError, CheckpointError
from captioner.extras import explain_missing
from captioner.predict.backend_choice import BackendName, choose_backend
from captioner.predict.captioner import Captioner
from captioner.predict.checks import check_keywords
from captioner.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from captioner.backends.base import Backend


@dataclass(frozen=True)
class Origin:
    """The checkpoints of a captioner and the options that it was loaded with."""

    names: tuple[str, ...]
    """Absolute paths, `bundled`, or repositories of the Hub with their commit."""
    options: Mapping[str, Any]
    """Keyword arguments of `load`."""
    stamps: tuple[tuple[int, int], ...]
    """Sizes and modification times of the files when they were read."""

    def fingerprint(self) -> str:
        """Return a digest of the checkpoint files.

        Raises:
            CaptionerError: The files have changed since the captioner was loaded.
        """
        if _stamps(self.names) != self.stamps:
            raise CaptionerError(
                f"{', '.join(self.names)}: the checkpoint has changed since it was loaded, so that"
                " the captioner cannot be copied from it; load it again"
            )
        return fingerprint(self.names)


@check_keywords({"looks": "tta"})
def load(
    checkpoint: str | Path | Sequence[str | Path] = "bundled",
    *,
    backend: BackendName = "auto",
    device: str | torch.device = "auto",
    dtype: str | None = None,
    tta: int = 1,
    compile: bool = False,
) -> Captioner:
    """Load a captioner from a checkpoint, or a model of transformers.

    Args:
        checkpoint: A folder, `bundled`, or `hf-hub:USER/NAME[@REVISION]`, a repository of the
            Hugging Face Hub, which is downloaded unless the cache has it (see `docs/hub.md`).
            Several are an ensemble, which averages the members' probabilities. They must share
            one tokenizer, as runs do that start from one checkpoint; the configuration is that of
            the first. Models of transformers must also have the same tasks and prompts (see
            `docs/public-models.md`).
        backend: The library that runs the model: `onnx` (ONNX Runtime, on a CPU, for checkpoints
            with graphs from `captioner export`) or `torch`; `auto` is ONNX Runtime where it can be
            used.
        device: Where the model runs, such as `cpu` or `cuda`; `auto` is an NVIDIA GPU if there is
            one and torch is installed, otherwise the CPU.
        dtype: The type of weights and arithmetic: `float32`; `bfloat16` or `float16` (torch only);
            `int8` (CPU only) for the linear layers after the backbone; `auto` for the fastest type
            on the device that does not lower the scores of the bundled checkpoint. By default,
            float32; for a model of transformers on a GPU, the type of its stored weights.
        tta: Test-time augmentation. 2 averages the features of the image and its mirror image, 4
            also those of a smaller copy of both; each view costs as much as the first.
        compile: Compile the decoder with `torch.compile` at its first use. On a CPU this takes a
            C++ compiler and is slower than the packed weights that are used without it.

    Raises:
        CheckpointError: A folder holds no checkpoint, or one that does not fit the others; or a
            repository cannot be downloaded.
        DependencyError: An optional library is needed and not installed.
        CaptionerError: The backend, device, type or number of views cannot be used.
    """
    options = {"backend": backend, "device": str(device), "dtype": dtype, "tta": tta}
    return _load(checkpoint, options | {"compile": compile})


def load_again(names: Sequence[str], options: Mapping[str, Any], expected: str) -> Captioner:
    """Load a copy of a pickled captioner; raise CheckpointError if its checkpoint differs."""
    if fingerprint(names) != expected:
        raise CheckpointError(
            f"{', '.join(names)}: not the checkpoint of the captioner that was pickled; load the"
            " captioner again and pickle that one"
        )
    return load(names, **options)


def load_worker(
    checkpoint: str | Path | Sequence[str | Path],
    *,
    workers: int,
    backend: str,
    device: str,
    dtype: str | None,
    tta: int = 1,
    compile: bool = False,
) -> Captioner:
    """Load a captioner in one of several worker processes that share the machine's threads."""
    options = {"backend": backend, "device": device, "dtype": dtype, "tta": tta, "compile": compile}
    return _load(checkpoint, options, workers=workers)


def _load(
    checkpoint: str | Path | Sequence[str | Path], options: Mapping[str, Any], *, workers: int = 1
) -> Captioner:
    """Load a captioner in one of `workers` processes; `options` are those of `load`."""
    several = [checkpoint] if isinstance(checkpoint, (str, os.PathLike)) else checkpoint
    names = [pin_checkpoint(name) for name in several]
    if not names:
        raise CheckpointError("no checkpoint; name at least one")
    paths = tuple(map(absolute_name, names))
    origin = Origin(paths, options, _stamps(paths))
    folders = [resolve_checkpoint(name) for name in names]
    named = {name: options[name] for name in ("backend", "device", "dtype", "compile")}
    choice = choose_backend(folders, **named)
    if choice.backend == "onnx":
        backend, config = _load_onnx(folders, names, options, workers=workers)
    else:
        options = {**options, "device": choice.device}
        user = "the torch backend"
        if options["backend"] == "auto":
            user = f"{choice.reason}; {user}"
        with explain_missing(user):
            if any(checkpoint_format(folder) == "transformers" for folder in folders):
                backend, config = _load_public(folders, names, options, workers=workers)
            else:
                backend, config = _load_torch(names, options, workers=workers)
    captioner = Captioner(backend, config)
    captioner._origin = origin
    return captioner


def _load_onnx(
    folders: Sequence[Path], names: Sequence[str], options: Mapping[str, Any], *, workers: int
) -> tuple[Backend, Config]:
    """Return the ONNX Runtime backend of checkpoints and the configuration of the first."""
    from captioner.backends.checkpoint_tokenizer import load_tokenizer
    from captioner.backends.onnx_members import build_onnx_backend

    configs = [load_config(folder / CONFIG) for folder in folders]
    tokenizers = [load_tokenizer(*pair) for pair in zip(folders, configs, strict=True)]
    tokenizer = _shared_tokenizer(names, tokenizers, configs)
    _check_answers(names, configs, tokenizer)
    dtype = options["dtype"] or "float32"
    backend = build_onnx_backend(
        folders, configs, tokenizer, dtype=dtype, tta=options["tta"], workers=workers
    )
    return backend, configs[0]


def _load_torch(
    names: Sequence[str], options: Mapping[str, Any], *, workers: int
) -> tuple[Backend, Config]:
    """Return the torch backend of checkpoints and the configuration of the first."""
    from captioner.backends.torch_members import build_backend, share_threads
    from captioner.build import load_checkpoint

    if workers > 1:
        share_threads(workers)
    loaded = [load_checkpoint(name) for name in names]
    configs = [config for *_, config in loaded]
    tokenizer = _shared_tokenizer(names, [tokenizer for _, tokenizer, _ in loaded], configs)
    _check_answers(names, configs, tokenizer)
    members = [(model, config) for model, _, config in loaded]
    rest = {name: options[name] for name in ("device", "tta", "compile")}
    dtype = options["dtype"] or "float32"
    return build_backend(members, tokenizer, dtype=dtype, **rest), configs[0]


def _load_public(
    folders: Sequence[Path], names: Sequence[str], options: Mapping[str, Any], *, workers: int
) -> tuple[Backend, Config]:
    """Return the backend of transformers models and the settings of the first one's searches."""
    formats = [checkpoint_format(folder) for folder in folders]
    if "captioner" in formats:
        public, own = (names[formats.index(x)] for x in ("transformers", "captioner"))
        raise CheckpointError(
            f"{public}: a transformers model, but {own} is a checkpoint of captioner; the members"
            " of an ensemble must be of one kind"
        )
    from captioner.backends.public.family_loading import load_public
    from captioner.backends.public.public_ensemble import build_ensemble
    from captioner.backends.torch_members import share_threads

    if workers > 1:
        share_threads(workers)
    rest = {name: options[name] for name in ("device", "dtype", "tta", "compile")}
    loaded = [load_public(folder, **rest) for folder in folders]
    return loaded[0] if len(loaded) == 1 else build_ensemble(names, [x for x, _ in loaded])


def _shared_tokenizer(
    names: Sequence[str], tokenizers: Sequence[Tokenizer], configs: Sequence[Config]
) -> Tokenizer:
    """Return the tokenizer of an ensemble; raise CheckpointError if the members' differ."""
    encoders = [config.model.question and config.model.question.encoder for config in configs]
    for name, tokenizer, encoder in zip(names, tokenizers, encoders, strict=True):
        if tokenizer.model != tokenizers[0].model:
            raise CheckpointError(
                f"{name}: its tokenizer differs from that of {names[0]}; the members of an"
                " ensemble must have the same tokens, as runs do that start from one checkpoint"
            )
        if encoder != encoders[0]:
            raise CheckpointError(
                f"{name}: its question encoder is {encoder}, that of {names[0]} is {encoders[0]};"
                " the members of an ensemble must read questions alike"
            )
    return tokenizers[0]


def _check_answers(names: Sequence[str], configs: Sequence[Config], tokenizer: Tokenizer) -> None:
    """Raise CheckpointError unless the members of an ensemble classify alike, or none does."""
    pairs = zip(names, configs, strict=True)
    first, *others = (load_answers(resolve_checkpoint(n), c, tokenizer) for n, c in pairs)
    for name, answers in zip(names[1:], others, strict=True):
        if answers != first:
            raise CheckpointError(
                f"{name}: its closed set of answers differs from that of {names[0]}; the members"
                " of an ensemble must have the same answers"
            )


def _stamps(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    stats = [path.stat() for name in names for path in checkpoint_files(name) if path.exists()]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
