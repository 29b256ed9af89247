"""A classifier of questions: the fused memory to logits over a closed set of answers.

Source: the softmax over the most frequent training answers of the VQA baseline (Antol et al. 2015).

Shapes: N questions, M positions of a fused memory, D width, A answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.layers import Dropout


class AnswerHead(nn.Module):
    """Pooling and a perceptron with one hidden layer.

    Args:
        answers: Token ids of each answer, EOS included.
        pool: Module from states (N, M, D) and their mask to (N, D).
        width: D.
        dropout: Dropout of the hidden layer.
    """

    def __init__(
        self, answers: Sequence[Sequence[int]], pool: nn.Module, *, width: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.answers: tuple[tuple[int, ...], ...] = tuple(map(tuple, answers))
        self.pool, self.dropout = pool, Dropout(dropout)
        self.hidden, self.output = nn.Linear(width, width), nn.Linear(width, len(answers))

    def forward(self, fused: Tensor, mask: Tensor | None) -> Tensor:
        """Map a fused memory (N, M, D) and its mask (N, M), or None, to logits (N, A)."""
        pooled = self.pool(fused, mask)
        logits: Tensor = self.output(self.dropout(F.gelu(self.hidden(pooled))))
        return logits
