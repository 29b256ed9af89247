"""Compare the searches of this package on a public model with `generate` of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from captioner.backends.public.families import load_family
from captioner.backends.public.family import Family, PromptedImage
from captioner.backends.public.family_settings import build_config
from captioner.backends.public.public_backend import PublicBackend
from captioner.decoding import Hypothesis, beam_search, greedy_search, no_repeat_ngram
from captioner.decoding.ends import until_end

TIE = 1e-4
"""Hypotheses whose scores differ by less are equal: their order depends on rounding."""
Generate = Callable[[Family, Image.Image, "str | None", dict[str, Any]], Sequence[int]]
"""Return the new tokens of `generate` for one image and question, padding included or not."""


def random_images(count: int, seed: int = 0, *, sizes: Sequence[tuple[int, int]] = ()) -> list:
    """Return images of 4 x 4 random colors, of the sizes (width, height) in turn."""
    rng = np.random.default_rng(seed)
    sizes = sizes or [(48, 40)]
    colors = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [
        Image.fromarray(color).resize(sizes[i % len(sizes)], Image.Resampling.NEAREST)
        for i, color in enumerate(colors)
    ]


@dataclass
class PublicModel:
    """A loaded model with a search on given images and questions."""

    backend: PublicBackend
    max_length: int = 12
    no_repeat_ngram: int = 0

    @classmethod
    def load(cls, folder: Path, *, max_length: int = 12, no_repeat_ngram: int = 0) -> PublicModel:
        family = load_family(str(folder), torch.float32)
        family.caption_length = family.answer_length = max_length
        return cls(PublicBackend(family), max_length, no_repeat_ngram)

    @property
    def family(self) -> Family:
        return self.backend.family

    def memories(
        self, images: Sequence[Image.Image], questions: Sequence[str | None] = ()
    ) -> list[PromptedImage]:
        """Encode images, question i about image i; without questions, for captions."""
        memories = self.backend.encode([self.backend.read(image) for image in images])
        if not questions or questions[0] is None:
            return memories
        encoded = [self.family.question_prompt(str(question)) for question in questions]
        return self.backend.encode_questions(memories, encoded, range(len(questions)))

    def search(self, memories: Sequence[PromptedImage], beams: int) -> list[Hypothesis]:
        """Return the best hypothesis of each image, as the search of the package finds it."""
        return [hypotheses[0] for hypotheses in self.search_all(memories, beams)]

    def search_all(self, memories: Sequence[PromptedImage], beams: int) -> list[list[Hypothesis]]:
        """Return the hypotheses of each image, best first."""
        backend = self.backend
        options: dict[str, Any] = {"images": len(memories), "bos": backend.tokenizer.bos}
        options |= {
            "eos": backend.tokenizer.ends,
            "max_length": self.max_length,
            "arrays": backend.arrays,
        }
        others = [no_repeat_ngram(self.no_repeat_ngram)] if self.no_repeat_ngram else []
        penalty = build_config(self.family).decoding.repetition_penalty
        with backend.inference():
            state = backend.start(memories, rows=beams, room=self.max_length)
            options["rules"] = [*state.rules(penalty, greedy=beams == 1), *others]
            if beams == 1:
                return greedy_search(state.step, **options)
            return beam_search(state.step, state.reorder, beams=beams, **options)

    def logprobs(self, memory: PromptedImage, tokens: Sequence[int]) -> np.ndarray:
        """Return the log-probability of each token of a text."""
        return self.backend.score([memory], np.array(tokens)[None, None])[0, 0]


def assert_tokens_equal(
    model: PublicModel,
    generate: Generate,
    images: Sequence[Image.Image],
    questions: Sequence[str | None] = (),
) -> None:
    """Compare greedy and beam search of all images at once with `generate` of each image alone.

    A difference is accepted only if the scores of both texts differ by less than `TIE`. Texts must
    differ between images, so that a model that ignores its image is noticed.
    """
    questions = questions or [None] * len(images)
    memories = model.memories(images, questions)
    for beams in (1, 5):
        options = {"num_beams": beams, "do_sample": False, "max_new_tokens": model.max_length}
        results = [h.tokens for h in model.search(memories, beams)]
        for i, tokens in enumerate(results):
            with torch.inference_mode():
                raw = generate(model.family, images[i], questions[i], options)
            expected = until_end(map(int, raw), model.backend.tokenizer.ends)
            if tokens != expected:
                difference = _score_difference(model, memories[i], tokens, expected, beams)
                assert difference < TIE, (beams, i, tokens, expected, difference)
        assert len(set(map(tuple, results))) > 1, "all texts are equal"


def _score_difference(
    model: PublicModel,
    memory: PromptedImage,
    tokens: Sequence[int],
    expected: Sequence[int],
    beams: int,
) -> float:
    """Return the difference of two texts' scores, or of their first different tokens' if greedy."""
    rows = [model.logprobs(memory, text) for text in (tokens, expected)]
    if beams > 1:
        return abs(float(rows[0].mean() - rows[1].mean()))
    pairs = enumerate(zip(tokens, expected, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), None)
    assert place is not None, "one text is the start of the other"
    return abs(float(rows[0][place] - rows[1][place]))


def assert_batch_equal(
    model: PublicModel, images: Sequence[Image.Image], questions: Sequence[str | None] = ()
) -> None:
    """Compare a batch of images with one at a time, with the same tie rule."""
    questions = questions or [None] * len(images)
    memories = model.memories(images, questions)
    for beams in (1, 5):
        for i, together in enumerate(model.search(memories, beams)):
            alone = model.memories([images[i]], [questions[i]])[0]
            single = model.search([alone], beams)[0]
            if together.tokens != single.tokens:
                a, b = together.tokens, single.tokens
                assert _score_difference(model, alone, a, b, beams) < TIE, (beams, i, a, b)
            assert abs(together.logprob - single.logprob) < 10 * TIE


def assert_scores_equal(
    model: PublicModel, images: Sequence[Image.Image], questions: Sequence[str | None] = ()
) -> None:
    """Compare the scores of generated texts with the log-probabilities of the search."""
    memories = model.memories(images, questions)
    results = model.search(memories, 5)
    texts = np.full((len(results), 1, model.max_length), model.backend.tokenizer.pad)
    for row, hypothesis in zip(texts[:, 0], results, strict=True):
        row[: len(hypothesis.tokens)] = hypothesis.tokens
    totals = model.backend.score(memories, texts).sum(-1)[:, 0]
    np.testing.assert_allclose(totals, [h.logprob for h in results], atol=1e-4)


def assert_attention_is_grid(
    model: PublicModel, images: Sequence[Image.Image], positions: int, *, rest: bool = False
) -> None:
    """Check the shape and the sums of the attention of greedy captions.

    Args:
        model: The model.
        images: Images to caption.
        positions: Number of positions of the grid.
        rest: Whether a class token takes a part of the weights.
    """
    memories = model.memories(images)
    texts = np.full((len(images), 1, model.max_length), model.backend.tokenizer.pad)
    for row, hypothesis in zip(texts[:, 0], model.search(memories, 1), strict=True):
        row[: len(hypothesis.tokens)] = hypothesis.tokens
    (weights,) = model.backend.attention(memories, texts)
    assert weights.shape == (*texts.shape, positions)
    sums, written = weights.sum(-1), texts >= 0
    assert (weights >= 0).all()
    assert (sums[~written] == 0).all()
    if rest:
        assert (sums[written] < 1).all()
        assert (sums[written] > 0).all()
    else:
        np.testing.assert_allclose(sums[written], 1, atol=1e-4)
