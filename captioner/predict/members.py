"""From images to what the models of a captioner remember of them.

Shapes: B images, P memory positions, D width.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captioner.build import load_checkpoint, pixel_spec
from captioner.config import Config
from captioner.config.decoding_options import DTYPES, TTA_VIEWS
from captioner.errors import CaptionerError, CheckpointError, ImageError
from captioner.generation.captions import encode
from captioner.images import fit, is_blank, load_image
from captioner.images.transforms import normalize
from captioner.model.cpu.mobilenet import MobileNet
from captioner.model.cpu.packed import pack_linear_layers
from captioner.model.cpu.processor import can_pack, has_fast_bfloat16, int8_accumulator
from captioner.model.question import QuestionEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.model.tta import TestTimeAugmentation, view_sizes
from captioner.predict.results import Encoded
from captioner.text import one_line
from captioner.tokenizer import Tokenizer

READERS = min(8, max(1, (os.cpu_count() or 1) // 2))
"""Threads that read images while a model is at others."""


class Pixels(NamedTuple):
    """One image as each transform of the models makes it."""

    tensors: tuple[Tensor, ...]
    """(3, H, W) of each."""
    size: tuple[int, int]
    """Width and height of the image."""
    low_confidence: bool


class Members:
    """One model, or several that write each text together, on one device in one type.

    Raises CaptionerError for a device, a type or a number of views that cannot be used.
    """

    def __init__(
        self,
        models: Sequence[tuple[Seq2Seq, Config]],
        *,
        device: str | torch.device,
        dtype: str,
        compile: bool,
        tta: int = 1,
    ) -> None:
        if dtype not in DTYPES:
            raise CaptionerError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        if tta not in TTA_VIEWS:
            raise CaptionerError(f"tta={tta}: expected one of {', '.join(map(str, TTA_VIEWS))}")
        try:
            self.device = torch.device(device)
            dtype = _fastest(self.device, compile=compile) if dtype == "auto" else dtype
            self.dtype = _arithmetic(dtype)
            options = {"dtype": torch.float32 if dtype == "int8" else self.dtype}
            options |= {"memory_format": torch.channels_last}
            self.models = [model.to(self.device, **options).eval() for model, _ in models]
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise CaptionerError(f"device {device!r} cannot be used: {reason}") from None
        if dtype == "int8" and not can_pack(self.device):
            raise CaptionerError(f"dtype 'int8' is for a CPU, and not for device {str(device)!r}")
        if dtype == "int8" and int8_accumulator() is None:
            raise CaptionerError(
                "dtype 'int8': torch has no int8 kernel that computes correctly on this processor;"
                " use float32 or auto"
            )
        if dtype == "int8" and compile:
            raise CaptionerError("dtype 'int8' is of kernels that compile=True does without")
        packs = dtype != "float16" and not compile and can_pack(self.device, self.dtype)
        self.model_specs = [pixel_spec(config) for _, config in models]
        for model, spec in zip(self.models, self.model_specs, strict=True):
            model.backbone.to(self.dtype)
            if compile:
                # The backbone's time lies in convolutions, which are the libraries' own either way.
                for decoder in {model.decoder, model.decoder_for(answers=True)}:
                    decoder.step = torch.compile(decoder.step, dynamic=True)
            if packs:
                _pack(model, int8=dtype == "int8")
            _look(model, spec.size, tta=tta, pack=packs)
        self.specs = list(dict.fromkeys(self.model_specs))
        self._places = [self.specs.index(spec) for spec in self.model_specs]

    def pixels(self, image: Any) -> Pixels | ImageError:
        """An image as the models take it, or what is wrong with it."""
        try:
            # A large photograph decodes several times as fast at a reduced scale; twice the
            # encoder's size still leaves the resizing filter its work.
            size = 2 * max(max(spec.size) for spec in self.specs)
            loaded = load_image(image, min_size=size)
            fitted = [fit(loaded, s.size, crop=s.resize == "crop") for s in self.specs]
            tensors = tuple(map(normalize, fitted, self.specs))
            return Pixels(tensors, loaded.size, is_blank(loaded, fitted[0]))
        except ImageError as error:
            return error

    def read(self, images: Iterable[Any], *, ahead: int) -> Iterator[Pixels | ImageError]:
        """As `pixels`, in order; so many images are read by other threads before their turn."""
        with ThreadPoolExecutor(READERS) as pool:
            waiting = deque()
            try:
                for image in images:
                    waiting.append(pool.submit(self.pixels, image))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def stack(self, images: Sequence[Pixels]) -> list[Tensor]:
        """Each model's batch (B, 3, H, W)."""
        options = {"dtype": self.dtype, "memory_format": torch.channels_last}
        each = zip(*(image.tensors for image in images), strict=True)
        found = [torch.stack(x).to(self.device, **options) for x in each]
        return [found[place] for place in self._places]

    def encode(self, images: Sequence[Any]) -> list[Encoded | ImageError]:
        """Each image, or the error in its place, in one pass; what is encoded stays as it is."""
        pixels = [self.pixels(image) for image in images if not isinstance(image, Encoded)]
        good = [x for x in pixels if isinstance(x, Pixels)]
        each = [m.split(1) for m in encode(self.models, self.stack(good))] if good else []
        memories = zip(*each, strict=True)
        new = (
            Encoded(next(memories), self.models, x.size, x.low_confidence)
            if isinstance(x, Pixels)
            else x
            for x in pixels
        )
        return [i.of(self.models) if isinstance(i, Encoded) else next(new) for i in images]


