"""Build the torch backend of one model, or of the members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from captioner.backends.precision import prepare_models
from captioner.backends.torch_backend import TorchBackend
from captioner.checkpoint.audio_format import input_specs
from captioner.config import Config
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer


def build_backend(
    members: Sequence[tuple[Seq2Seq, Config]],
    tokenizer: Tokenizer,
    *,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    tta: int = 1,
    compile: bool = False,
) -> TorchBackend:
    """Return a backend of models, which are changed in place.

    See `captioner.load` for the options. Raises CaptionerError if one cannot be used.
    """
    models = [model for model, _ in members]
    specs, audio_specs = input_specs([config for _, config in members])
    place, arithmetic = prepare_models(
        models, specs, device=device, dtype=dtype, tta=tta, compile=compile
    )
    return TorchBackend(
        models, tokenizer, specs=specs, audio_specs=audio_specs, device=place, dtype=arithmetic
    )


def has_cuda() -> bool:
    """Return whether this build of torch can use an NVIDIA GPU of the machine."""
    return torch.cuda.is_available()


def share_threads(processes: int) -> None:
    """Give this process its share of the threads that several processes run the model with."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
