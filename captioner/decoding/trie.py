"""Closed answer sets: a search that can find nothing but the members of a set of sequences.

Shapes: B images, K beams, N rows (B * K), V vocabulary, E edges of the trie, A allowed tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captioner.decoding.beam import Reorder
from captioner.decoding.rules import NEVER
from captioner.decoding.search import Step


class Trie:
    """Token sequences as a tree in flat tensors, built once and read by any number of searches.

    Every sequence ends in EOS and holds it nowhere else, so one may be the beginning of another;
    equal ones count once, and `len` is how many there are. A node is a number, 0 the root. Its
    edges lie side by side, sorted by token. The node `end`, where every sequence ends, has one
    edge, EOS to itself, so that no node is without a continuation.

    Raises ValueError for an empty set and for a sequence that is not as described.
    """

    longest: int
    """Tokens of the longest member, EOS included: a search cut before it finds no members."""

    def __init__(self, sequences: Iterable[Sequence[int]], *, eos: int) -> None:
        members = {tuple(sequence) for sequence in sequences}
        if not members:
            raise ValueError("a trie of no sequences: nothing could ever be found in it")
        for member in members:
            if member.count(eos) != 1 or member[-1] != eos:
                raise ValueError(f"{list(member)}: expected tokens that end in the one EOS, {eos}")
            if min(member) < 0:
                raise ValueError(f"{list(member)}: a token cannot be negative")

        self._count, self.longest = len(members), max(map(len, members))
        prefixes = {member[:n] for member in members for n in range(1, len(member) + 1)}
        inner = sorted({prefix[:-1] for prefix in prefixes})
        number = {prefix: node for node, prefix in enumerate(inner)}
        self.end = len(inner)
        edges = [(number[p[:-1]], p[-1], number.get(p, self.end)) for p in prefixes]
        parent, token, child = torch.tensor([*edges, (self.end, eos, self.end)]).T
        self.width = int(token.max()) + 1
        self.keys, order = (parent * self.width + token).sort()  # (E,), one number an edge
        self.tokens, self.children = token[order], child[order]
        self.counts = torch.bincount(parent)
        self.first = self.counts.cumsum(0) - self.counts

    def __len__(self) -> int:
        return self._count

    def to(self, device: torch.device | str) -> Trie:
        """The same trie on a device; itself if it is there."""
        if self.keys.device == torch.device(device):
            return self
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def next_nodes(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The nodes (N,) that tokens (N,) lead to; `end` for a token that is not allowed."""
        keys = nodes * self.width + tokens
        edge = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        # A token beyond the width would have the key of another node's edge.
        there = (self.keys[edge] == keys) & (tokens < self.width)
        return self.children[edge].where(there, self.end)

    def allowed(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """What may follow nodes (N,): pairs of a row and a token, (A,) and (A,), rows in order."""
        counts = self.counts[nodes]
        rows = torch.arange(len(nodes), device=nodes.device).repeat_interleave(counts)
        shift = self.first[nodes] - (counts.cumsum(0) - counts)
        return rows, self.tokens[torch.arange(len(rows), device=rows.device) + shift[rows]]


def constrain_to_trie(step: Step, reorder: Reorder, trie: Trie) -> tuple[Step, Reorder]:
    """`step` and `reorder` of one search that finds members of the trie and nothing else.

    The logits of all other tokens become -inf, so the probabilities that a search makes of them
    are renormalised over what may follow, and those of all members sum to 1. Where the model
    itself gives -inf to all that may follow, each is as likely as another. A row that has ended,
    or that continues no member (a dead beam), is offered EOS alone. Search up to `trie.longest`
    tokens: a lower maximum cuts members short.

    Raises ValueError at the first step if the trie has tokens that the vocabulary has not.
    Source of the method: De Cao et al., Autoregressive Entity Retrieval (ICLR 2021), section 3.1.
    """
    nodes: Tensor | None = None

    def constrained(tokens: Tensor) -> Tensor:
        nonlocal nodes, trie
        logits = step(tokens)  # (B, K, V)
        if nodes is None:  # the tokens are BOS
            if trie.width > logits.shape[-1]:
                raise ValueError(
                    f"the trie has the token {trie.width - 1}, the model {logits.shape[-1]} tokens"
                )
            trie = trie.to(tokens.device)
            nodes = torch.zeros_like(tokens.flatten(), dtype=torch.long)
        else:
            nodes = trie.next_nodes(nodes, tokens.flatten())
        rows, columns = trie.allowed(nodes)
        flat = logits.flatten(0, 1)  # (N, V)
        offered = flat[rows, columns]
        # A row of -inf alone would be NaN after a softmax.
        best = offered.new_full((len(flat),), NEVER).scatter_reduce(0, rows, offered, "amax")
        offered = offered.masked_fill((best == NEVER)[rows], 0.0)
        masked = torch.full_like(flat, NEVER)
        masked[rows, columns] = offered
        return masked.view_as(logits)

    def reordered(rows: Tensor) -> None:
        nonlocal nodes
        reorder(rows)
        nodes = nodes[rows]

    return constrained, reordered
