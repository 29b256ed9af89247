"""Acceptable captions: compared with CIDEr-D of references that are held out one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from test_caption_metrics import random_corpus

from captioner.errors import MetricError
from captioner.metrics import CiderD, DocumentFrequency, acceptable_captions


def test_acceptable_captions_reach_half_of_the_score_of_a_human_caption() -> None:
    candidates, references = random_corpus(40, seed=3)
    references = {image: list(texts) for image, texts in references.items()}
    df = DocumentFrequency.from_references(references)
    human = []
    for image, texts in references.items():
        for place, text in enumerate(texts if len(texts) > 1 else ()):
            others = {image: texts[:place] + texts[place + 1 :]}
            human += list(CiderD(others, df=df, tokenized=True).score([text.split()], [image]))
    scorer = CiderD(references, df=df, tokenized=True)
    scores = scorer.score([candidates[image].split() for image in references], list(references))
    result = acceptable_captions(candidates, references)
    assert list(result) == list(references)
    assert list(result.values()) == list(scores >= 0.5 * np.mean(human))
    assert 0 < sum(result.values()) < len(result)


def test_references_are_acceptable_and_other_words_are_not() -> None:
    references = {i: (f"a dog number {i} runs", f"the dog {i} is running") for i in range(9)}
    first = {i: texts[0] for i, texts in references.items()}
    assert all(acceptable_captions(first, references).values())
    other = dict.fromkeys(references, "some boats at sea")
    assert not any(acceptable_captions(other, references).values())


def test_single_references_are_an_error() -> None:
    with pytest.raises(MetricError, match="one reference for each image, expected at least 2"):
        acceptable_captions({1: "a", 2: "b"}, {1: ["a"], 2: ["b"]})
