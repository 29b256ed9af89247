"""Find images that are no photographs, and captions that do not describe their image, with a model.

Shapes: G images of a group, C captions of the group.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from captioner.data.example import Example
from captioner.errors import CaptionerError, InputError
from captioner.images.kinds import PHOTOGRAPH, describe_kind
from captioner.quality.findings import Finding
from captioner.quality.text_repair import repair

if TYPE_CHECKING:
    from captioner.predict import Captioner, Encoded

GROUP = 5
"""Images whose captions are scored with each other."""
MAX_GAIN = 0.1
"""Largest gain of a caption that does not match its image, in nats per token. On 800 captions of
the validation split of Flickr8k, with the bundled checkpoint, 0.3 % of the captions have at most
this gain, and 57 % of captions of a random other image."""


class _Caption(NamedTuple):
    """A caption of the data set."""

    image: str
    entry: int
    original: str
    text: str
    """The repaired caption, which is scored."""


def check_with_model(
    captioner: Captioner,
    examples: Sequence[Example],
    images: Sequence[str],
    *,
    progress: bool = False,
) -> list[Finding]:
    """Return the faults that a model finds, in the order of the examples.

    Args:
        captioner: The model. Without a classifier of kinds, no image is reported.
        examples: All examples of the data set.
        images: The images that can be decoded.
        progress: Show a progress bar on stderr.

    Raises:
        CaptionerError: The model cannot score captions.
    """
    from tqdm import tqdm

    captions = _list_captions(examples, set(images))
    first: dict[str, int] = {}
    for i, example in enumerate(examples):
        first.setdefault(example.image, i)
    # Neighbors in a file often show one scene.
    order = random.Random(0).sample(list(images), len(images))
    findings: list[Finding] = []
    for start in tqdm(range(0, len(order), GROUP), unit="group", disable=not progress):
        paths = order[start : start + GROUP]
        own = len(paths)
        paths += order[: GROUP - own] if start else []
        encoded = captioner.encode_batch(paths)
        pairs = zip(paths, encoded, strict=True)
        readable = {path: e for path, e in pairs if not isinstance(e, InputError)}
        for path in paths[:own]:
            if path in readable:
                findings += _check_kind(path, readable[path], examples, first[path])
        rows = [row for path in paths[:own] if path in readable for row in captions.get(path, ())]
        findings += _check_pairs(captioner, readable, rows, examples)
    return sorted(findings, key=lambda finding: (finding.entry or 0, finding.kind))


def _list_captions(examples: Sequence[Example], images: set[str]) -> dict[str, list[_Caption]]:
    captions: dict[str, list[_Caption]] = {}
    for i, example in enumerate(examples):
        if example.kind == "captions" and example.image in images:
            rows = captions.setdefault(example.image, [])
            for text in example.references:
                rows.append(_Caption(example.image, i, text, repair(text)))
    return captions


def _check_kind(
    path: str, encoded: Encoded, examples: Sequence[Example], entry: int
) -> Iterator[Finding]:
    if encoded.kind not in (None, PHOTOGRAPH):
        probability = encoded.kind_probability or 0.0
        reason = f"is {describe_kind(encoded.kind)} (probability {probability:.2f})"
        split = examples[entry].split
        yield Finding("not-photograph", reason, split, image=path, entry=entry)


def _check_pairs(
    captioner: Captioner,
    encoded: dict[str, Encoded],
    captions: Sequence[_Caption],
    examples: Sequence[Example],
) -> Iterator[Finding]:
    """Yield the captions of a group that fit their image no better than the other images."""
    if len(encoded) < 2 or not captions:
        return
    usable = _select_usable(captioner, next(iter(encoded.values())), captions)
    if not usable:
        return
    scores = score_group(captioner, list(encoded.values()), [row.text for row in usable])
    places = {path: number for number, path in enumerate(encoded)}
    gains = measure_gains(scores, [places[row.image] for row in usable])
    for row, gain in zip(usable, gains.tolist(), strict=True):
        if gain <= MAX_GAIN:
            yield Finding(
                "mismatched-pair",
                f"fits {len(encoded) - 1} other images as well (gain {gain:+.2f} nats per token)",
                examples[row.entry].split,
                image=row.image,
                text=row.original,
                entry=row.entry,
            )


def _select_usable(
    captioner: Captioner, image: Encoded, captions: Sequence[_Caption]
) -> list[_Caption]:
    """Return the captions that the model can score; it rejects empty ones, for example."""
    try:
        captioner.score(image, [row.text for row in captions])
    except CaptionerError:
        if len(captions) <= 1:
            return []
        half = len(captions) // 2
        parts = captions[:half], captions[half:]
        return [row for part in parts for row in _select_usable(captioner, image, part)]
    return list(captions)


def score_group(
    captioner: Captioner, images: Sequence[Encoded], texts: Sequence[str]
) -> np.ndarray:
    """Return the mean log-probability per token of each text for each image (G, C)."""
    return np.array([[s.score for s in captioner.score(image, texts)] for image in images])


def measure_gains(scores: np.ndarray, own: Sequence[int]) -> np.ndarray:
    """Return how much better each caption fits its own image than other images (C,).

    The mean over the other images estimates how likely the caption is without an image, so that
    the gain is a pointwise mutual information, in nats per token.

    Args:
        scores: (G, C) mean log-probabilities per token.
        own: Row of the image of each caption.
    """
    columns = np.arange(scores.shape[1])
    fit = scores[list(own), columns]
    others = (scores.sum(0) - fit) / (len(scores) - 1)
    gains: np.ndarray = fit - others
    return gains
