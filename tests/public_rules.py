"""Compare searches under rules of the generation settings with `generate` of transformers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from public_tokens import TIE, Generate, PublicModel, assert_scores_equal

from captioner.backends.public.public_backend import PublicBackend
from captioner.decoding.ends import until_end

BEAMS = 4


def assert_rules_equal(
    model: PublicModel,
    generate: Generate,
    images: Sequence[Image.Image],
    questions: Sequence[str | None] = (),
    *,
    forces_first: bool = True,
) -> None:
    """Compare all hypotheses and their scores, with tokens suppressed, penalized and forced.

    The suppressed tokens are probable ones, so that their probability matters. `forces_first`
    includes a forced first token, which has no effect after a longer prompt.
    """
    questions = questions or [None] * len(images)
    memories = model.memories(images, questions)
    plain = [(h.tokens, h.score) for hs in model.search_all(memories, BEAMS) for h in hs]
    ends, first = model.backend.tokenizer.ends, model.backend.rules.first
    words = [i for tokens, _ in plain for i in tokens if i not in ends and i != first]
    suppressed = [words[0], words[-1]]
    cases: list[dict[str, Any]] = [
        {"suppress_tokens": suppressed},
        {"begin_suppress_tokens": suppressed, "forced_eos_token_id": ends[0]},
        {"repetition_penalty": 1.6},
        {"repetition_penalty": 1.2, "suppress_tokens": suppressed},
    ]
    if forces_first:
        cases.append({"forced_bos_token_id": words[1], "begin_suppress_tokens": suppressed})
    for settings in cases:
        with settings_of(model, settings) as changed:
            results = changed.search_all(memories, BEAMS)
            greedy = changed.search(memories, 1)
            for i, image in enumerate(images):
                expected = hypotheses_of_generate(changed, generate, image, questions[i], BEAMS)
                scores = [hypothesis.score for hypothesis in results[i]]
                np.testing.assert_allclose(scores, [score for _, score in expected], atol=TIE)
                assert [h.tokens for h in results[i]] == [tokens for tokens, _ in expected], (
                    settings
                )
                ((tokens, _),) = hypotheses_of_generate(changed, generate, image, questions[i], 1)
                assert greedy[i].tokens == tokens, settings
            if "repetition_penalty" not in settings:
                assert_scores_equal(changed, images, questions)
        if "suppress_tokens" in settings or "repetition_penalty" in settings:
            assert [(h.tokens, h.score) for hs in results for h in hs] != plain, settings


@contextmanager
def settings_of(model: PublicModel, settings: dict[str, Any]) -> Iterator[PublicModel]:
    """Change the generation settings of a model."""
    generator, tokenizer = model.family.generator, model.backend.tokenizer
    kept, silent = generator.generation_config, tokenizer.silent
    generator.generation_config = copy.deepcopy(kept)
    generator.generation_config.update(**settings)
    try:
        yield replace(model, backend=PublicBackend(model.family))
    finally:
        generator.generation_config, tokenizer.silent = kept, silent


def hypotheses_of_generate(
    model: PublicModel,
    generate: Generate,
    image: Image.Image,
    question: str | None,
    beams: int,
) -> list[tuple[list[int], float]]:
    """Return the tokens and the score of each hypothesis of `generate`, best first."""
    generator, outputs = model.family.generator, []
    method = generator.generate

    def record(*args: Any, **options: Any) -> torch.Tensor:
        more = {"return_dict_in_generate": True, "output_scores": True}
        outputs.append(method(*args, **options, **more, num_return_sequences=beams))
        return outputs[0].sequences

    options = {"num_beams": beams, "do_sample": False, "max_new_tokens": model.max_length}
    generator.generate = record
    try:
        with torch.inference_mode():
            best = generate(model.family, image, question, options)
    finally:
        del generator.generate
    (output,) = outputs
    rows = output.sequences[:, output.sequences.shape[1] - len(best) :].tolist()
    scores = output.sequences_scores.tolist() if beams > 1 else [0.0]
    ends = model.backend.tokenizer.ends
    return [(until_end(row, ends), score) for row, score in zip(rows, scores, strict=True)]
