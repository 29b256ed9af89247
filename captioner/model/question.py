"""Questions to states that can meet an image.

Shapes: N questions, S tokens, D width, V vocabulary. Masks are True at tokens, False at padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.model.layers import Dropout, EncoderLayer, extend_embedding


class QuestionEncoder(nn.Module):
    """The decoder's token embedding, positions of its own, and Transformer layers."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        ffn: int,
        layers: int,
        max_length: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_positions = nn.Embedding(max_length, width)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.embed_positions.weight, std=0.02)

    def extend_positions(self, max_length: int) -> None:
        """Raise the limit of a question to so many tokens; new positions begin as the last one."""
        self.embed_positions = extend_embedding(self.embed_positions, max_length)

    def forward(self, tokens: Tensor, mask: Tensor, embedding: nn.Embedding) -> Tensor:
        """Ids (N, S) to states (N, S, D); `embedding` is (V, D)."""
        x = embedding(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        x = self.dropout(self.layernorm_embedding(x))
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class TextEncoder(nn.Module):
    """A Hugging Face text encoder, such as BERT, and a projection to the model's width.

    `model` gives `last_hidden_state` (N, S, C) from `input_ids` and `attention_mask`; its
    tokenizer is its own.
    """

    def __init__(self, model: nn.Module, *, channels: int, width: int) -> None:
        super().__init__()
        self.model = model
        self.projection = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)

    def extend_positions(self, max_length: int) -> None:
        """Raise ValueError where the encoder does not take questions of so many tokens."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and max_length > limit:
            raise ValueError(f"its text encoder takes {limit} tokens at most")

    def forward(self, tokens: Tensor, mask: Tensor, embedding: nn.Embedding) -> Tensor:
        """Ids (N, S) of the encoder's own tokenizer to states (N, S, D)."""
        states = self.model(input_ids=tokens, attention_mask=mask.to(torch.long))
        return self.norm(self.projection(states.last_hidden_state))