def _fastest(device: torch.device, *, compile: bool) -> str:
    """Return the fastest type that costs the bundled model no score and computes correctly."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    int8 = can_pack(device) and not compile and int8_accumulator() is not None
    return "int8" if int8 else "float32"


def _arithmetic(dtype: str) -> torch.dtype:
    """Return the type of the backbone's arithmetic: with int8, the fastest that a CPU has."""
    if dtype == "int8":
        return torch.bfloat16 if has_fast_bfloat16() else torch.float32
    return getattr(torch, dtype)


def _pack(model: Seq2Seq, *, int8: bool) -> None:
    """Lay out the weights behind the backbone, but for those of a Hugging Face text encoder."""
    own = isinstance(model.question_encoder, QuestionEncoder)
    asking = [model.fusion, model.answerer, *[model.question_encoder] * own]
    for part in (model.memory_encoder, model.decoder, *asking):
        if part is not None:
            pack_linear_layers(part, int8=int8)


def _look(model: Seq2Seq, size: tuple[int, int], *, tta: int, pack: bool) -> None:
    """Have the backbone look so often; with `pack`, its convolutions are laid out for each size."""
    backbones = {size: model.backbone}
    for smaller in _smaller(model, size, tta):
        # Convolutions are laid out for one size.
        backbones[smaller] = copy.deepcopy(model.backbone) if pack else model.backbone
    if pack:
        for seen, backbone in backbones.items():
            for net in (n for n in backbone.models if isinstance(n, MobileNet)):
                net.pack_convolutions(seen)
    if tta > 1:
        model.backbone = TestTimeAugmentation(backbones)


@torch.inference_mode()
def _smaller(model: Seq2Seq, size: tuple[int, int], tta: int) -> list[tuple[int, int]]:
    """The sizes of all looks but those at `size`; CaptionerError where there can be none."""
    if tta == 1:
        return []
    weight = next(model.backbone.parameters())
    try:
        _, *sizes = view_sizes(size, len(model.memory_encoder.positions), tta)
        for smaller in sizes:
            model.backbone(weight.new_zeros(1, 3, *smaller))
    except (RuntimeError, AssertionError, ValueError) as error:  # timm asserts the input size
        raise CaptionerError(
            f"tta={tta}: not with this checkpoint's backbone: {one_line(error)}"
        ) from None
    return sizes


def load_members(
    checkpoints: Sequence[str],
) -> tuple[list[tuple[Seq2Seq, Config]], Tokenizer]:
    """The models of the checkpoints, and the tokenizer that they share; CheckpointError."""
    if not checkpoints:
        raise CheckpointError("no checkpoint; name at least one")
    found = [load_checkpoint(name) for name in checkpoints]
    _, tokenizer, config = found[0]
    for name, (_, other, theirs) in zip(checkpoints, found, strict=True):
        if other.model != tokenizer.model:
            raise CheckpointError(
                f"{name}: its tokenizer is not that of {checkpoints[0]}; models write a text"
                " together only in the same tokens, as runs have that start from one checkpoint"
            )
        encoders = [c.model.question and c.model.question.encoder for c in (config, theirs)]
        if encoders[0] != encoders[1]:
            raise CheckpointError(
                f"{name}: reads questions by {encoders[1]}, and {checkpoints[0]} by {encoders[0]}"
            )
    return [(model, config) for model, _, config in found], tokenizer
