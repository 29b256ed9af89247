"""Make questions about the presence of objects, with equally many "yes" and "no" for each noun.

An absent object is drawn with a probability that grows with how often it occurs together with the
objects in the image: the "adversarial" sampling of Li et al. 2023 (Evaluating Object Hallucination
in Large Vision-Language Models, section 4). No caption may contain a hint word, which suggests
that the object is present but not mentioned, or has another name.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from captioner.data.caption_questions import nouns
from captioner.data.caption_questions.lexicon import (
    add_article,
    are_compatible,
    is_plural,
    pluralize,
)
from captioner.data.caption_questions.presence_words import PRESENCE_NOUNS, QUESTION_FORMS
from captioner.data.caption_questions.scene import Scene
from captioner.data.caption_questions.scene_pairs import Pair

MAX_PER_ANSWER = 3
"""Presence questions of an image with the same answer."""
MIN_CAPTIONS_FOR_NO = 3
"""Fewer captions mention too little of an image to conclude that something is absent."""
MIN_AGREEMENT = 0.4
"""Minimum probability that another caption of an image mentions a noun that one caption mentions.
Nouns that captions often leave out cannot be called absent and are not asked about."""


def make_presence_pairs(
    scenes: Sequence[Scene],
    splits: Sequence[str],
    ids: Sequence[str],
    *,
    seed: int,
    budgets: Mapping[str, int],
) -> list[list[Pair]]:
    """Return the presence questions of each image.

    `splits` and `ids` are those of each image, and `budgets` limits the pairs of a "yes" and a "no"
    in each split.
    """
    return pair_images(_count_nouns(scenes), splits, ids, seed=seed, budgets=budgets)


def pair_images(
    statistics: PresenceStatistics,
    splits: Sequence[str],
    ids: Sequence[str],
    *,
    seed: int,
    budgets: Mapping[str, int],
) -> list[list[Pair]]:
    """Return the presence questions of each image; see `make_presence_pairs` for the arguments."""
    pairs: list[list[Pair]] = [[] for _ in ids]
    for split in sorted(set(splits)):
        rows = [i for i, other in enumerate(splits) if other == split]
        sampler = _PairSampler(statistics, rows, ids, seed)
        for yes, no, noun in sampler.sample(budgets[split]):
            # The same phrasing for both, so that the question does not give the answer away.
            question = _word_question(noun, random.Random(f"qa {seed} {ids[yes]} {ids[no]} {noun}"))
            pairs[yes].append(Pair("presence", noun, question, "yes"))
            pairs[no].append(Pair("presence", noun, question, "no"))
    return pairs


@cache
def load_presence_nouns() -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """Return the words and the word stems that hint at each noun."""
    return {
        noun: (
            frozenset(hint for hint in hints if not hint.endswith("*")),
            tuple(hint[:-1] for hint in hints if hint.endswith("*")),
        )
        for noun, hints in nouns.parse_table(PRESENCE_NOUNS)
    }


def may_be_present(scene: Scene, noun: str) -> bool:
    """Return whether a noun may be present, mentioned or not."""
    hints, stems = load_presence_nouns()[noun]
    if scene.words & hints or any(word.startswith(stems) for word in scene.words):
        return True
    return any(are_compatible(other, noun) for other in scene.all_nouns)


@dataclass(frozen=True)
class PresenceStatistics:
    """Nouns that may be asked about, and the images of the whole data set that have them."""

    nouns: list[str]
    mentioned: list[list[str]]
    """Nouns that are named for each image."""
    present: list[set[str]]
    """Nouns that are certainly present in each image."""
    absent: list[set[str]]
    """Nouns that are certainly absent in each image."""

    @cached_property
    def _counts(self) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """Images by noun, and by pair of nouns."""
        single = Counter(n for image in self.mentioned for n in image)
        pairs = Counter((a, b) for image in self.mentioned for a in image for b in image)
        return single, pairs

    def cooccurrence(self, row: int, noun: str) -> float:
        """Return the highest probability of a noun given one noun that the image has."""
        single, pairs = self._counts
        others = (n for n in self.mentioned[row] if n != noun)
        return max((pairs[n, noun] / single[n] for n in others), default=0.0)


def _count_nouns(scenes: Sequence[Scene]) -> PresenceStatistics:
    nouns = [n for n in load_presence_nouns() if _agreement(scenes, n) >= MIN_AGREEMENT]
    return PresenceStatistics(
        nouns,
        mentioned=[[n for n in nouns if scene.mentions[n]] for scene in scenes],
        present=[{n for n in nouns if scene.mentions[n] >= scene.min_votes} for scene in scenes],
        absent=[
            {n for n in nouns if not may_be_present(scene, n)}
            if len(scene.captions) >= MIN_CAPTIONS_FOR_NO
            else set()
            for scene in scenes
        ],
    )


def _agreement(scenes: Sequence[Scene], noun: str) -> float:
    agreed, possible = 1.0, 2.0  # 0.5 without any data
    for scene in scenes:
        agreed += scene.mentions[noun] * (scene.mentions[noun] - 1)
        possible += scene.mentions[noun] * (len(scene.captions) - 1)
    return agreed / possible


class _PairSampler:
    """Samples equally many images for "yes" and for "no" from one split."""

    def __init__(
        self, statistics: PresenceStatistics, rows: Sequence[int], ids: Sequence[str], seed: int
    ) -> None:
        self.statistics, self.rows, self.ids, self.seed = statistics, rows, ids, seed
        self.remaining = {answer: dict.fromkeys(rows, MAX_PER_ANSWER) for answer in ("yes", "no")}

    def sample(self, budget: int) -> list[tuple[int, int, str]]:
        """Return triples: an image with the noun, an image without it, and the noun."""
        triples: list[tuple[int, int, str]] = []
        nouns = sorted(self.statistics.nouns, key=lambda noun: (self._supply(noun), noun))
        for place, noun in enumerate(nouns):
            # Frequent nouns are processed last and use the rest of the budget.
            share = -(-(budget - len(triples)) // (len(nouns) - place))
            images = zip(self._rank_present(noun), self._rank_absent(noun), strict=False)
            for yes, no in list(images)[:share]:
                triples.append((yes, no, noun))
                self.remaining["yes"][yes] -= 1
                self.remaining["no"][no] -= 1
        return triples

    def _supply(self, noun: str) -> int:
        present = sum(noun in self.statistics.present[i] for i in self.rows)
        return min(present, sum(noun in self.statistics.absent[i] for i in self.rows))

    def _uniform(self, row: int, noun: str) -> float:
        return random.Random(f"qa {self.seed} {self.ids[row]} {noun}").random()

    def _rank_present(self, noun: str) -> list[int]:
        """Return the images for "yes" in random order."""
        present, remaining = self.statistics.present, self.remaining["yes"]
        rows = [i for i in self.rows if noun in present[i] and remaining[i]]
        return sorted(rows, key=lambda i: (self._uniform(i, noun), self.ids[i]))

    def _rank_absent(self, noun: str) -> list[int]:
        """Return the images for "no" in random order, weighted by the co-occurrence of the noun.

        The sort keys u ** (1 / w) sample without replacement: Efraimidis and Spirakis 2006
        (Weighted random sampling with a reservoir).
        """
        absent, remaining = self.statistics.absent, self.remaining["no"]
        rows = [i for i in self.rows if noun in absent[i] and remaining[i]]
        weights = {i: self.statistics.cooccurrence(i, noun) + 1e-3 for i in rows}
        return sorted(
            rows, key=lambda i: (-(self._uniform(i, noun) ** (1 / weights[i])), self.ids[i])
        )


def _word_question(noun: str, rng: random.Random) -> str:
    if noun in nouns.MASS:
        form, name = "mass", noun
    elif is_plural(noun):
        form, name = "plural", noun
    elif noun in ("beach", "pool", "ocean"):
        form, name = "scene", add_article(noun)
    else:
        form, name = "singular", add_article(noun)
    return rng.choice(QUESTION_FORMS[form]).format(a=name, plural=pluralize(noun))
