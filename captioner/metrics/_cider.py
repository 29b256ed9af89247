"""CIDEr-D: tf-idf weighted n-gram similarity with the references.

Source: Vedantam, Zitnick, Parikh, "CIDEr: Consensus-based Image Description Evaluation" (CVPR
2015), section 7.2 (CIDEr-D): n = 1..4, clipped tf-idf, a Gaussian penalty with sigma = 6 on the
difference in length (counted in bigrams, as in the COCO evaluation code), times 10. Range: 0 to 10.
With document frequencies from the references, the values equal those of pycocoevalcap 1.2.

Shapes: I images, R maximum references per image, C candidates.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioner.errors import MetricError
from captioner.metrics._ngrams import Matches, ReferenceIndex
from captioner.metrics._pairs import References, tokenize_references

MAX_ORDER = 4
SIGMA = 6.0


@dataclass(frozen=True)
class DocumentFrequency:
    """Document frequencies of n-grams: the number of images whose references contain each."""

    images: int
    """Images of the corpus."""
    counts: Mapping[str, int]
    """Images by n-gram, whose words are joined by a space."""

    @classmethod
    def from_references(
        cls, references: References, *, tokenized: bool = False
    ) -> DocumentFrequency:
        """Count over a corpus, usually the training references; raise MetricError if empty."""
        tokens = tokenize_references(references, tokenized=tokenized)
        index = ReferenceIndex(tokens, max_order=MAX_ORDER)
        counts: dict[str, int] = {}
        for order in range(1, MAX_ORDER + 1):
            frequencies = index.document_frequencies(order).tolist()
            counts.update(zip(index.table.spellings(order), frequencies, strict=True))
        return cls(len(index.index), counts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, compressed if the name ends in .gz; equal objects give equal bytes."""
        content = {"images": self.images, "counts": dict(sorted(self.counts.items()))}
        data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        path = Path(path)
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DocumentFrequency:
        """Read a file that `save` wrote; raise MetricError for any other file."""
        expected = 'expected {"images": N, "counts": {"n-gram": images}} as `save` writes it'
        try:
            data = Path(path).read_bytes()
            content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
            frequency = cls(int(content["images"]), content["counts"])
            most = max(frequency.counts.values(), default=0)
            if frequency.images < 1 or most > frequency.images:
                raise ValueError(f"an n-gram in {most} of {frequency.images} images")
        except OSError as error:
            raise MetricError(f"{path}: cannot be read ({error}); {expected}") from error
        except (ValueError, TypeError, KeyError, AttributeError, EOFError, zlib.error) as error:
            raise MetricError(f"{path}: no document frequencies ({error!r}); {expected}") from error
        return frequency


class CiderD:
    """CIDEr-D against fixed references, whose tf-idf vectors are computed once.

    `score` looks up only the n-grams of the candidates, so that it is cheap enough for the reward
    of self-critical training.

    Args:
        references: The reference texts of each image, by image id.
        df: Document frequencies; by default they are counted over `references`, as in the tables
            of papers.
        tokenized: True if the texts are already tokens joined by spaces.
        sigma: Standard deviation of the length penalty, in bigrams.

    Raises:
        MetricError: There is no image, or an image has no references.
    """

    def __init__(
        self,
        references: References,
        *,
        df: DocumentFrequency | None = None,
        tokenized: bool = False,
        sigma: float = SIGMA,
    ) -> None:
        tokens = tokenize_references(references, tokenized=tokenized)
        extra = [gram.split() for gram in df.counts] if df else ()
        self._prepare(ReferenceIndex(tokens, max_order=MAX_ORDER, extra=extra), df, sigma)

    @classmethod
    def from_index(
        cls, index: ReferenceIndex, *, df: DocumentFrequency | None = None, sigma: float = SIGMA
    ) -> CiderD:
        """Return a scorer on an existing index, which must know the n-grams of `df`, if given."""
        self = cls.__new__(cls)
        self._prepare(index, df, sigma)
        return self

    def _prepare(self, index: ReferenceIndex, df: DocumentFrequency | None, sigma: float) -> None:
        self.index = index
        self._spread = 2 * sigma**2
        self._max_idf = math.log(df.images if df else len(index.index))
        # One array per order of n-grams.
        self._idf: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._norms: list[np.ndarray] = []  # (I, R)
        for order, entries in enumerate(index.entries, start=1):
            if df:
                images = np.array([df.counts.get(g, 0) for g in index.table.spellings(order)])
            else:
                images = index.document_frequencies(order)
            idf = self._max_idf - np.log(np.maximum(1.0, images))
            weights = entries.counts * idf[entries.gram]
            norms = np.zeros_like(index.lengths, dtype=np.float64)  # (I, R)
            squares = np.bincount(entries.sentence, weights**2, minlength=len(index.image))
            norms[index.image, index.slot] = np.sqrt(squares)
            self._idf.append(idf)
            self._weights.append(weights)
            self._norms.append(norms)

    def score(self, candidates: Sequence[Sequence[str]], images: Sequence[Hashable]) -> np.ndarray:
        """Score tokenized candidates (C), each against the references of one image id (C): (C,).

        Raises:
            MetricError: An id has no references, or the lists differ in length.
        """
        if len(candidates) != len(images):
            counts = f"{len(candidates)} candidates and {len(images)} image ids"
            raise MetricError(f"found {counts}, expected one id for each candidate")
        try:
            rows = np.array([self.index.index[image] for image in images], dtype=np.int64)
        except KeyError as error:
            problem = f"image {error.args[0]!r} has no references here"
            count = len(self.index.index)
            hint = f"expected one of the {count} ids that this CiderD was built with"
            raise MetricError(f"{problem}; {hint}") from None
        lengths = np.array([len(tokens) for tokens in candidates], dtype=np.int64)
        return self.score_matches(self.index.match(candidates, rows), rows, lengths)

    def score_matches(
        self, matches: Sequence[Matches], images: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Score candidates from their `matches` in the index, see `bleu_statistics`: (C,)."""
        bigrams = np.maximum(lengths - 1, 0)[:, None]  # (C, 1)
        reference_bigrams = np.maximum(self.index.lengths[images] - 1, 0)  # (C, R)
        penalty = np.exp(-((bigrams - reference_bigrams) ** 2) / self._spread)  # (C, R)
        total = np.zeros(len(lengths))
        for order, match in enumerate(matches):
            total += (self._similarity(order, match, images) * penalty).sum(axis=1)
        return 10.0 * total / len(matches) / self.index.per_image[images]

    def _similarity(self, order: int, match: Matches, images: np.ndarray) -> np.ndarray:
        """Return the clipped cosine similarity with each reference, (C, R)."""
        entries, slots = match.entries, self.index.slots
        idf = np.full(max(entries.gram.max(initial=0) + 1, len(self._idf[order])), self._max_idf)
        idf[: len(self._idf[order])] = self._idf[order]
        weights = entries.counts * idf[entries.gram]
        ours = weights[match.candidate_entry]
        theirs = self._weights[order][match.reference_entry]
        slot = self.index.slot[self.index.entries[order].sentence[match.reference_entry]]
        cell = entries.sentence[match.candidate_entry] * slots + slot
        shape = (len(images), slots)
        dot = np.bincount(cell, np.minimum(ours, theirs) * theirs, minlength=shape[0] * slots)
        norms = np.sqrt(np.bincount(entries.sentence, weights**2, minlength=shape[0]))[:, None]
        norms = norms * self._norms[order][images]  # (C, R)
        return np.divide(dot.reshape(shape), norms, out=np.zeros(shape), where=norms > 0)
