"""The state of a search with a transformers model, which applies the model's own rules.

Shapes: B images (or questions), K rows of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.backends.public.decoder_state import DecoderState
from captioner.backends.public.family import Family, PromptedImage
from captioner.backends.public.text_rules import TokenRules
from captioner.decoding.rules import Prefixes, Rule
from captioner.errors import CaptionerError


def check_numbers(outputs: Tensor) -> None:
    """Raise CaptionerError if a row of logits or weights has NaN, or infinity as its maximum."""
    if not outputs.amax(-1).isfinite().all():
        raise CaptionerError(
            "the outputs of the model are not numbers; its weights or its image processor are"
            " damaged"
        )


class RuledSearch:
    """The part of a state that knows the model's own rules; see `RuledState`."""

    family: Family
    token_rules: TokenRules
    memories: list[PromptedImage]
    logits: Tensor
    """The last result of `step`."""
    allowed: Tensor | None = None
    """See the result of `TokenRules.apply`."""

    def rules(self, penalty: float, *, greedy: bool) -> Sequence[Rule]:
        """Return the rules of the log-probabilities of `step`; see `RuledState`."""
        rules: list[Rule] = []
        if self.token_rules.suppresses:
            rules.append(lambda logprobs, prefixes: self.restore(logprobs))
        if penalty != 1:
            rules.append(RepetitionPenalty(self, penalty, greedy=greedy))
        return rules

    def restore(self, logprobs: Tensor) -> Tensor:
        """Return the model's own log-probabilities (B, K, V) of tokens that are not suppressed.

        The softmax of the logits of `step` distributes the probability of suppressed tokens over
        the others, which `generate` of transformers does not.
        """
        return logprobs if self.allowed is None else logprobs + self.allowed


class PublicDecodingState(RuledSearch):
    """The decoder of a family as `step`, with its cache; see `DecodingState`."""

    def __init__(
        self,
        family: Family,
        token_rules: TokenRules,
        memories: Sequence[PromptedImage],
        *,
        rows: int,
        room: int,
        temperature: float,
    ) -> None:
        self.family, self.token_rules, self.rows, self.room = family, token_rules, rows, room
        self.temperature, self.length, self.memories = temperature, 0, list(memories)
        self.state: DecoderState | None = None
        self.is_shared = True
        """Whether the rows of an image still share one row of the cache."""

    def step(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, K, V) after tokens (B, K); the first step continues the prompt."""
        if self.state is None:
            first, self.state = self.family.prefill(self.memories)
            check_numbers(first)
            logits = first.float()[:, None]  # (B, 1, V)
        else:
            if self.is_shared:
                images = len(self.memories)
                self._separate(self.state, torch.arange(images * self.rows, device=tokens.device))
            flat = tokens.reshape(-1)
            logits = self.family.step(flat, self.state).float().view(*tokens.shape, -1)
        if self.temperature != 1:
            logits = logits / self.temperature
        is_last = self.length + 1 == self.room
        logits, self.allowed = self.token_rules.apply(logits, self.length, is_last=is_last)
        self.length += 1
        self.logits = logits.expand(-1, self.rows, -1)
        return self.logits

    def _separate(self, state: DecoderState, rows: Tensor, images: Tensor | None = None) -> None:
        """Give each row a row of the cache of its own."""
        state.select(rows // self.rows, images)
        self.is_shared = False

    def reorder(self, rows: Tensor) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; see `DecodingState`."""
        assert self.state is not None
        is_complete = len(rows) == len(self.memories) * self.rows
        images = None if is_complete else rows[:: self.rows] // self.rows
        if images is not None:
            self.memories = [self.memories[i] for i in images.tolist()]
        if self.is_shared:
            self._separate(self.state, rows, images)
        elif is_complete:
            self.state.reorder(rows)
        else:
            self.state.select(rows, images)

    def admit(self, memories: Sequence[PromptedImage], places: Tensor) -> None:
        """Raise NotImplementedError: prompts of different lengths begin together."""
        raise NotImplementedError


class RepetitionPenalty:
    """A rule that decreases the scores of tokens in the text or its prompt, as in `generate`.

    Keskar et al., CTRL (2019), section 4.1: a negative score is multiplied by the penalty, and a
    positive one divided by it. The scores are logits in a greedy search or sampling, and
    log-probabilities in a beam search.
    """

    def __init__(self, state: RuledSearch, penalty: float, *, greedy: bool) -> None:
        self.state, self.penalty, self.greedy = state, penalty, greedy
        self.images: list[PromptedImage] = []
        self.prompted: Tensor
        """(B, 1, V), the tokens of the prompts of `images`."""

    def __call__(self, logprobs: Tensor, prefixes: Prefixes) -> Tensor:
        """Return log-probabilities (B, K, V) with the penalty."""
        if self.images is not self.state.memories:
            self.images = self.state.memories
            self.prompted = self._find_prompted(logprobs)
        counts = prefixes.arrays.count(prefixes.tokens, prefixes.valid(), logprobs.shape[-1])
        if self.greedy:
            logits = self.state.logits
            factor = torch.where(logits < 0, self.penalty - 1, 1 / self.penalty - 1)
            penalized = logprobs + logits * factor
        else:
            penalized = logprobs * self.penalty
        return torch.where((counts > 0) | self.prompted, penalized, logprobs)

    def _find_prompted(self, logprobs: Tensor) -> Tensor:
        """Return which tokens (B, 1, V) the prompts contain."""
        size = logprobs.shape[-1]
        prompted = torch.zeros(len(self.images), 1, size, dtype=torch.bool)
        for row, memory in enumerate(self.images):
            prompted[row, 0, [i for i in self.state.family.prompt_tokens(memory) if i < size]] = (
                True
            )
        return prompted.to(logprobs.device)
