"""Check candidates against references, and tokenize both; errors name the image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from captioner.errors import MetricError
from captioner.metrics.ptb_tokenizer import tokenize

_MAX_NAMED = 5

# Ids may have any hashable type; `Mapping` is invariant in the type of its keys.
Candidates = Mapping[Any, str]
References = Mapping[Any, Sequence[str]]


class Pairs(NamedTuple):
    """Tokenized candidates and references; the n-th candidate belongs to the n-th image."""

    candidates: list[list[str]]
    references: dict[Hashable, list[list[str]]]


def pair_texts(candidates: Candidates, references: References, *, tokenized: bool = False) -> Pairs:
    """Check that ids match and that every image has references, and tokenize all texts.

    With `tokenized`, the texts are tokens joined by spaces already.

    Raises:
        MetricError: An id has no candidate, no references, or a value of another type.
    """
    missing = [image for image in references if image not in candidates]
    extra = [image for image in candidates if image not in references]
    if missing or extra:
        raise MetricError(
            f"candidates and references have different ids: {_list_ids(missing, 'no candidate')}; "
            f"{_list_ids(extra, 'no references')}; give each image one candidate and its references"
        )
    tokens = tokenize_references(references, tokenized=tokenized)
    split = str.split if tokenized else tokenize
    texts = (_check_text(candidates[image], image, "candidate") for image in tokens)
    return Pairs([split(text) for text in texts], tokens)


def tokenize_references(
    references: References, *, tokenized: bool = False
) -> dict[Hashable, list[list[str]]]:
    """Tokenize the references of each image; raise MetricError for an image that has none."""
    if not references:
        raise MetricError("no image to score: found 0 ids, expected at least 1")
    split = str.split if tokenized else tokenize
    tokens: dict[Hashable, list[list[str]]] = {}
    for image, texts in references.items():
        name = f"references of image {image!r}"
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            kind = type(texts).__name__
            raise MetricError(f"{name}: found {kind}, expected a list of strings")
        if not texts:
            hint = "add a reference or leave the image out"
            raise MetricError(f"{name}: found none, expected at least 1; {hint}")
        tokens[image] = [split(_check_text(text, image, "reference")) for text in texts]
    return tokens


def _check_text(value: object, image: Hashable, role: str) -> str:
    if not isinstance(value, str):
        kind = type(value).__name__
        raise MetricError(f"{role} of image {image!r}: found {kind}, expected a string")
    return value


def _list_ids(images: Sequence[Hashable], problem: str) -> str:
    more = ", ..." if len(images) > _MAX_NAMED else ""
    names = f" ({', '.join(map(repr, images[:_MAX_NAMED]))}{more})" if images else ""
    return f"{len(images)} with {problem}{names}"
