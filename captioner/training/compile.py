"""`torch.compile` in training: of the parts whose shapes allow it, and under gradients only.

The pixels of a backbone have one shape or a few. The layers of the memory encoder and the decoder
see packed tokens of texts of any number and length; each kind of layer is compiled once for all
sizes. The code between the layers depends on the lengths and is not compiled; neither are an LSTM
decoder and a question encoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from captioner.errors import ConfigError
from captioner.model.layers import Layer
from captioner.model.seq2seq import Seq2Seq
from captioner.text import one_line

METHODS = ("self_attention", "cross_attention", "feed_forward")
"""The methods of a layer that decoder and encoder call."""


def compile_parts(model: Seq2Seq) -> None:
    """Compile backbone, memory encoder and decoder when they are first used under gradients.

    Without gradients, as in validation and sampling, the plain code runs. Weights and their names
    do not change.

    Raises:
        ConfigError: torch.compile does not work, for example because there is no C++ compiler.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=model.memory_encoder.positions.device))
    except RuntimeError as error:
        raise ConfigError(
            f"train.compile=true: torch.compile does not work here ({one_line(error)[:200]});"
            " install what it needs, such as a C++ compiler, or set train.compile=false"
        ) from None
    _compile(model.backbone, "forward", dynamic=False)
    decoders = {model.decoder, model.decoder_for(answers=True)}
    for layer in (x for part in (model.memory_encoder, *decoders) for x in part.modules()):
        for name in METHODS if isinstance(layer, Layer) else ():
            if hasattr(layer, name):
                _compile(layer, name, dynamic=True)


def _compile(module: nn.Module, name: str, *, dynamic: bool) -> None:
    plain = getattr(module, name)
    fast = torch.compile(plain, dynamic=dynamic)

    def chosen(*args: Any) -> Any:
        return (fast if torch.is_grad_enabled() else plain)(*args)

    setattr(module, name, chosen)
