"""Sets of token sequences for the tests of tries."""

from __future__ import annotations

from hypothesis import strategies as st
from toy_search import EOS, Sequence

VOCAB = 6
Answers = list[list[int]]

# PAD may occur in an answer here: only EOS is special to a trie.
words = st.lists(st.integers(2, VOCAB - 1), max_size=5)
answer_sets = st.lists(words.map(lambda word: [*word, EOS]), min_size=1, max_size=14)

SETS: dict[str, Answers] = {
    "one": [[3, 4, EOS]],
    "one of one token": [[3, EOS]],
    "only the end": [[EOS]],
    "prefixes": [[3, EOS], [3, 4, EOS], [3, 4, 5, EOS], [3, 4, 5, 3, EOS], [EOS]],
    "duplicates": [[4, 5, EOS], [3, EOS], [4, 5, EOS], [3, EOS], [3, EOS]],
    "deep and shallow": [[2, EOS], [3, EOS], [4, 3, 4, 3, 4, 3, 4, 3, EOS], [4, 3, 5, EOS]],
    "one path": [[5] * n + [EOS] for n in range(1, 7)],
    "one end": [[a, b, c, 2, EOS] for a in (3, 4) for b in (4, 5) for c in (2, 5)],
}


def following(answers: Answers, prefix: Sequence) -> set[int]:
    """Return the tokens that may follow; EOS where no member continues."""
    n = len(prefix)
    return {a[n] for a in answers if tuple(a[:n]) == prefix and len(a) > n} or {EOS}


def longest(answers: Answers) -> int:
    return max(map(len, answers))
