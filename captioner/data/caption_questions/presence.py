"""Questions after what is there, as many answered yes as no for every noun and for every wording.

What is absent is drawn among the frequent companions of what the image shows, the "adversarial"
sampling of Li et al. 2023 (Evaluating Object Hallucination in Large Vision-Language Models, section
4), and only where no word of any caption makes it likely that it is there under another name or was
left out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, cached_property

from captioner.data.caption_questions import nouns
from captioner.data.caption_questions.lexicon import may_be, plural, with_article
from captioner.data.caption_questions.presence_words import PRESENCE_NOUNS, QUESTION_FORMS
from captioner.data.caption_questions.scene import Scene
from captioner.data.caption_questions.subject import Pair

MOST = 3
"""Questions of an image with the same answer."""
CAPTIONS_FOR_NO = 3
"""Fewer captions than this leave out too much to say that something is absent."""
AGREEMENT = 0.4
"""A noun is asked after only if, where one caption speaks of it, another of the same image does so
too with this probability: what is often left out cannot be called absent."""


def ask_presence(
    scenes: Sequence[Scene],
    splits: Sequence[str],
    ids: Sequence[str],
    *,
    seed: int,
    budgets: Mapping[str, int],
) -> list[list[Pair]]:
    """The presence questions of each image, at most `budgets` pairs of a yes and a no a split."""
    survey = _Survey(scenes)
    found: list[list[Pair]] = [[] for _ in scenes]
    for split in sorted(set(splits)):
        rows = [i for i, other in enumerate(splits) if other == split]
        drawer = _Drawer(survey, rows, ids, seed)
        for yes, no, noun in drawer.draw(budgets[split]):
            # One wording for both answers: neither it nor the noun gives the answer away.
            question = _question(noun, random.Random(f"qa {seed} {ids[yes]} {ids[no]} {noun}"))
            found[yes].append(Pair("presence", noun, question, "yes"))
            found[no].append(Pair("presence", noun, question, "no"))
    return found


@cache
def load_presence_nouns() -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """Noun -> the words and the stems that make its absence doubtful."""
    table: dict[str, list[str]] = {}
    noun = ""
    for line in PRESENCE_NOUNS.strip().splitlines():
        head, colon, rest = line.partition(":")
        noun = head if colon else noun
        table.setdefault(noun, []).extend((rest if colon else line).split())
    return {
        noun: (
            frozenset(hint for hint in hints if not hint.endswith("*")),
            tuple(hint[:-1] for hint in hints if hint.endswith("*")),
        )
        for noun, hints in table.items()
    }


def is_doubtful(scene: Scene, noun: str) -> bool:
    """Whether the noun may be there, whatever the captions call it or leave out."""
    exact, stems = load_presence_nouns()[noun]
    if scene.words & exact or any(word.startswith(stems) for word in scene.words):
        return True
    return any(may_be(other, noun) for other in scene.hinted)


class _Survey:
    """What the data set as a whole says of the nouns."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        self.nouns = [noun for noun in load_presence_nouns() if self._agreement(noun) >= AGREEMENT]
        self.shown = [{n for n in self.nouns if scene.shares[n] >= scene.need} for scene in scenes]
        self.absent = [
            {n for n in self.nouns if not is_doubtful(scene, n)}
            if len(scene.captions) >= CAPTIONS_FOR_NO
            else set()
            for scene in scenes
        ]

    def _agreement(self, noun: str) -> float:
        agreed, possible = 1.0, 2.0  # half, where there is nothing to go by
        for scene in self.scenes:
            agreed += scene.shares[noun] * (scene.shares[noun] - 1)
            possible += scene.shares[noun] * (len(scene.captions) - 1)
        return agreed / possible

    @cached_property
    def _together(self) -> tuple[list[list[str]], Counter[str], Counter[tuple[str, str]]]:
        present = [[n for n in self.nouns if scene.shares[n]] for scene in self.scenes]
        alone: Counter[str] = Counter(n for here in present for n in here)
        pairs = Counter((a, b) for here in present for a in here for b in here)
        return present, alone, pairs

    def companionship(self, row: int, noun: str) -> float:
        """How likely the noun is beside the likeliest of what the image shows."""
        present, alone, pairs = self._together
        return max((pairs[n, noun] / alone[n] for n in present[row] if n != noun), default=0.0)


class _Drawer:
    """Draws images to ask with yes and with no, in equal numbers, out of one split."""

    def __init__(self, survey: _Survey, rows: Sequence[int], ids: Sequence[str], seed: int) -> None:
        self.survey = survey
        self.rows = rows
        self.ids = ids
        self.seed = seed
        self.left = {answer: dict.fromkeys(rows, MOST) for answer in ("yes", "no")}

    def draw(self, budget: int) -> list[tuple[int, int, str]]:
        """Triples of an image with, an image without, and the noun."""
        drawn: list[tuple[int, int, str]] = []
        nouns = sorted(self.survey.nouns, key=lambda noun: (self._supply(noun), noun))
        for place, noun in enumerate(nouns):
            # What a rare noun leaves of its share goes to the commoner ones after it.
            share = -(-(budget - len(drawn)) // (len(nouns) - place))
            for yes, no in list(zip(self._with(noun), self._without(noun), strict=False))[:share]:
                drawn.append((yes, no, noun))
                self.left["yes"][yes] -= 1
                self.left["no"][no] -= 1
        return drawn

    def _supply(self, noun: str) -> int:
        shown = sum(noun in self.survey.shown[i] for i in self.rows)
        return min(shown, sum(noun in self.survey.absent[i] for i in self.rows))

    def _rank(self, row: int, noun: str) -> float:
        return random.Random(f"qa {self.seed} {self.ids[row]} {noun}").random()

    def _with(self, noun: str) -> list[int]:
        rows = [i for i in self.rows if noun in self.survey.shown[i] and self.left["yes"][i]]
        return sorted(rows, key=lambda i: (self._rank(i, noun), self.ids[i]))

    def _without(self, noun: str) -> list[int]:
        """Drawn without replacement, by how usual the noun is in such company.

        The keys are those of Efraimidis and Spirakis 2006 (Weighted random sampling with a
        reservoir).
        """
        rows = [i for i in self.rows if noun in self.survey.absent[i] and self.left["no"][i]]
        weights = {i: self.survey.companionship(i, noun) + 1e-3 for i in rows}
        return sorted(rows, key=lambda i: (-(self._rank(i, noun) ** (1 / weights[i])), self.ids[i]))


def _question(noun: str, rng: random.Random) -> str:
    if noun in nouns.MASS:
        form, name = "mass", noun
    elif noun in nouns.PLURAL_ONLY:
        form, name = "plural", noun
    elif noun in ("beach", "pool", "ocean"):
        form, name = "scene", with_article(noun)
    else:
        form, name = "singular", with_article(noun)
    return rng.choice(QUESTION_FORMS[form]).format(a=name, plural=plural(noun))
