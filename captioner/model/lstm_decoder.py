"""An LSTM decoder with soft attention: the decoder of Show, Attend and Tell.

Source: Xu et al. (2015), sections 3.1.2 and 4.2, with the gate on the context; attention is that of
Bahdanau et al. (2015). Logits come from a deep output layer (Pascanu et al., 2014) and the token
embedding. As in the Transformer decoder, the embedding and the output are normalized.

Shapes: B images, K rows per image, T tokens, P memory positions, D width, L layers, V vocabulary, M
tokens without padding. The state (B, K, 2 L, D) of a row holds the hidden states of the layers,
followed by their cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.model.decoder import Decoder
from captioner.model.layers import Dropout, module_list
from captioner.model.pooling import mean_pool


class SoftAttention(nn.Module):
    """Additive attention from a state to the memory (Bahdanau et al. 2015)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.memory = nn.Linear(width, width)
        self.state = nn.Linear(width, width, bias=False)
        self.score = nn.Parameter(torch.empty(width))
        nn.init.uniform_(self.score, -(width**-0.5), width**-0.5)

    def forward(
        self, state: Tensor, keys: Tensor, memory: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the attended memory (B, K, D) and the weights (B, K, P).

        Args:
            state: (B, K, D).
            keys: The projected memory, (B, P, D).
            memory: (B, P, D).
            mask: (B, P), False at ignored positions, or None.
        """
        hidden = (keys[:, None] + self.state(state)[:, :, None]).tanh()  # (B, K, P, D)
        scores = hidden @ self.score  # (B, K, P)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        return weights @ memory, weights


class LSTMCell(nn.Module):
    """An LSTM cell as one linear layer (Xu et al. 2015, equation 1); forget gates start open."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + width, 4 * width)
        with torch.no_grad():
            # Jozefowicz et al., An empirical exploration of recurrent network architectures, 2015.
            self.gates.bias[width : 2 * width] = 1

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next hidden state and cell (..., D) after an input x (..., inputs)."""
        write, forget, value, read = self.gates(torch.cat([x, hidden], -1)).chunk(4, -1)
        cell = forget.sigmoid() * cell + write.sigmoid() * value.tanh()
        return read.sigmoid() * cell.tanh(), cell


class RecurrentCache:
    """The states (B, K, 2 L, D) of the rows, and the memory that they attend to.

    Args:
        state: The initial states.
        keys: The projected memory (B, P, D).
        memory: (B, P, D).
        mask: (B, P), False at ignored positions, or None.
    """

    def __init__(self, state: Tensor, keys: Tensor, memory: Tensor, mask: Tensor | None) -> None:
        self.state, self.keys, self.memory, self.mask = state, keys, memory, mask

    def reorder(self, rows: Tensor) -> None:
        """Let row i, counted over B * K, continue row `rows[i]`; drop images without rows."""
        count = self.state.shape[1]
        images = rows[::count] // count
        self.state = self.state.flatten(0, 1)[rows].unflatten(0, (-1, count))
        if len(images) < len(self.memory):
            self.keys, self.memory = self.keys[images], self.memory[images]
            self.mask = None if self.mask is None else self.mask[images]

    def replace(self, state: Tensor, keys: Tensor, memory: Tensor, places: Tensor) -> None:
        """Put other images (n, ...), unmasked, in these places (n,)."""
        self.state = self.state.index_copy(0, places, state.expand(-1, self.state.shape[1], -1, -1))
        self.keys = self.keys.index_copy(0, places, keys)
        self.memory = self.memory.index_copy(0, places, memory)
        if self.mask is not None:
            self.mask = self.mask.index_fill(0, places, value=True)


class LSTMDecoder(Decoder):
    """LSTM layers whose first one reads the token and the attended memory.

    The state of the last layer determines the attention. `max_length` is a limit for callers: the
    decoder has no positions.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        width: int,
        layers: int,
        max_length: int,
        pad: int,
        dropout: float = 0.0,
        embed_tokens: nn.Embedding | None = None,
    ) -> None:
        super().__init__(
            vocab_size, width=width, max_length=max_length, pad=pad, embed_tokens=embed_tokens
        )
        self.layernorm_embedding = nn.LayerNorm(width)
        self.initial = nn.Linear(width, 2 * layers * width)
        self.soft_attention = SoftAttention(width)
        self.context_gate = nn.Linear(width, width)
        inputs = [2 * width, *[width] * (layers - 1)]
        self.cells = module_list(LSTMCell(size, width) for size in inputs)
        self.output = nn.Linear(2 * width, width)
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self._init_embedding()

    def extend_positions(self, max_length: int) -> None:
        """Raise the maximum length."""
        self.max_length = max_length

    def forward(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logits (M, V) at tokens (B, K, T); see `Decoder.forward`."""
        return self.logits(self._run(memory, tokens, mask)[0][tokens != self.pad])

    @torch.no_grad()
    def attention(self, memory: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the weights of the memory, (B, K, T, P); see `Decoder.attention`."""
        weights = self._run(memory, tokens, mask)[1]
        return weights.masked_fill((tokens == self.pad)[..., None], 0)

    def _run(self, memory: Tensor, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return outputs (B, K, T, D) and attention (B, K, T, P), arbitrary at padding."""
        images, rows, length = tokens.shape
        cache = self.start(memory, images * rows, length, mask)
        outputs, weights = [], []
        for x in self.embed(tokens).unbind(2):
            output, cache.state, shares = self.advance(x, cache.state, cache.keys, memory, mask)
            outputs.append(output)
            weights.append(shares)
        return torch.stack(outputs, 2), torch.stack(weights, 2)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed token ids of any shape, (...) to (..., D)."""
        return self.dropout(self.layernorm_embedding(self.embed_tokens(tokens)))

    def advance(
        self, x: Tensor, state: Tensor, keys: Tensor, memory: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read one more token of each row.

        Args:
            x: The embedded tokens (B, K, D).
            state: (B, K, 2 L, D).
            keys: The projected memory (B, P, D).
            memory: (B, P, D).
            mask: (B, P), False at ignored positions, or None.

        Returns:
            The output (B, K, D), which `logits` maps to those of the next token; the next state;
            and the attention (B, K, P).
        """
        hidden, cells = (part.unbind(2) for part in state.chunk(2, 2))
        context, weights = self.soft_attention(hidden[-1], keys, memory, mask)
        context = self.context_gate(hidden[-1]).sigmoid() * context
        y, states = torch.cat([x, context], -1), []
        for layer, h, c in zip(self.cells, hidden, cells, strict=True):
            states.append(layer(y, h, c))
            y = self.dropout(states[-1][0])
        new = torch.stack([*(h for h, _ in states), *(c for _, c in states)], 2)
        return x + self.output(torch.cat([y, context], -1)), new, weights

    def begin(self, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the initial state (B, 1, 2 L, D), of the mean memory, and the keys (B, P, D)."""
        state = (
            self.initial(mean_pool(memory, mask)).tanh().unflatten(-1, (2 * len(self.cells), -1))
        )
        return state[:, None], self.soft_attention.memory(memory)

    def start(
        self, memory: Tensor, rows: int, length: int, mask: Tensor | None = None
    ) -> RecurrentCache:
        """Return the cache of a search; see `Decoder.start`. It has space for any `length`."""
        state, keys = self.begin(memory, mask)
        return RecurrentCache(state.expand(-1, rows // len(memory), -1, -1), keys, memory, mask)

    def admit(self, memory: Tensor, cache: RecurrentCache, places: Tensor) -> None:
        """Put other images, with memory (n, P, D), in these places (n,) of the cache."""
        cache.replace(*self.begin(memory, None), memory, places)

    def step(self, tokens: Tensor, cache: RecurrentCache) -> Tensor:
        """Return the logits (B, K, V) after the last token of each row, tokens (B, K)."""
        output, cache.state, _ = self.advance(
            self.embed(tokens), cache.state, cache.keys, cache.memory, cache.mask
        )
        return self.logits(output)
