"""Statistics of the words of a data set, and the rules that tell if a caption was cut off.

A caption is closed if it ends in punctuation. In most data sets either nearly all captions are
closed or nearly none are; only where most are, an open end is evidence of truncation.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from captioner.quality.caption_ends import ends_in_complement, lacks_ending
from captioner.text import DANGLING_WORDS

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_CLOSED = re.compile(r"[.!?\u3002\uff01\uff1f)\]\"\u201d'\u2019]\s*$")
_ELLIPSIS = re.compile(r"(?:\.\s*\.\s*\.|\u2026)\s*$")
_STRICT = {
    *("a", "an", "the", "of", "with", "and", "or", "onto", "while", "because"),
    *("his", "their", "its", "my", "your", "our"),
}
"""Words that end no English caption, whether it is closed or not."""
_OPEN = {"at", "from", "into", "for", "to", "is", "are", "was", "were", "wearing", "holding"}
"""Words that end few English captions, even if a data set is too small to show it."""
_ENDINGS = {"s", "es", "d", "ed", "ing", "er", "ers", "r", "y", "ly", "n", "en", "'s", "\u2019s"}
_MANY, _SOME = 500, 50
"""Occurrences from which a word that ends no caption cannot end one; fewer for listed words."""
_LISTED_END = 0.0015
"""Largest share of its occurrences in which a listed word, such as "in", ends a caption."""
_RARE_END = 0.01
"""Largest share of its occurrences in which a word ends a caption that is the beginning of a word
in another caption of the image."""
_VERB = 3
"""Occurrences of a participle from which its bare form is a verb."""
_RARER = 100
"""How much rarer than the whole word a beginning is that is no word itself."""
_MOSTLY = 0.7
"""Share of closed captions from which an open end is unusual."""
_MIN_CAPTIONS = 20
"""Captions that an outlier needs for comparison."""
_MIN_SPREAD = 0.35
"""Least standard deviation of the logarithms of lengths: at 3.5 times it, a factor of 3.4."""
MAX_WORDS, MAX_CHARACTERS = 500, 5000
"""Length of a caption above which it is always unusual."""
_MAX_WORD = 40
"""Characters of a word above which its beginnings are not indexed."""
MAX_DEVIATION = 3.5
"""Bound of the modified z-score (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)."""


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def explain_excess(text: str) -> str:
    """Return why a caption is too long whatever the length of the others is, or ""."""
    if len(text) > MAX_CHARACTERS:
        return f"{len(text)} characters; expected at most {MAX_CHARACTERS}"
    count = len(split_words(text))
    return f"{count} words; expected at most {MAX_WORDS}" if count > MAX_WORDS else ""


def is_closed(text: str) -> bool:
    """Return whether a caption ends in punctuation other than an ellipsis."""
    return bool(_CLOSED.search(text)) and not _ELLIPSIS.search(text)


class WordStatistics:
    """Counts of words in captions, and of those that end a caption.

    Args:
        captions: All captions of the data set in its language.
        english: Whether this language is English.
    """

    def __init__(self, captions: Sequence[str], *, english: bool) -> None:
        self._english = english
        closed = list(map(is_closed, captions))
        self._mostly_closed = sum(closed) >= _MOSTLY * len(captions)
        self._counts: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self._insides: Counter[str] = Counter()
        lengths = []
        for caption, is_end in zip(captions, closed, strict=True):
            words = split_words(caption)
            self._counts.update(words)
            lengths.append(len(words))
            if words and (is_end or not self._mostly_closed):
                self._ends[words[-1]] += 1
                self._insides.update(words if is_end else words[:-1])
            else:
                self._insides.update(words[:-1])
        self._own_end = 0 if self._mostly_closed else 1  # counts a truncated caption itself
        self._frequent = max(5, len(captions) // 3000)
        self._longer = self._index_prefixes()
        self._length = _Lengths(lengths)

    def _index_prefixes(self) -> dict[str, str]:
        """Return the most frequent longer word by its beginning."""
        longer: dict[str, str] = {}
        for word, count in self._insides.most_common():
            is_common = count >= self._frequent and len(word) <= _MAX_WORD
            for end in range(1, len(word)) if is_common else ():
                longer.setdefault(word[:end], word)
        return longer

    def explain_truncation(self, caption: str, others: Iterable[str]) -> str:
        """Return why a caption is truncated, or "" if it is complete.

        Args:
            caption: The caption.
            others: The other captions of its image.
        """
        words = split_words(caption)
        if len(words) < 2:
            return ""  # its length is unusual
        last, closed = words[-1], is_closed(caption)
        if self._is_dangling(words, closed=closed):
            return f'ends in "{last}", which ends no complete caption'
        if not closed and (whole := self._find_whole(words, others)):
            return f'ends in "{last}", the beginning of "{whole}"'
        return ""

    def _is_dangling(self, words: Sequence[str], *, closed: bool) -> bool:
        word = words[-1]
        count, ends = self._counts[word], self._ends[word]
        if self._english and word in _STRICT:
            is_noun = word == "while" and words[-2] == "a"
            return ends <= max(1, _LISTED_END * count) and not is_noun
        if closed and self._mostly_closed:
            return False
        if self._english and word in DANGLING_WORDS and count >= _SOME:
            is_rare = ends <= self._own_end or ends < _LISTED_END * count
            return is_rare and not ends_in_complement(words)
        if self._english and word in _OPEN:
            return ends <= self._own_end and not ends_in_complement(words)
        if len(word) <= 2 and word.isalpha():
            return sum(self._ends.values()) >= _MANY and ends <= self._own_end
        return count >= _MANY and ends <= self._own_end

    def _find_whole(self, words: Sequence[str], others: Iterable[str]) -> str:
        """Return the word that the last word of a caption is the beginning of, or ""."""
        part = words[-1]
        if self._english and lacks_ending(words) and (verb := self._find_participle(part)):
            return verb
        inside, whole = self._insides[part], self._longer.get(part, "")
        count = self._insides[whole]
        if whole and (inside == 0 or inside * _RARER <= count):
            is_inflected = whole[len(part) :] in _ENDINGS
            if count >= self._frequent * (3 if is_inflected else 1):
                return whole
        if len(part) < 3 or self._ends[part] > max(self._own_end, _RARE_END * self._counts[part]):
            return ""
        near = {word for other in others for word in split_words(other)}
        wholes = sorted(w for w in near if w.startswith(part) and w[len(part) :] not in _ENDINGS)
        return wholes[0] if wholes and part not in near else ""

    def _find_participle(self, part: str) -> str:
        """Return the present participle of which a word is the beginning, or ""."""
        doubled = f"{part}{part[-1]}ing"
        verbs = [f"{part}ing", doubled, f"{part[:-1]}ing" if part.endswith("e") else doubled]
        verb = max(verbs, key=self._insides.__getitem__)
        return verb if self._insides[verb] >= _VERB else ""

    def explain_length(self, caption: str) -> str:
        """Return why the length of a caption is an outlier, or ""."""
        return self._length.explain(len(split_words(caption)))


class _Lengths:
    """The distribution of the number of words in a caption.

    Lengths are compared by their logarithms, because their distribution is skewed.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self._known = len(lengths) >= _MIN_CAPTIONS
        logs = [math.log(length) for length in lengths if length] or [0.0]
        center = statistics.median(logs)
        self.median = math.exp(center)
        """Median number of words."""
        deviation = statistics.median(abs(value - center) for value in logs)
        self._scale = max(1.4826 * deviation, _MIN_SPREAD)

    def explain(self, length: int) -> str:
        """Return why a number of words is an outlier, or ""."""
        score = math.log(max(1, length) / self.median) / self._scale
        if not self._known or abs(score) <= MAX_DEVIATION:
            return ""
        return f"{length} words; the median is {self.median:.0f} (modified z-score {score:+.1f})"
