"""Candidates and references brought together: checked and tokenised; errors name the image."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from captioner.errors import MetricError
from captioner.metrics.ptb_tokenizer import tokenize

_NAMED = 5

Candidates = Mapping[Hashable, str]
References = Mapping[Hashable, Sequence[str]]


class Pairs(NamedTuple):
    """Tokenised candidates and references; the n-th candidate belongs to the n-th image."""

    candidates: list[list[str]]
    references: dict[Hashable, list[list[str]]]


def pair(candidates: Candidates, references: References, *, tokenized: bool = False) -> Pairs:
    """Check that ids match, that every image has references, and tokenise.

    `tokenized` says that the texts are tokens joined by blanks already. Raises MetricError with
    the first ids that lack a partner or that have no references.
    """
    missing = [image for image in references if image not in candidates]
    extra = [image for image in candidates if image not in references]
    if missing or extra:
        raise MetricError(
            f"candidates and references have different ids: {_name(missing, 'no candidate')}; "
            f"{_name(extra, 'no references')}; give each image one candidate and its references"
        )
    tokens = tokenize_references(references, tokenized=tokenized)
    cut = str.split if tokenized else tokenize
    texts = (_text(candidates[image], image, "candidate") for image in tokens)
    return Pairs([cut(text) for text in texts], tokens)


def tokenize_references(
    references: References, *, tokenized: bool = False
) -> dict[Hashable, list[list[str]]]:
    """Tokenise the references of each image; MetricError names an image that has none."""
    if not references:
        raise MetricError("no image to score: found 0 ids, expected at least 1")
    cut = str.split if tokenized else tokenize
    tokens = {}
    for image, texts in references.items():
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise MetricError(
                f"references of image {image!r}: found {type(texts).__name__}, "
                "expected a list of strings"
            )
        if not texts:
            raise MetricError(
                f"references of image {image!r}: found none, expected at least 1; "
                "add a reference or leave the image out"
            )
        tokens[image] = [cut(_text(text, image, "reference")) for text in texts]
    return tokens


def _text(value: object, image: Hashable, role: str) -> str:
    if not isinstance(value, str):
        raise MetricError(
            f"{role} of image {image!r}: found {type(value).__name__}, expected a string"
        )
    return value


def _name(images: Sequence[Hashable], lack: str) -> str:
    shown: Iterable[str] = (repr(image) for image in images[:_NAMED])
    more = ", ..." if len(images) > _NAMED else ""
    which = f" ({', '.join(shown)}{more})" if images else ""
    return f"{len(images)} with {lack}{which}"
