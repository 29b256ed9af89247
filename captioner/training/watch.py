"""What to worry about in a validation's captions: that they are all alike, or about no picture."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from captioner.metrics import cider_d, tokenize
from captioner.text import DANGLING_WORDS

ENOUGH = 50
"""Captions below which nothing can be said."""
ALIKE = 0.05
"""Share of different captions under which a model says the same of everything."""
BLIND = 1.5
"""Times the score against other images' references that a model which sees should reach."""


def watch(
    captions: Mapping[Hashable, str],
    references: Mapping[Hashable, Sequence[str]],
    *,
    score: float,
) -> tuple[dict[str, float], list[str]]:
    """Figures for the log, and warnings; `score` is the captions' CIDEr-D.

    `different` is the share of different captions, `dangling` that of those which end on a word
    that another must follow, and `CIDEr-D, other image` the score where each caption is held
    against the references of another image: what a model earns that does not look.
    """
    texts = list(captions.values())
    if len(texts) < 2:
        return {}, []
    names = list(captions)
    moved = dict(zip(names, texts[1:] + texts[:1], strict=True))
    other = cider_d(moved, {name: references[name] for name in names}).corpus
    found = {
        "different": len(set(texts)) / len(texts),
        "dangling": sum(ends_dangling(text) for text in texts) / len(texts),
        "CIDEr-D, other image": other,
    }
    warnings = []
    if len(texts) >= ENOUGH and found["different"] < ALIKE:
        warnings.append(
            f"{len(set(texts))} different captions for {len(texts)} images: the model says the same"
            " of everything; lower the learning rate, or look at the images"
        )
    elif len(texts) >= ENOUGH and score < BLIND * other:
        warnings.append(
            f"CIDEr-D is {score:.3f} and, against another image's references, {other:.3f}: the"
            " captions do not depend on the images; are texts and images paired rightly?"
        )
    return found, warnings


def ends_dangling(text: str) -> bool:
    """Whether a caption ends on a word that another must follow, as "a man with a"."""
    # Without the full stop, which would make an initial of a last "a".
    return tokenize(text.rstrip(" .!?"))[-1:] in ([word] for word in DANGLING_WORDS)
