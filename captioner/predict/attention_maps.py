"""Cross-attention to the image for each word of a text.

Maps are means over the decoder's layers and heads, as in Xu et al. 2015 (Show, Attend and Tell).
They do not explain the prediction: the encoder's layers have already mixed the positions.

Shapes: T tokens, P memory positions, R rows and C columns of the grid of positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from captioner.backends.base import Backend, Memory
from captioner.backends.vocabulary import TextTokenizer
from captioner.errors import CaptionerError
from captioner.images.transforms import PixelSpec, visible_box
from captioner.predict.results import Attention, Box


def check_attends(backend: Backend) -> None:
    """Raise CaptionerError if a model has no attention maps."""
    if not backend.attends:
        raise CaptionerError(
            "attention: this model has no cross-attention to images of one size; use a model with a"
            " cross-attention decoder, such as BLIP or VisionEncoderDecoder"
        )


def map_attention(
    backend: Backend, memory: Memory, tokens: Sequence[int], *, size: tuple[int, int]
) -> list[Attention]:
    """Return the attention of each word of a text to an image; an ensemble's maps are averaged.

    For a model of recordings, the rows are frequencies, low ones first, and the columns time.

    Args:
        backend: The model.
        memory: The memory of an image or a question. Weights of the question's words are left
            out, and the others sum to 1.
        tokens: The text; EOS at its end is left out.
        size: Width and height of the image.

    Raises:
        CaptionerError: The memory has no image positions, or they are not in a grid.
    """
    maps, boxes = [], []
    count = len(tokens) - (tokens[-1] in backend.tokenizer.ends)
    members = backend.attention([memory], np.array([[tokens]]))
    for spec, weights in zip(backend.specs, members, strict=True):
        own = weights[0, 0, :count].astype(np.float64)  # (T, P), without EOS
        own /= own.sum(-1, keepdims=True)
        maps.append(own.reshape(-1, *grid_shape(own.shape[1], spec.shape[1:])))
        whole = 0.0, 0.0, 1.0, 1.0
        boxes.append(visible_box(size, spec) if isinstance(spec, PixelSpec) else whole)
    mean, box = average_maps(maps, boxes)  # (T, R, C)
    numbers = word_numbers(tokens[:count], backend.tokenizer)
    words = backend.tokenizer.decode(tokens).split()
    rows = [_rows_of(i, numbers) for i in range(len(words))]
    return [Attention(word, mean[own].mean(0), box) for word, own in zip(words, rows, strict=True)]


def _rows_of(word: int, numbers: np.ndarray) -> np.ndarray:
    """Return the tokens of a word; if one token spells several words, they share it."""
    rows = np.flatnonzero(numbers == word)
    return rows if len(rows) else np.flatnonzero(numbers > word)[:1]


def grid_shape(positions: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of positions over this height and width.

    Raises:
        CaptionerError: The positions are not in a regular grid.
    """
    height, width = size
    rows = round(math.sqrt(positions * height / width))
    columns = round(math.sqrt(positions * width / height))
    if rows * columns != positions:
        raise CaptionerError(
            f"attention: {positions} positions are no grid over {height} x {width} pixels; use a"
            " model whose backbone has one position for each cell of a grid"
        )
    return rows, columns


def average_maps(maps: Sequence[np.ndarray], boxes: Sequence[Box]) -> tuple[np.ndarray, Box]:
    """Return the mean of maps (T, R, C) over boxes of one image, and the box around these.

    The result has the finest grid; the weights of a coarser one are divided by area.
    """
    rows, columns = (max(sizes) for sizes in zip(*(m.shape[1:] for m in maps), strict=True))
    left, top = np.min(boxes, 0)[:2].tolist()
    right, bottom = np.max(boxes, 0)[2:].tolist()
    resampled = [
        _overlaps(rows, (top, bottom), m.shape[1], box[1::2])
        @ m
        @ _overlaps(columns, (left, right), m.shape[2], box[::2]).T
        for m, box in zip(maps, boxes, strict=True)
    ]
    return np.mean(resampled, 0), (left, top, right, bottom)


def _overlaps(
    cells: int, span: tuple[float, float], others: int, other_span: tuple[float, float]
) -> np.ndarray:
    """Return the share (cells, others) of each other cell, along one side, within each cell."""
    to, of = np.linspace(*span, cells + 1), np.linspace(*other_span, others + 1)
    common = np.minimum(to[1:, None], of[1:]) - np.maximum(to[:-1, None], of[:-1])
    return common.clip(0) / np.diff(of)


def word_numbers(tokens: Sequence[int], tokenizer: TextTokenizer) -> np.ndarray:
    """Return the number of the word that each token belongs to, counted from 0."""
    # With a letter appended, a token that is only the space before a word counts as its beginning.
    texts = (tokenizer.decode(tokens[: i + 1]) + "x" for i in range(len(tokens)))
    return np.array([len(text.split()) - 1 for text in texts])
