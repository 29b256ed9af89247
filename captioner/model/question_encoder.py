"""Question encoders: token ids to states that a fusion combines with an image.

Shapes: N questions, S tokens, C channels, D width, V vocabulary. Masks are True at tokens and
False at padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.model.layers import Dropout, EncoderLayer, extend_embedding, module_list


class QuestionEncoder(nn.Module):
    """Transformer layers over the decoder's token embedding and own position embeddings."""

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
        self.layers = module_list(EncoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.embed_positions.weight, std=0.02)

    def extend_positions(self, max_length: int) -> None:
        """Raise the maximum length; each new position starts as a copy of the last one."""
        self.embed_positions = extend_embedding(self.embed_positions, max_length)

    def forward(self, tokens: Tensor, mask: Tensor, embedding: nn.Embedding) -> Tensor:
        """Map ids (N, S) to states (N, S, D); the weight of `embedding` is (V, D)."""
        x = embedding(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        x = self.dropout(self.layernorm_embedding(x))
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class TextEncoder(nn.Module):
    """A Hugging Face text encoder with C channels, such as BERT, and a projection to width D.

    It returns `last_hidden_state` (N, S, C) for `input_ids` and `attention_mask`.
    """

    def __init__(self, model: nn.Module, *, channels: int, width: int) -> None:
        super().__init__()
        self.model = model
        self.projection = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)

    def extend_positions(self, max_length: int) -> None:
        """Check the maximum length, which the text encoder fixes.

        Raises:
            ValueError: `max_length` is more than the encoder's positions.
        """
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and max_length > limit:
            raise ValueError(f"the text encoder takes {limit} tokens at most")

    def forward(self, tokens: Tensor, mask: Tensor, embedding: nn.Embedding) -> Tensor:
        """Map ids (N, S) of the encoder's own tokenizer to states (N, S, D)."""
        states = self.model(input_ids=tokens, attention_mask=mask.to(torch.long))
        return self.norm(self.projection(states.last_hidden_state))
