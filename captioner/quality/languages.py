"""Find captions in another language than most captions of a data set.

The classifier of single short captions is unreliable, so that two conditions must hold: it assigns
another language, and few words of the caption belong to the vocabulary of the captions in the
language of the data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from captioner.extras import explain_missing
from captioner.quality.word_statistics import split_words

MAX_KNOWN = 0.5
"""Largest share of words of the data set's vocabulary in a caption of another language."""
_LIKELY, _SURE = 0.3, 0.9
"""Probability of the language that a caption needs, and a shorter one."""
_FEW_WORDS = 3
"""Words below which a caption must be classified with certainty."""
_MIN_COUNT = 3
"""Captions that a word of the vocabulary occurs in."""
_MIN_SHARE = 0.6
"""Share of the captions that the main language needs."""


@cache
def _load_identifier() -> Any:
    with explain_missing("captioner check"):
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class Languages:
    """The languages of the captions of a data set.

    Args:
        captions: The different captions.

    Raises:
        DependencyError: py3langid is not installed.
    """

    def __init__(self, captions: Sequence[str]) -> None:
        identifier = _load_identifier()
        self._labels: Mapping[str, tuple[str, float]] = {
            caption: identifier.classify(caption) for caption in dict.fromkeys(captions)
        }
        counts = Counter(language for language, _ in self._labels.values())
        self.main = ""
        """Code of the language of most captions (ISO 639); "" if there is none."""
        for language, count in counts.most_common(1):
            if count >= _MIN_SHARE * counts.total() and counts.total() > 1:
                self.main = language
        self._known = self._learn_vocabulary()

    def _learn_vocabulary(self) -> frozenset[str]:
        """Return the words that occur mostly in captions of the main language."""
        own: Counter[str] = Counter()
        other: Counter[str] = Counter()
        for caption, (language, _) in self._labels.items():
            (own if language == self.main else other).update(set(split_words(caption)))
        return frozenset(w for w, n in own.items() if n >= _MIN_COUNT and n > other[w])

    def explain(self, caption: str) -> str:
        """Return why a caption is in another language, or ""."""
        words = [word for word in split_words(caption) if not word.isdecimal()]
        language, probability = self._labels.get(caption, ("", 0.0))
        if not self.main or not words or language in ("", self.main):
            return ""
        known = sum(word in self._known for word in words) / len(words)
        has_spaces = len(words) >= _FEW_WORDS
        if known > MAX_KNOWN or probability < (_LIKELY if has_spaces else _SURE):
            # A text without spaces, as in Chinese, is one word; its letters are no ASCII.
            is_foreign = not has_spaces and known == 0 and not any(map(str.isascii, words))
            if not (is_foreign and probability >= _LIKELY):
                return ""
        return f"is in {language} (probability {probability:.2f}), most captions are in {self.main}"
