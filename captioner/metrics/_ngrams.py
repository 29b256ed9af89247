"""N-grams of words as integers, counted and matched for a whole corpus at once.

BLEU and CIDEr-D need the same two things: the count of each n-gram in each sentence, and the
n-grams that a candidate shares with the references of its image. Both are computed here once, with
sorted integer arrays instead of dictionaries of tuples.

Shapes: I images, R maximum references per image, C candidates, E entries. An entry is one
distinct n-gram of one sentence.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

_WORD_BITS = 32


class Entries(NamedTuple):
    """The distinct n-grams of one order in some sentences, each array of shape (E,)."""

    sentence: np.ndarray
    gram: np.ndarray
    counts: np.ndarray


class Matches(NamedTuple):
    """Entries of the candidates, and the pairs of equal candidate and reference entries."""

    entries: Entries
    candidate_entry: np.ndarray
    reference_entry: np.ndarray


class NgramTable:
    """Ids of all n-grams of some sentences, for the orders 1 to `max_order`.

    The id of an n-gram is the rank of the pair (id of its first n-1 words, id of its last word), so
    that any vocabulary fits in 64 bits and no two n-grams share an id.
    """

    def __init__(self, sentences: Sequence[Sequence[str]], *, max_order: int) -> None:
        self.max_order = max_order
        self.words: dict[str, int] = {}
        self._keys: list[np.ndarray] = []
        words = self.words
        flat = [words.setdefault(word, len(words)) for word in chain.from_iterable(sentences)]
        self.grams = self._assign_ids(_as_ids(flat), _lengths(sentences), grow=True)

    def size(self, order: int) -> int:
        """Return the number of known n-grams of this order."""
        return len(self.words) if order == 1 else len(self._keys[order - 2])

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return, per order, (sentence, id) of each n-gram; ids from `size` upwards are unknown."""
        known = self.words
        unknown: dict[str, int] = {}
        size = len(known)
        flat = [
            known[word] if word in known else unknown.setdefault(word, size + len(unknown))
            for word in chain.from_iterable(sentences)
        ]
        return self._assign_ids(_as_ids(flat), _lengths(sentences), grow=False)

    def spellings(self, order: int) -> list[str]:
        """Return all n-grams of one order, sorted by id, their words joined by a space."""
        names = words = list(self.words)
        for keys in self._keys[: order - 1]:
            heads, tails = (keys >> _WORD_BITS).tolist(), (keys & ((1 << _WORD_BITS) - 1)).tolist()
            names = [f"{names[h]} {words[t]}" for h, t in zip(heads, tails, strict=True)]
        return names

    def _assign_ids(
        self, flat: np.ndarray, lengths: np.ndarray, *, grow: bool
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        end = np.repeat(np.cumsum(lengths), lengths)
        start, gram = np.arange(len(flat)), flat
        encoded = [(sentence, gram)]
        for order in range(2, self.max_order + 1):
            last = start + order - 1
            inside = last < end[start]
            start, last, gram = start[inside], last[inside], gram[inside]
            key = (gram << _WORD_BITS) | flat[last]
            if grow:
                keys, gram = np.unique(key, return_inverse=True)
                self._keys.append(keys)
            else:
                gram = _rank(self._keys[order - 2], key)
            encoded.append((sentence[start], gram))
        return encoded


class ReferenceIndex:
    """The n-gram counts of all references, sorted for lookups by image and n-gram.

    Args:
        references: The tokenized references of each image, by image id.
        max_order: The largest order of the n-grams.
        extra: N-grams that the index must know although no reference contains them.
    """

    def __init__(
        self,
        references: Mapping[Hashable, Sequence[Sequence[str]]],
        *,
        max_order: int = 4,
        extra: Iterable[Sequence[str]] = (),
    ) -> None:
        self.index = {image: i for i, image in enumerate(references)}
        self.per_image = _lengths(list(references.values()))  # (I,)
        self.slots = int(self.per_image.max(initial=1))  # R
        sentences = list(chain.from_iterable(references.values()))
        self.image = np.repeat(np.arange(len(self.index)), self.per_image)
        first = np.cumsum(self.per_image) - self.per_image
        self.slot = np.arange(len(sentences)) - first[self.image]
        self.lengths = np.full((len(self.index), self.slots), -1)  # (I, R), -1: no such reference
        self.lengths[self.image, self.slot] = _lengths(sentences)
        self.table = NgramTable([*sentences, *extra], max_order=max_order)
        self.entries = [self._sort_entries(order) for order in range(1, max_order + 1)]
        self._positions = [  # image and gram of each entry, ascending
            self.image[e.sentence] * self.table.size(n) + e.gram
            for n, e in enumerate(self.entries, start=1)
        ]
        del self.table.grams  # only needed to count

    def _sort_entries(self, order: int) -> Entries:
        sentence, gram = self.table.grams[order - 1]
        in_references = sentence < len(self.image)
        sentence, gram = sentence[in_references], gram[in_references]
        size = max(1, self.table.size(order))
        key = (self.image[sentence] * size + gram) * self.slots + self.slot[sentence]
        key, counts = np.unique(key, return_counts=True)
        position, slot = np.divmod(key, self.slots)
        image, gram = np.divmod(position, size)
        first = np.cumsum(self.per_image) - self.per_image
        return Entries(first[image] + slot, gram, counts)

    def document_frequencies(self, order: int) -> np.ndarray:
        """Return, for each known n-gram of this order, the number of images that have it."""
        size = max(1, self.table.size(order))
        gram = np.unique(self._positions[order - 1]) % size
        return np.bincount(gram, minlength=self.table.size(order))

    def match(self, candidates: Sequence[Sequence[str]], images: np.ndarray) -> list[Matches]:
        """Return, per order, the n-grams that candidates share with their references.

        `images` (C,) is the position of each candidate's image in this index.
        """
        matches = []
        for order, (sentence, gram) in enumerate(self.table.encode(candidates), start=1):
            entries = _count(sentence, gram)
            size = self.table.size(order)
            position = images[entries.sentence] * size + entries.gram
            low = np.searchsorted(self._positions[order - 1], position, side="left")
            high = np.searchsorted(self._positions[order - 1], position, side="right")
            hits = np.where(entries.gram < size, high - low, 0)
            candidate = np.repeat(np.arange(len(hits)), hits)
            within = np.arange(len(candidate)) - np.repeat(np.cumsum(hits) - hits, hits)
            matches.append(Matches(entries, candidate, low[candidate] + within))
        return matches


def _count(sentence: np.ndarray, gram: np.ndarray) -> Entries:
    size = int(gram.max(initial=0)) + 1
    key, counts = np.unique(sentence * size + gram, return_counts=True)
    return Entries(*np.divmod(key, size), counts)


def _rank(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the ranks of `wanted` among the sorted `keys`; unknown ones rank after all keys."""
    rank = np.searchsorted(keys, wanted)
    known = np.zeros(len(wanted), dtype=bool)
    below = rank < len(keys)
    known[below] = keys[rank[below]] == wanted[below]
    if not known.all():
        rank[~known] = len(keys) + np.unique(wanted[~known], return_inverse=True)[1]
    return rank


def _lengths(sequences: Sequence[Sequence[object]]) -> np.ndarray:
    return np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))


def _as_ids(values: list[int]) -> np.ndarray:
    return np.asarray(values, dtype=np.int64)
