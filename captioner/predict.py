"""Images to captions with scores: the Python API behind the command line.

Shapes: B images.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.build import load_checkpoint, pixel_spec
from captioner.config import Config, DecodingConfig
from captioner.errors import CaptionerError, ImageError
from captioner.images import load_image
from captioner.infer import search
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.transforms import to_pixels

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Caption:
    """One candidate for an image."""

    text: str
    score: float
    """Log-probability over the number of tokens, EOS included: nearer to 0 is surer."""


@dataclass(frozen=True)
class Result:
    """What came of one image: its captions, best first, or the error that stands in their place."""

    captions: tuple[Caption, ...] = ()
    error: ImageError | None = None

    @property
    def text(self) -> str:
        """The best caption; raises the image's error where there is none."""
        return self.best.text

    @property
    def best(self) -> Caption:
        """The best caption with its score; raises the image's error where there is none."""
        if self.error is not None:
            raise self.error
        return self.captions[0]


def load(checkpoint: str | Path = "bundled", **kwargs: Any) -> Captioner:
    """A captioner from a checkpoint folder; see `Captioner` for the keyword arguments.

    Raises CheckpointError when the folder holds no checkpoint or one that does not fit.
    """
    return Captioner(*load_checkpoint(checkpoint), **kwargs)


class Captioner:
    """A model ready for use on one device.

    `dtype` is that of weights and arithmetic: float32 (default), bfloat16 or float16.
    """

    def __init__(
        self,
        model: Seq2Seq,
        tokenizer: Tokenizer,
        config: Config,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise CaptionerError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        try:
            self.device = torch.device(device)
            model = model.to(self.device, DTYPES[dtype], memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise CaptionerError(f"device {device!r} cannot be used: {reason}") from None
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config
        self.dtype, self.spec = DTYPES[dtype], pixel_spec(config)

    def caption(
        self,
        images: Sequence[Any] | Any,
        *,
        beam_size: int | None = None,
        num_captions: int = 1,
        batch_size: int = 16,
        max_length: int | None = None,
        length_penalty: float | None = None,
    ) -> list[Result]:
        """A result per image (path, bytes, PIL image or array), in their order.

        An image that cannot be read has its `ImageError` in the place of captions, and takes
        nothing from the others. Unset parameters are those of the checkpoint's configuration.
        """
        if _is_one_image(images):
            images = [images]
        options = {
            "beam_size": beam_size,
            "max_length": max_length,
            "length_penalty": length_penalty,
        }
        return list(
            self.caption_stream(images, num_captions=num_captions, batch_size=batch_size, **options)
        )

    def caption_stream(
        self,
        images: Iterable[Any],
        *,
        num_captions: int = 1,
        batch_size: int = 16,
        **options: int | float | None,
    ) -> Iterator[Result]:
        """As `caption`, from an iterable of any length: one batch is held in memory at a time."""
        decoding = self._decoding(num_captions, **options)
        if batch_size < 1:
            raise CaptionerError(f"batch_size={batch_size}: must be 1 or more")
        batch: list[Tensor | ImageError] = []
        for image in images:
            batch.append(self._pixels(image))
            if len(batch) == batch_size:
                yield from self._results(batch, decoding, num_captions)
                batch = []
        if batch:
            yield from self._results(batch, decoding, num_captions)

    def _decoding(self, num_captions: int, **options: int | float | None) -> DecodingConfig:
        """The checkpoint's decoding with what was asked for; raises CaptionerError."""
        given = {k: v for k, v in options.items() if v is not None}
        decoding = dataclasses.replace(self.config.decoding, **given)
        if decoding.beam_size < 1 or num_captions < 1:
            raise CaptionerError("beam_size and num_captions must be 1 or more")
        longest = self.config.model.max_length
        if not 1 <= decoding.max_length <= longest:
            raise CaptionerError(f"max_length must lie between 1 and this model's {longest}")
        if num_captions > decoding.beam_size:
            raise CaptionerError(
                f"num_captions={num_captions} is more than beam_size={decoding.beam_size};"
                " a search returns at most as many captions as it has beams"
            )
        return decoding

    def _pixels(self, image: Any) -> Tensor | ImageError:
        try:
            # A large photograph decodes several times as fast at a reduced scale; twice the
            # encoder's size still leaves the resizing filter its work.
            return to_pixels(load_image(image, min_size=2 * max(self.spec.size)), self.spec)
        except ImageError as error:
            return error

    def _results(
        self, batch: list[Tensor | ImageError], decoding: DecodingConfig, num_captions: int
    ) -> Iterator[Result]:
        pixels = [x for x in batch if not isinstance(x, ImageError)]
        found = iter(())
        if pixels:
            stacked = torch.stack(pixels).to(
                self.device, self.dtype, memory_format=torch.channels_last
            )
            found = iter(search(self.model, stacked, decoding))
        for item in batch:
            if isinstance(item, ImageError):
                yield Result(error=item)
                continue
            hypotheses = next(found)[:num_captions]
            yield Result(
                tuple(
                    Caption(self.tokenizer.decode(h.tokens), h.logprob / len(h.tokens))
                    for h in hypotheses
                )
            )


def _is_one_image(images: Any) -> bool:
    """Whether this is an image, where a collection of them might stand."""
    # Files and arrays can be iterated over, too, but by line and by row.
    is_file, is_array = hasattr(images, "read"), getattr(images, "ndim", None) in (2, 3)
    known = isinstance(images, (str, bytes, os.PathLike)) or is_file or is_array
    return known or not isinstance(images, Iterable)
