"""Prepare torch models for use: device, data type, packed weights, test-time augmentation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from captioner.backends.base import NO_VIEWS
from captioner.config.decoding_options import DTYPES, check_views
from captioner.errors import CaptionerError
from captioner.images.transforms import PixelSpec
from captioner.model.cpu.mobilenet import MobileNet
from captioner.model.cpu.packed import pack_linear_layers
from captioner.model.cpu.processor import can_pack, has_fast_bfloat16, int8_accumulator
from captioner.model.question_encoder import QuestionEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.model.tta import TestTimeAugmentation, view_sizes
from captioner.text import one_line

if TYPE_CHECKING:
    from captioner.audio import AudioSpec


def prepare_models(
    models: Sequence[Seq2Seq],
    specs: Sequence[PixelSpec | AudioSpec],
    *,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    tta: int = 1,
    compile: bool = False,
) -> tuple[torch.device, torch.dtype]:
    """Move models to a device and a data type, in place, and pack their weights on a CPU.

    The models are the members of an ensemble, and `specs` their inputs. See `captioner.load` for
    the options.

    Returns:
        The device and the data type of the backbones.

    Raises:
        CaptionerError: The device, the type or the number of views cannot be used.
    """
    if dtype not in DTYPES:
        raise CaptionerError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    check_views(tta)
    try:
        place = torch.device(device)
        dtype = fastest_dtype(place, compile=compile) if dtype == "auto" else dtype
        arithmetic = _arithmetic(dtype)
        weights = torch.float32 if dtype == "int8" else arithmetic
        for model in models:
            model.to(device=place, dtype=weights).eval()
            model.to(memory_format=torch.channels_last)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CaptionerError(f"device {device!r} cannot be used: {reason}") from None
    if dtype == "int8":
        _check_int8(place, compile=compile)
    packs = dtype != "float16" and not compile and can_pack(place, arithmetic)
    for model, spec in zip(models, specs, strict=True):
        for backbone in model.backbones():
            backbone.to(arithmetic)
        if compile:
            # A backbone spends its time in convolutions, which compilation does not change.
            for decoder in {model.decoder, model.decoder_for(answers=True)}:
                vars(decoder)["step"] = torch.compile(decoder.step, dynamic=True)
        if packs:
            _pack_linear(model, int8=dtype == "int8")
        if isinstance(spec, PixelSpec):
            _prepare_backbone(model, spec.size, tta=tta, pack=packs)
        elif tta > 1:
            raise CaptionerError(f"tta={tta}: {NO_VIEWS}")
    return place, arithmetic


def fastest_dtype(device: torch.device, *, compile: bool) -> str:
    """Return the fastest correct type that does not lower the scores of the bundled model."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    int8 = can_pack(device) and not compile and int8_accumulator() is not None
    return "int8" if int8 else "float32"


def _arithmetic(dtype: str) -> torch.dtype:
    """Return the type of the backbone's arithmetic: with int8, the fastest on this CPU."""
    if dtype == "int8":
        return torch.bfloat16 if has_fast_bfloat16() else torch.float32
    return getattr(torch, dtype)


def _check_int8(device: torch.device, *, compile: bool) -> None:
    if not can_pack(device):
        raise CaptionerError(f"dtype 'int8' runs on a CPU only, not on device {str(device)!r}")
    if int8_accumulator() is None:
        raise CaptionerError(
            "dtype 'int8': torch has no int8 kernel that computes correctly on this processor;"
            " use float32 or auto"
        )
    if compile:
        raise CaptionerError("dtype 'int8' has its own kernels and excludes compile=True")


def _pack_linear(model: Seq2Seq, *, int8: bool) -> None:
    """Pack the linear layers after the backbone, except those of a Hugging Face text encoder."""
    parts = [model.memory_encoder, model.decoder, model.fusion, model.answerer]
    parts.append(model.audio and model.audio.memory_encoder)
    if isinstance(model.question_encoder, QuestionEncoder):
        parts.append(model.question_encoder)
    for part in parts:
        if part is not None:
            pack_linear_layers(part, int8=int8)


def _prepare_backbone(model: Seq2Seq, size: tuple[int, int], *, tta: int, pack: bool) -> None:
    """Wrap the backbone for `tta` views; pack its convolutions, a copy for each input size."""
    backbones = {size: model.backbone}
    for smaller in _smaller_sizes(model, size, tta) if tta > 1 else ():
        backbones[smaller] = copy.deepcopy(model.backbone) if pack else model.backbone
    if pack:
        for seen, backbone in backbones.items():
            for net in backbone.modules():
                if isinstance(net, MobileNet):
                    net.pack_convolutions(seen)
    if tta > 1:
        model.backbone = TestTimeAugmentation(backbones)


@torch.inference_mode()
def _smaller_sizes(model: Seq2Seq, size: tuple[int, int], tta: int) -> list[tuple[int, int]]:
    """Return the sizes of the views below full size; raise CaptionerError if there are none."""
    weight = next(model.backbone.parameters())
    try:
        _, *sizes = view_sizes(size, len(model.memory_encoder.positions), tta)
        for smaller in sizes:
            model.backbone(weight.new_zeros(1, 3, *smaller))
    except (RuntimeError, AssertionError, ValueError) as error:  # timm asserts the input size
        raise CaptionerError(
            f"tta={tta} cannot be used with this checkpoint's backbone: {one_line(error)}"
        ) from None
    return sizes
