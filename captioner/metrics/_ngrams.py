"""Word n-grams as integers, counted and matched for a whole corpus at once.

BLEU and CIDEr-D need the same two things: how often each n-gram stands in each sentence, and which
n-grams of a candidate stand in which of its image's references. Both are computed here once, with
sorted integer arrays in place of dictionaries of tuples.

Legend: I images, R the most references of an image, C candidates, E entries, an entry being one
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
    count: np.ndarray


class Matches(NamedTuple):
    """Entries of candidates, and the pairs of a candidate's and a reference's entry that agree."""

    entries: Entries
    candidate_entry: np.ndarray
    reference_entry: np.ndarray


class NgramTable:
    """Numbers for all n-grams of some sentences, for the orders 1 to `max_order`.

    An n-gram's number is the rank of (number of its first n-1 words, number of its last word), so
    that any vocabulary fits in 64 bits and no two n-grams share a number.
    """

    def __init__(self, sentences: Sequence[Sequence[str]], *, max_order: int) -> None:
        self.max_order = max_order
        self.words: dict[str, int] = {}
        self._keys: list[np.ndarray] = []
        words = self.words
        flat = [words.setdefault(word, len(words)) for word in chain.from_iterable(sentences)]
        self.grams = self._number(_as_ids(flat), _lengths(sentences), grow=True)

    def size(self, order: int) -> int:
        """How many n-grams of this order are known."""
        return len(self.words) if order == 1 else len(self._keys[order - 2])

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per order, (sentence, gram) of every n-gram; numbers from `size` upwards are unknown."""
        known, fresh = self.words, {}
        size = len(known)
        flat = [
            known[word] if word in known else fresh.setdefault(word, size + len(fresh))
            for word in chain.from_iterable(sentences)
        ]
        return self._number(_as_ids(flat), _lengths(sentences), grow=False)

    def spellings(self, order: int) -> list[str]:
        """All n-grams of one order in the order of their numbers, words joined by a blank."""
        names = words = list(self.words)
        for keys in self._keys[: order - 1]:
            heads, tails = (keys >> _WORD_BITS).tolist(), (keys & ((1 << _WORD_BITS) - 1)).tolist()
            names = [f"{names[h]} {words[t]}" for h, t in zip(heads, tails, strict=True)]
        return names

    def _number(
        self, flat: np.ndarray, lengths: np.ndarray, *, grow: bool
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        end = np.repeat(np.cumsum(lengths), lengths)
        start, gram = np.arange(len(flat)), flat
        numbered = [(sentence, gram)]
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
            numbered.append((sentence[start], gram))
        return numbered


class ReferenceIndex:
    """The n-gram counts of all references, sorted so that an image's n-gram is found quickly.

    `references` maps an image id to its tokenised references. `extra` holds n-grams that must be
    known although no reference has them.
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
        self.entries = [self._sort(order) for order in range(1, max_order + 1)]
        self._positions = [  # image and gram of each entry, ascending
            self.image[e.sentence] * self.table.size(n) + e.gram
            for n, e in enumerate(self.entries, start=1)
        ]
        del self.table.grams  # only needed to count

    def _sort(self, order: int) -> Entries:
        sentence, gram = self.table.grams[order - 1]
        mine = sentence < len(self.image)
        sentence, gram = sentence[mine], gram[mine]
        size = max(1, self.table.size(order))
        place = (self.image[sentence] * size + gram) * self.slots + self.slot[sentence]
        place, count = np.unique(place, return_counts=True)
        position, slot = np.divmod(place, self.slots)
        image, gram = np.divmod(position, size)
        first = np.cumsum(self.per_image) - self.per_image
        return Entries(first[image] + slot, gram, count)

    def images_with(self, order: int) -> np.ndarray:
        """For each known n-gram of this order, how many images have it in a reference."""
        size = max(1, self.table.size(order))
        gram = np.unique(self._positions[order - 1]) % size
        return np.bincount(gram, minlength=self.table.size(order))

    def match(self, candidates: Sequence[Sequence[str]], images: np.ndarray) -> list[Matches]:
        """Per order, the n-grams that tokenised candidates share with their images' references.

        `images` (C,) holds each candidate's image by position in this index.
        """
        found = []
        for order, (sentence, gram) in enumerate(self.table.encode(candidates), start=1):
            entries = _count(sentence, gram)
            size = self.table.size(order)
            position = images[entries.sentence] * size + entries.gram
            low = np.searchsorted(self._positions[order - 1], position, side="left")
            high = np.searchsorted(self._positions[order - 1], position, side="right")
            hits = np.where(entries.gram < size, high - low, 0)
            candidate = np.repeat(np.arange(len(hits)), hits)
            within = np.arange(len(candidate)) - np.repeat(np.cumsum(hits) - hits, hits)
            found.append(Matches(entries, candidate, low[candidate] + within))
        return found


def _count(sentence: np.ndarray, gram: np.ndarray) -> Entries:
    size = int(gram.max(initial=0)) + 1
    place, count = np.unique(sentence * size + gram, return_counts=True)
    return Entries(*np.divmod(place, size), count)


def _rank(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Ranks of `wanted` among the sorted `keys`; what is not among them is ranked after them."""
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
