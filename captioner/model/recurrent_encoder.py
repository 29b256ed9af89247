"""A recurrent question encoder: bidirectional LSTM or GRU layers over the decoder's embedding.

Sources: Hochreiter and Schmidhuber, Long short-term memory (1997); Cho et al., Learning phrase
representations using RNN encoder-decoder (2014), for the GRU; Schuster and Paliwal, Bidirectional
recurrent neural networks (1997).

Shapes: N questions, S tokens, D width, V vocabulary, G gates (4 of an LSTM, 3 of a GRU). Masks are
True at tokens and False at padding, which follows the tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from captioner.model.layers import Dropout, module_list

Cell = Literal["lstm", "gru"]
_GATES = {"lstm": 4, "gru": 3}


class RecurrentEncoder(nn.Module):
    """Bidirectional recurrent layers, each direction with half of the width.

    Raises:
        ValueError: The width is odd.
    """

    def __init__(self, cell: Cell, *, width: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width {width} is odd: a bidirectional layer has two halves")
        self.layernorm_embedding = nn.LayerNorm(width)
        sizes = {"width": width, "hidden": width // 2}
        self.forwards = module_list(_Direction(cell, **sizes) for _ in range(layers))
        self.backwards = module_list(_Direction(cell, **sizes) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def extend_positions(self, max_length: int) -> None:
        """Do nothing: a recurrent encoder has no positions and no longest question."""

    def forward(self, tokens: Tensor, mask: Tensor, embedding: nn.Embedding) -> Tensor:
        """Map ids (N, S) to states (N, S, D); the weight of `embedding` is (V, D)."""
        order = _reversed_order(mask)
        x = self.dropout(self.layernorm_embedding(embedding(tokens)))
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            reverse = order[..., None].expand(x.shape)
            half = order[..., None].expand(*x.shape[:2], x.shape[2] // 2)
            last_first = back(x.gather(1, reverse)).gather(1, half)
            x = self.dropout(torch.cat([ahead(x), last_first], -1))
        return self.norm(x)


class _Direction(nn.Module):
    """One recurrent layer in one direction.

    `nn.LSTM` caches a list of its weights, which an exported graph cannot replace by those of the
    weights file. The parameters have its names and its initialization.
    """

    def __init__(self, cell: Cell, *, width: int, hidden: int) -> None:
        super().__init__()
        self.cell, self.hidden = cell, hidden
        rows = _GATES[cell] * hidden
        self.weight_ih = nn.Parameter(torch.empty(rows, width))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, S, D) to the states (N, S, D/2), which do not depend on later positions."""
        weights: list[Tensor] = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        start = x.new_zeros(1, len(x), self.hidden)
        options = (True, 1, 0.0, False, False, True)  # biases, layers, dropout, ..., batch first
        if self.cell == "gru":
            states = torch.gru(x, start, weights, *options)[0]
        else:
            states = torch.lstm(x, [start, start], weights, *options)[0]
        # Without effect, except that states in an exported graph have any length S: torch.export
        # gives the output of recurrent layers the length of the example.
        return states.index_select(1, torch.arange(x.shape[1], device=x.device))


def _reversed_order(mask: Tensor) -> Tensor:
    """Return the positions (N, S) in reverse order of the tokens; padding stays in place."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - positions, positions)
