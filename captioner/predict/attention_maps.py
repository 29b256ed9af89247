"""Where the models of a captioner looked in an image, word by word.

The cross-attention of the decoder to the image's positions, as in Xu et al. 2015 (Show, Attend and
Tell), here the mean over layers and heads. It says what was read from where, and not why: the
encoder's own layers have mixed the positions before.

Shapes: T tokens, P memory positions, R rows and C columns of a grid of places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captioner.errors import CaptionerError
from captioner.generation.captions import attention
from captioner.images.transforms import visible_box
from captioner.predict.members import Members
from captioner.predict.results import Attention, Box, Encoded
from captioner.tokenizer import Tokenizer


def look(
    members: Members,
    image: Encoded,
    tokens: Sequence[int],
    memories: Sequence[Tensor],
    *,
    masks: Sequence[Tensor | None] | None,
    tokenizer: Tokenizer,
) -> list[Attention]:
    """The attention of each word of a text, which ends in EOS.

    With `masks`, memories are those of a question: what went to its words is left out of the
    weights. Raises CaptionerError where nothing would be left, or positions are not in a grid.
    """
    if masks is not None and not all(model.fusion.keeps_positions for model in members.models):
        raise CaptionerError(
            "attention: this model's fusion gives the decoder no places of the image to look at;"
            " ask for a caption's, or use a model with concat, add or multiply"
        )
    texts = torch.tensor([[list(tokens)]], device=members.device)
    found = attention(members.models, memories, texts, masks=masks)
    maps, boxes = [], []
    for model, spec, weights in zip(members.models, members.model_specs, found, strict=True):
        positions = len(model.memory_encoder.positions)
        own = weights[0, 0, :-1, :positions].double().cpu().numpy()  # (T, P), without EOS
        own /= own.sum(-1, keepdims=True)
        maps.append(own.reshape(-1, *grid(positions, spec.size)))
        boxes.append(visible_box(image.size, spec))
    each, box = join(maps, boxes)  # (T, R, C)
    numbers = word_numbers(tokens, tokenizer)[:-1]
    words = tokenizer.decode(tokens).split()
    return [Attention(word, each[numbers == i].mean(0), box) for i, word in enumerate(words)]


def grid(positions: int, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of positions that cover this height and width evenly; CaptionerError."""
    height, width = size
    rows = round(math.sqrt(positions * height / width))
    columns = round(math.sqrt(positions * width / height))
    if rows * columns != positions:
        raise CaptionerError(
            f"attention: {positions} positions are no grid over {height} x {width} pixels; use a"
            " model whose backbone gives one position for each place"
        )
    return rows, columns


def join(maps: Sequence[np.ndarray], boxes: Sequence[Box]) -> tuple[np.ndarray, Box]:
    """The mean of maps (T, R, C) over boxes of one picture, and the box around these.

    The grid is the finest; what a place of another has is shared out by area.
    """
    rows, columns = (max(sizes) for sizes in zip(*(m.shape[1:] for m in maps), strict=True))
    box = (*np.min(boxes, 0)[:2].tolist(), *np.max(boxes, 0)[2:].tolist())
    each = [
        _shares(rows, box[1::2], m.shape[1], own[1::2])
        @ m
        @ _shares(columns, box[::2], m.shape[2], own[::2]).T
        for m, own in zip(maps, boxes, strict=True)
    ]
    return np.mean(each, 0), box


def _shares(cells: int, span: Sequence[float], others: int, span_of_others: Sequence[float]):
    """The share (cells, others) of each other cell, along one side, that lies in each cell."""
    to, of = np.linspace(*span, cells + 1), np.linspace(*span_of_others, others + 1)
    common = np.minimum(to[1:, None], of[1:]) - np.maximum(to[:-1, None], of[:-1])
    return common.clip(0) / np.diff(of)


def word_numbers(tokens: Sequence[int], tokenizer: Tokenizer) -> np.ndarray:
    """Which word of the text each token belongs to, counted from 0."""
    # A letter more begins a word where the token was its space.
    texts = (tokenizer.decode(tokens[: i + 1]) + "x" for i in range(len(tokens)))
    return np.array([len(text.split()) - 1 for text in texts])
